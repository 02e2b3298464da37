"""A small lake and the log of an endpoint that served what it should have; tests spoil either.

What was served is found row by row from the rows of the lake, by the definition of the as-of join:
not by the code under test.
"""

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from support.serving.stand_ins import NOON, SCHEMA

from features.lake.day_file import replace_day
from features.lake.lake import Lake
from features.online_store.codec import ARROW_TYPES, STAMP
from features.prediction_log.columns import HOUR, arrow_schema, status_column
from features.prediction_log.table import LogTable
from features.schema import CREATED, DAY, EVENT_TIMESTAMP, FeatureTable, Schema, TableKind

DATE = NOON.date()
ONE_DAY = datetime.timedelta(days=1)
HOUR_LONG = datetime.timedelta(hours=1)
MOMENT = datetime.timedelta(microseconds=1)
EPOCH_DAY = datetime.date(2024, 1, 1)
MIDNIGHT = NOON - 12 * HOUR_LONG
Row = dict[str, Any]
STATE, DAILY, ATTRIBUTES = SCHEMA.tables


def lake_row(
    table: FeatureTable, key: Any, event: datetime.datetime, number: int, **own: Any
) -> Row:
    """A row whose values are made of a number, which counts as declared."""
    values = {
        "int64": number,
        "float64": number / 8,
        "string": "a",
        "list<int64>": [number % 2, 1],
        "list<string>": ["a", "b"],
    }
    return {
        SCHEMA.key_of(table).name: key,
        EVENT_TIMESTAMP: event,
        CREATED: event + table.delay,
        **{column.name: values[column.dtype] for column in table.columns},
        **own,
    }


def good_lake() -> dict[str, dict[datetime.date, list[Row]]]:
    """Rows by table and day: users 7 and 8, items a to c; user 8 is new at eleven o'clock."""
    before = DATE - ONE_DAY
    first = datetime.datetime.combine(EPOCH_DAY, datetime.time(), datetime.UTC)
    return {
        "user_state": {
            before: [lake_row(STATE, 7, MIDNIGHT - 14 * HOUR_LONG, 1)],
            DATE: [
                lake_row(STATE, 7, MIDNIGHT + 9 * HOUR_LONG, 2),
                lake_row(STATE, 8, MIDNIGHT + 11 * HOUR_LONG, 3),
                lake_row(STATE, 7, MIDNIGHT + 13 * HOUR_LONG, 4),
            ],
        },
        "item_daily": {
            day: [
                lake_row(DAILY, item, MIDNIGHT + (1 + n) * ONE_DAY, 10 * (n + 3) + place)
                for place, item in enumerate("abc")
            ]
            for n, day in ((n, DATE + n * ONE_DAY) for n in (-2, -1, 0))
        },
        "item_attributes": {
            EPOCH_DAY: [
                lake_row(ATTRIBUTES, item, first, place) for place, item in enumerate("abc")
            ]
        },
    }


def write_lake(
    folder: Path, rows: dict[str, dict[datetime.date, list[Row]]], schema: Schema = SCHEMA
) -> Lake:
    """Replace these days of these tables."""
    for table in schema.tables:
        key = schema.key_of(table)
        kinds = [(key.name, ARROW_TYPES[key.dtype]), (EVENT_TIMESTAMP, STAMP), (CREATED, STAMP)]
        kinds += [(column.name, ARROW_TYPES[column.dtype]) for column in table.columns]
        for day, of_day in rows.get(table.name, {}).items():
            content = pa.Table.from_pylist(of_day, schema=pa.schema(kinds))
            replace_day(folder / schema.name / table.name, day, [content])
    return Lake(folder, schema.name)


def newest_visible(rows: list[Row], table: FeatureTable, key: Any, time: datetime.datetime) -> Any:
    """The row that the as-of join takes, expired or not; None where there is none."""
    visible = [
        row
        for row in rows
        if row[SCHEMA.key_of(table).name] == key and max(row[EVENT_TIMESTAMP], row[CREATED]) <= time
    ]
    return max(visible, key=lambda row: (row[EVENT_TIMESTAMP], row[CREATED]), default=None)


def serve(logged: Row, table: FeatureTable, row: Row | None, status: str = "") -> None:
    """Let a candidate have been served a row of a table."""
    names = [column.name for column in table.columns]
    if not status:
        is_old = row and table.ttl and logged["timestamp"] - row[EVENT_TIMESTAMP] > table.ttl
        status = "unknown" if row is None else "expired" if is_old else "usable"
    logged |= {name: row and row[name] for name in names}
    logged[table.timestamp_column] = row and row[EVENT_TIMESTAMP]
    logged[table.created_column] = row and row[CREATED]
    logged[status_column(table)] = status


def answer(name: str, user: int, items: str, time: datetime.datetime, **own: Any) -> list[Row]:
    """A row of the log for each candidate of an answer, without what was read."""
    common = {
        "answer_id": name,
        "request_id": name,
        "answered_at": time + 2 * MOMENT,
        "format_version": 1,
        "schema_fingerprint": SCHEMA.fingerprint(),
        "model_version": "v",
        "role": "champion",
        "arm": "stable",
        "stratum": "sampled",
        "inclusion_probability": 0.5,
        "is_time_given": False,
        "read_at": time + MOMENT,
        "degraded_by": [],
        "user_key": str(user),
        "user_id": user,
        "timestamp": time,
        "price": 1.5,
        "position": 1,
        "device": "phone",
        "score": 0.5,
        DAY: time.date(),
        HOUR: time.hour,
        **own,
    }
    of_item = {"rank": 1}
    return [
        {**common, **of_item, "place": place, "sent_item_id": item, "item_id": item}
        for place, item in enumerate(items)
    ]


def good_log(lake: dict[str, dict[datetime.date, list[Row]]], *answers: list[Row]) -> list[Row]:
    """Candidates that were served as they should have been; without answers, two at noon."""
    given = answers or (answer("one", 7, "abc", NOON), answer("two", 8, "ab", NOON))
    logged = [row for rows in given for row in rows]
    for row in logged:
        for table in SCHEMA.tables:
            key = int(row["user_key"]) if table.kind is TableKind.STATE else row["sent_item_id"]
            of_table = [one for rows in lake[table.name].values() for one in rows]
            serve(row, table, newest_visible(of_table, table, key, row["timestamp"]))
    return logged


def write_log(folder: Path, rows: list[Row], schema: Schema = SCHEMA) -> None:
    """Append rows to the log."""
    table = LogTable(folder, schema)
    table.open()
    partitions = [pa.field(DAY, pa.date32()), pa.field(HOUR, pa.int32())]
    columns = pa.schema([*arrow_schema(schema), *partitions])
    table.append(pa.Table.from_pylist(rows, schema=columns), metadata={"job": "test"})
