"""Reader and sensor say the same of a table: whether it has come as far as a day."""

import ast
import datetime
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from ranking_landing import tables
from ranking_settings import logs as ranking_logs

from features.datasets.landed_format import LandedFormat
from features.datasets.landed_table import LandedTable
from features.datasets.schema_files.build import read_data_set
from features.places import place, uri
from features.runbooks import RunbookError
from features.spark import table_versions

UTC = datetime.UTC
ONE = datetime.timedelta(days=1)
DAY = datetime.date(2025, 3, 2)
MOMENT = datetime.datetime(2025, 3, 1, 23, 59, 59, 999_000, tzinfo=UTC)
SCHEMA = """\
name: shop
doc: Visits.
licence: ours
first_day: 2025-03-01
holdout_days: 1
epoch: 2024-01-01
item: {name: item_id, type: int64, kind: sparse, num_ids: 100, doc: The article.}
stored: {bought: {type: int64, doc: Whether it was bought.}}
labels:
  sale: {column: bought, positive_from: 1, delay: 1h}
target: sale
tables: [{kind: item_daily, windows_days: [7], ttl: 7d, delay: 2h}]
limits:
  min_positive_rate: 0
  max_positive_rate: 1
  min_share_of_trailing_rows: 0
  max_times_trailing_rows: 5
source: {format: FORMAT, path: PATH, time: {column: at UNIT} MORE}
"""


def delta(folder, rows, partition):
    write_deltalake(folder, rows, partition_by=[partition] if partition else None)


def iceberg(folder, rows, partition):
    folder.mkdir(parents=True)
    catalog = SqlCatalog("x", uri=f"sqlite:///{folder}/x.db", warehouse=f"file://{folder}")
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.visits", rows.schema, location=str(folder))
    if partition:
        with table.update_spec() as spec:
            spec.add_identity(partition)
    if len(rows):
        table.append(rows)


def answers(folder, form, unit="", partition=""):
    """Whether the day has landed: by the sensor, and by the reader."""
    text = SCHEMA.replace("FORMAT", form).replace("PATH", str(folder / "visits"))
    text = text.replace(" UNIT", f", unit: {unit}" if unit else "")
    text = text.replace(" MORE", f", partition: {partition}" if partition else "")
    (folder / "shop.yaml").write_text(text)
    found, log = read_data_set(folder / "shop.yaml"), ranking_logs.log_of("shop", [folder])
    table = LandedTable(LandedFormat(found.schema, found.source), place(folder), {})
    try:
        by_reader = table.has_landed(DAY)
    except RunbookError:
        by_reader = False
    return tables.has_rows_since(place(log.source["path"]), DAY, log.source), by_reader


def rows_at(moments, unit=""):
    numbers = {"seconds": 1, "milliseconds": 1_000}
    values = (
        pa.array([int(at.timestamp() * numbers[unit]) for at in moments], pa.int64())
        if unit
        else pa.array(moments, pa.timestamp("us", tz="UTC"))
    )
    dates = [at.date() for at in moments]
    texts = pa.array(map(str, dates), pa.string())
    days = pa.array(dates, pa.date32())
    return pa.table({"at": values, "day": days, "text": texts, "n": values})


@pytest.mark.parametrize("write", [delta, iceberg])
@pytest.mark.parametrize("unit", ["", "seconds", "milliseconds"])
@pytest.mark.parametrize("partition", ["", "day", "text"])
@pytest.mark.parametrize(
    ("moments", "landed"),
    [
        ([MOMENT], False),
        ([MOMENT, MOMENT + datetime.timedelta(hours=5)], True),
        ([MOMENT + datetime.timedelta(days=9)], True),
    ],
)
def test_a_day_has_landed_when_there_are_rows_of_it_or_of_a_later_one(
    tmp_path, write, unit, partition, moments, landed
):
    write(tmp_path / "visits", rows_at(moments, unit), partition)
    assert answers(tmp_path, write.__name__, unit, partition) == (landed, landed)


@pytest.mark.parametrize("partition", ["", "day"])
def test_rows_without_a_moment_or_a_partition_are_of_no_day(tmp_path, partition):
    rows = rows_at([MOMENT])
    nulls = pa.table(
        {name: pa.nulls(1, rows.schema.field(name).type) for name in rows.schema.names}
    )
    for part in (rows, nulls):
        write_deltalake(
            tmp_path / "visits",
            part,
            mode="append",
            partition_by=[partition] if partition else None,
        )
    assert answers(tmp_path, "delta", "", partition) == (False, False)


def test_integers_without_a_unit_are_an_error_that_names_the_key(tmp_path):
    delta(tmp_path / "visits", rows_at([MOMENT], "seconds"), "")
    source = {"format": "delta", "partition": "", "column": "at", "unit": ""}
    with pytest.raises(ValueError, match=r"source.time.unit '': .* one of \['seconds'"):
        tables.has_rows_since(place(tmp_path / "visits"), DAY, source)


@pytest.mark.parametrize("form", ["delta", "iceberg"])
def test_a_table_that_is_not_there_or_empty_has_no_day(tmp_path, form):
    assert answers(tmp_path, form) == (False, False)
    {"delta": delta, "iceberg": iceberg}[form](tmp_path / "visits", rows_at([]), "")
    assert answers(tmp_path, form) == (False, False)


def test_a_table_without_statistics_of_the_time_may_have_any_day(tmp_path):
    rows = rows_at([MOMENT])
    configuration = {"delta.dataSkippingNumIndexedCols": "0"}
    write_deltalake(tmp_path / "visits", rows, configuration=configuration)
    assert answers(tmp_path, "delta") == (True, True)


ALONE = """\
import sys, datetime
sys.modules |= dict.fromkeys(("pyarrow", "pandas", "numpy"))
sys.path.insert(0, sys.argv[1])
from ranking_landing import tables
from upath import UPath
source = {"format": sys.argv[3], "partition": "", "column": "at", "unit": ""}
for day in (1, 2):
    print(tables.has_rows_since(UPath(sys.argv[2]), datetime.date(2025, 3, day), source))
"""


@pytest.mark.process
@pytest.mark.parametrize("write", [delta, iceberg])
def test_a_table_is_looked_at_with_what_the_image_of_airflow_has(tmp_path, write):
    write(tmp_path / "visits", rows_at([MOMENT]), "")
    dags = str(Path(tables.__file__).parents[1])
    command = [sys.executable, "-c", ALONE, dags, str(tmp_path / "visits"), write.__name__]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "False"], done.stderr


@pytest.mark.parametrize("form", ["delta", "iceberg"])
def test_a_table_is_read_and_looked_at_wherever_it_lies(assets, anywhere, tmp_path, form):
    """On a disk and in an object store, whose address is a variable of AWS."""
    where, rows = anywhere / "visits", rows_at([MOMENT])
    if form == "delta":
        write_deltalake(uri(where), rows)
    else:
        database = f"sqlite:///{tmp_path}/x.db"
        catalog = SqlCatalog("x", uri=database, **table_versions._io_properties())
        catalog.create_namespace("shop")
        catalog.create_table("shop.visits", rows.schema, location=uri(where)).append(rows)
    source = {"format": form, "partition": "", "column": "at", "unit": ""}
    days, io = [MOMENT.date(), MOMENT.date() + ONE], assets.table_io()
    found = [tables.has_rows_since(where, day, source, io) for day in days]
    assert found == [True, False]
    version = table_versions.open_version(form, where)
    (file,) = version.files("at", MOMENT, None)
    (batch,) = table_versions.open_version(form, where, version.version).batches(
        file, ["day", "at"]
    )
    assert batch.column("at").to_pylist() == [MOMENT]
    assert table_versions.place_of_file(where, file).exists()


@pytest.mark.parametrize("module", ["files.py", "tables.py"])
def test_a_look_imports_what_reads_a_format_only_where_there_is_a_table_of_it(module):
    tree = ast.parse(Path(tables.__file__).with_name(module).read_text())
    at_once = [one for one in tree.body if isinstance(one, ast.Import | ast.ImportFrom)]
    names = {
        one.module if isinstance(one, ast.ImportFrom) else one.names[0].name for one in at_once
    }
    assert {name.partition(".")[0] for name in names} <= {"upath", *sys.stdlib_module_names}
