"""A log of answers of random rows, days of it written at once; no server."""

import datetime
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from support.training.artifacts import random_rows

from features.places import Place, uri
from features.prediction_log.columns import HOUR, PARTITIONS, arrow_schema, status_column
from features.prediction_log.table import table_root
from features.schema import DAY, REQUEST_TIME, Schema

CANDIDATES = 10
"""Of each answer."""


def answers(
    schema: Schema, count: int, *, day: datetime.date, seed: int = 0, **values: object
) -> pa.Table:
    """So many candidates, as the log has them, with its partitions.

    Args:
        schema: The data set's schema.
        count: Rows.
        day: When they were answered, in its first hour.
        seed: Of their values.
        values: Columns of the log that are otherwise, each one value or one for each row.
    """
    rows = random_rows(schema, count, seed=seed)
    found = {name: rows.column(name) for name in rows.column_names}
    for table in schema.tables:
        is_there = np.array(rows.column(table.timestamp_column).is_valid())
        found[status_column(table)] = np.where(is_there, "usable", "unknown").tolist()
        found[table.created_column] = rows.column(table.timestamp_column)
    random = np.random.default_rng(seed)
    given: dict[str, object] = {
        "answer_id": [f"{day}-{seed}-{row // CANDIDATES}" for row in range(count)],
        "answered_at": datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC),
        "schema_fingerprint": schema.fingerprint(),
        "model_version": "v1",
        "role": "champion",
        "inclusion_probability": 1.0,
        "score": random.random(count).astype(np.float32),
        REQUEST_TIME.name: rows.column(REQUEST_TIME.name),
    }
    found |= {**given, **values}
    columns = [_column(field, found.get(field.name), count) for field in arrow_schema(schema)]
    made = pa.table(columns, schema=arrow_schema(schema))
    made = made.append_column(DAY, pa.array([day] * count, pa.date32()))
    return made.append_column(HOUR, pa.array([0] * count, pa.int32()))


def write_log(folder: Place, schema: Schema, days: Sequence[pa.Table]) -> None:
    """Append days to a log, in one commit."""
    rows = pa.concat_tables(days)
    target = uri(table_root(folder, schema.name))
    write_deltalake(target, rows, mode="append", partition_by=list(PARTITIONS))


def _column(field: pa.Field, value: object, count: int) -> pa.Array:
    if isinstance(value, pa.ChunkedArray):
        return value.combine_chunks().cast(field.type)
    if isinstance(value, list | np.ndarray):
        return pa.array(value, field.type)
    return pa.array([value] * count, field.type)
