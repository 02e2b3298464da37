"""Other engines read the tables as they are, from processes that know nothing of this package."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
from support.lake_rows import MONDAY, replaced

from features.lake.snapshot import snapshot
from features.places import is_local, uri
from features.schema import DAY

pytestmark = pytest.mark.process
READ = textwrap.dedent(
    """
    import json, os, sys
    sys.modules["features"] = None
    table = sys.argv[1]
    options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    import deltalake, polars
    found = {}
    delta = deltalake.DeltaTable(table)
    rows = delta.to_pyarrow_table().sort_by([("day", "ascending"), ("id", "ascending")])
    found["deltalake"] = [list(map(str, row.values())) for row in rows.to_pylist()]
    read = polars.scan_delta(table, storage_options=options or None).sort("day", "id").collect()
    found["polars"] = [list(map(str, row)) for row in read.rows()]
    if not table.startswith("s3:"):
        import duckdb, duckdb_extension_delta, pathlib
        home = pathlib.Path(duckdb_extension_delta.__file__).parent
        (file,) = home.rglob("delta.duckdb_extension")
        duckdb.execute(f"LOAD '{file}'")
        rows = duckdb.execute(f"SELECT id, who, day FROM delta_scan('{table}') ORDER BY day, id")
        found["duckdb"] = [list(map(str, row)) for row in rows.fetchall()]
    print(json.dumps(found))
    """
)


def test_each_engine_reads_the_newest_version(anywhere):
    """With superseded files in the folders, which only the log tells from live ones."""
    root = anywhere / "table"
    tuesday = MONDAY.replace(day=7)
    replaced(root, MONDAY, tuesday, who="before", rows=3)
    replaced(root, MONDAY, who="after", rows=1)
    read = subprocess.run(
        [sys.executable, "-I", "-c", READ, uri(root)],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "AWS_ALLOW_HTTP": "true"},
    )
    # DuckDB shows its progress before, where the machine is slow.
    found = json.loads(read.stdout.splitlines()[-1])
    ours = [
        [str(row["id"]), row["who"], str(day)]
        for day in snapshot(root).days
        for row in snapshot(root).read(day).to_pylist()
    ]
    assert ours == [
        ["0", "after", "2025-01-06"],
        *([str(n), "before", "2025-01-07"] for n in range(3)),
    ]
    engines = ["deltalake", "polars", *(["duckdb"] if is_local(root) else [])]
    assert found == dict.fromkeys(engines, ours)
    assert DAY in snapshot(root).schema_json
