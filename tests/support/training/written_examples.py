"""A table of random examples, a file a day, with row groups of a chosen size; no log, no Spark."""

import datetime
from pathlib import Path

from support.training.artifacts import random_rows

from features.datasets.catalog import schema_of
from features.lake.day_file import replace_day
from features.places import place
from features.schema import Schema
from features.schema.fingerprints import rows_fingerprint
from training.data.dataset import TABLE, ExampleTable

SCHEMA = schema_of("synthetic")
DAY_OF_ROWS = datetime.date(2025, 1, 1)


def written_examples(
    lake: Path, *, num_rows: int, row_group: int, days: int = 1, schema: Schema = SCHEMA
) -> ExampleTable:
    """Days of so many rows each; example ids count from 0 through all of them."""
    rows, fingerprint = random_rows(schema, days * num_rows), rows_fingerprint(schema)
    table = place(lake) / schema.name / TABLE
    for index in range(days):
        day = DAY_OF_ROWS + datetime.timedelta(days=index)
        of_day = rows.slice(index * num_rows, num_rows)
        replace_day(table, day, [of_day], fingerprint=fingerprint, row_group_rows=row_group)
    return ExampleTable(place(lake), schema)


def days_of(table: ExampleTable) -> list[datetime.date]:
    """All days of a table."""
    return table.days(datetime.date.min, datetime.date.max)
