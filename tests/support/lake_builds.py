"""Builds of days of a lake that a test may change: published at once, or spoilt before."""

import datetime

from pyspark.sql import functions as F

from features.pipeline import jobs
from features.schema import CREATED, EVENT_TIMESTAMP


def built_and_published(work, built, *days: datetime.date, **options) -> None:
    """Build days and publish what is staged, without a judgement."""
    jobs.publish_features(work, jobs.build(work, built.landing, days, **options), days)


def spoilt_build(work, built, day: datetime.date, column: str, value: int | None) -> None:
    """Build a day; in one row of the items' aggregates a column has another value."""
    table = work.schema.table("item_daily")
    staged = {one.table: one for one in jobs.build(work, built.landing, [day])}[table.name]
    with work.lake.preview(staged):
        rows = work.features(table, [day])
    spoilt = F.when(F.col("item_id") == 3, F.lit(value)).otherwise(F.col(column))
    frame = rows.withColumn(column, spoilt.cast(rows.schema[column].dataType))
    keys = ["item_id", EVENT_TIMESTAMP, CREATED]
    work.lake.put(work.lake.restage(staged, frame, keys=keys), [day])
