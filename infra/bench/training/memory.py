"""``make bench-stream``: one pass over days that do not fit memory, and the memory that it takes.

A generated day is written again and again, with new example ids, until a day has 2 and 20 million
rows; the same training reads both. Its memory is bounded by the buffer in which rows are shuffled.
"""

import datetime
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.lake.day_file import replace_day
from features.lake.snapshot import snapshot
from features.places import Place, place
from features.schema import EXAMPLE_ID
from infra.bench.jobs import prepare_examples, run_job
from infra.demo.memory import MemorySampler
from infra.local.settings import REPOSITORY

DATASET, DAY = "synthetic", "2025-01-01"
SIZES = ("--rows=100000", "--users=2000", "--items=1000", "--days=1")
MILLIONS = (2, 20)
ROW_GROUP = 65_536
FOLDER = REPOSITORY / "var" / "stream"


def main() -> None:
    """Write the days, train on each, print a table and one JSON object."""
    source = prepare_examples(DATASET, FOLDER, last=DAY, sizes=SIZES)
    made, day = snapshot(place(source / DATASET / "examples")), datetime.date.fromisoformat(DAY)
    base, fingerprint = made.read(day), made.partition(day).fingerprint
    found = {}
    for millions in MILLIONS:
        rows = millions * 1_000_000
        lake = FOLDER / f"lake-{millions}"
        table = place(lake / DATASET / "examples")
        write_day(base, table, day, rows, numbered={EXAMPLE_ID: 1}, fingerprint=fingerprint)
        found[rows] = train(lake, FOLDER / f"run-{millions}-{time.time_ns()}", rows)
        sys.stderr.write(
            f"{rows:>12,} rows: {found[rows]['peak_memory_mb']:,} MB, "
            f"{found[rows]['rows_per_second']:,.0f} rows/s with start-up\n"
        )
    small, large = (found[millions * 1_000_000]["peak_memory_mb"] for millions in MILLIONS)
    sys.stdout.write(json.dumps({**found, "memory_ratio": large / small}) + "\n")


def write_day(
    base: pa.Table,
    table: Place,
    day: datetime.date,
    rows: int,
    *,
    numbered: Mapping[str, int],
    fingerprint: str,
) -> None:
    """Write a day of this many rows, which repeat ``base``.

    Args:
        base: Rows.
        table: Folder of the table.
        day: The day.
        rows: How many.
        numbered: Columns that do not repeat: by name, how many rows in turn have one number.
        fingerprint: Of the schema.
    """
    parts = (_part(base, start, rows, numbered) for start in range(0, rows, len(base)))
    replace_day(table, day, parts, fingerprint=fingerprint, row_group_rows=ROW_GROUP)


def _part(base: pa.Table, start: int, rows: int, numbered: Mapping[str, int]) -> pa.Table:
    part = base.slice(0, min(len(base), rows - start))
    ids = np.arange(start, start + len(part))
    for name, each in numbered.items():
        index = base.schema.get_field_index(name)
        values = pa.array(ids // each, base.schema.field(name).type)
        part = part.set_column(index, name, values)
    return part


def train(lake: Path, folder: Path, rows: int) -> dict[str, float]:
    """One pass on two ranks; its memory is that of all processes."""
    flags = (f"--{name}={folder / name}" for name in ("checkpoints", "tracking", "reports"))
    started = time.monotonic()
    sampler = MemorySampler()
    with sampler.running():
        run_job(
            *("training", "train", f"--dataset={DATASET}", f"--lake={lake}", f"--date={DAY}"),
            *("--recipe=wukong-tiny", "--epochs=1", "--batch-size=8192", "--holdout-days=0"),
            *flags,
        )
    seconds = time.monotonic() - started
    return {
        "peak_memory_mb": sampler.peak_mb,
        "seconds": round(seconds, 1),
        "rows_per_second": rows / seconds,
    }


if __name__ == "__main__":
    main()
