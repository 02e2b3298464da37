"""From when a feature row may be counted on: its ``created``, as declared or as corrected."""

import datetime
from collections.abc import Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.pipeline.workspace import Workspace
from features.provenance.inputs import fingerprint_of
from features.schema import CREATED, DAY, EVENT_TIMESTAMP, FeatureTable
from features.spark.session import feature_struct


def declared_availability(table: FeatureTable) -> SparkColumn:
    """From when a row can be counted on when nothing was corrected."""
    delay = round(table.delay.total_seconds() * 1_000_000)
    day_end = F.to_timestamp(F.date_add(F.to_date(EVENT_TIMESTAMP), 1))
    since = day_end if table.counts_from_day_end else F.col(EVENT_TIMESTAMP)
    return F.timestamp_micros(F.unix_micros(since) + delay)


def with_availability(
    work: Workspace,
    table: FeatureTable,
    rows: DataFrame,
    days: Sequence[datetime.date],
    available_at: datetime.datetime | None,
) -> DataFrame:
    """The rows with ``created``, and the published rows of other revisions.

    Rows of another schema are dropped: no model of this one has seen them.
    """
    declared = declared_availability(table)
    names = [*feature_struct(work.schema, table).names, DAY]
    if available_at is None:
        published = rows.withColumn(CREATED, declared).select(*names)
        corrections = F.col(CREATED) > declared
    else:
        moment = F.lit(available_at)
        published = rows.withColumn(CREATED, F.greatest(moment, declared)).select(*names)
        corrections = F.col(CREATED) < moment
    current = fingerprint_of(work.schema, table.name)
    kept_days = [
        day
        for day in work.lake.days_between(table.name, days[0], days[-1])
        if work.lake.manifest(table.name, day).fingerprint == current
    ]
    if not kept_days:
        return published
    kept = work.features(table, kept_days).select(*names).where(corrections)
    return published.unionByName(kept)
