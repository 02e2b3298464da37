"""A random log, and the rows of declared tables that Spark makes of it."""

import datetime
import random

from pyspark.sql import functions as F
from support.features.declared import DAY, HOUR

from features.lake.lake import day_range
from features.pipeline.availability import declared_availability
from features.pipeline.tables.aggregate_rows import aggregate_rows
from features.schema import CREATED
from features.spark.session import feature_struct, impressions_struct

UTC = datetime.UTC
FIRST = datetime.date(2025, 1, 1)
DAYS = day_range(FIRST, FIRST + 8 * DAY)


def log(seed: int, rows: int = 150) -> list[dict]:
    drawn = random.Random(seed)
    start = datetime.datetime.combine(FIRST, datetime.time(), UTC)
    return [
        {
            "example_id": number,
            "user_id": drawn.randrange(5),
            "item_id": drawn.randrange(6),
            "timestamp": start + drawn.randrange(9 * 24) * HOUR,
            "device": drawn.choice(["phone", "tablet", "desktop", None]),
            "click": drawn.randrange(2),
            "true_probability": drawn.choice([0.1234, 0.9999, 1 / 3, None, float("nan")]),
        }
        for number in range(rows)
    ]


def frame(spark, schema, shown):
    struct = impressions_struct(schema)
    return spark.createDataFrame([tuple(row[n] for n in struct.names) for row in shown], struct)


def rows_of(
    spark, schema, table, shown, days, *, carry=(), carry_day=None, key="device", more=None
):
    struct = feature_struct(schema, table)
    columns = {**(more or {}), schema.key_of(table).name: F.col(key)}
    rows = aggregate_rows(
        schema,
        table,
        impressions=frame(spark, schema, shown).withColumns(columns),
        carry=spark.createDataFrame(carry, struct),
        carry_day=carry_day,
        days=days,
    )
    return rows.withColumn(CREATED, declared_availability(table)).select(*struct.names).collect()


def carried(rows, day) -> list:
    """The rows as of the end of a day, for the next to build on."""
    return [row for row in rows if row["event_timestamp"].date() == day + DAY]


def micros(moment):
    epoch = datetime.datetime(1970, 1, 1, tzinfo=UTC)
    return moment and (moment - epoch) // datetime.timedelta(microseconds=1)


def by_key_and_day(rows, names=None) -> dict:
    found = {}
    for row in rows:
        values = row.asDict()
        key, at = next(iter(values.values())), values["event_timestamp"].date() - DAY
        taken = names or [name for name in values if name not in {"event_timestamp", CREATED}]
        found[key, at] = {name: values[name] for name in taken}
    return found
