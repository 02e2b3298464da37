"""A table of random examples in one file, with row groups of a chosen size; no log and no Spark."""

import datetime
import json
from pathlib import Path

import pyarrow.parquet as pq
from support.training.artifacts import random_rows

from features.datasets.catalog import schema_of
from features.schema import DAY
from features.schema.fingerprints import rows_fingerprint
from training.data.dataset import TABLE, ExampleTable

SCHEMA = schema_of("synthetic")
DAY_OF_ROWS = datetime.date(2025, 1, 1)


def written_examples(lake: Path, *, num_rows: int, row_group: int, days: int = 1) -> ExampleTable:
    """Days of so many rows each; example ids count from 0 through all of them."""
    rows = random_rows(SCHEMA, days * num_rows)
    for index in range(days):
        day = DAY_OF_ROWS + datetime.timedelta(days=index)
        folder = lake / SCHEMA.name / TABLE / f"{DAY}={day}"
        folder.mkdir(parents=True)
        of_day = rows.slice(index * num_rows, num_rows)
        pq.write_table(of_day, folder / "part-0.parquet", row_group_size=row_group)
        manifest = {"content_hash": str(day), "fingerprint": rows_fingerprint(SCHEMA)}
        (folder / "_manifest.json").write_text(json.dumps(manifest))
    return ExampleTable(lake, SCHEMA)


def days_of(table: ExampleTable) -> list[datetime.date]:
    """All days of a table."""
    return table.days(datetime.date.min, datetime.date.max)
