"""The Spark jobs between the landed log and the training examples, one function each.

A job is a pure function of its days and its inputs: it replaces the partitions of these days and
nothing else, and reads no clock. A range of days gives the same rows as day by day.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from features.aggregates import (
    first_impression_day,
    is_positive,
    item_daily,
    label_delay_days,
    user_state,
)
from features.asof import join_as_of
from features.readers import READERS
from features.schema import (
    CREATED,
    DAY,
    EVENT_TIMESTAMP,
    EXAMPLE_ID,
    LABEL,
    FeatureTable,
    Schema,
    TableKind,
)
from features.spark import feature_struct, impressions_struct
from features.tables import ONE_DAY, Lake, Partition

IMPRESSIONS_RAW = "impressions_raw"
IMPRESSIONS = "impressions"
QUARANTINE = "quarantine"
EXAMPLES = "examples"


@dataclasses.dataclass(frozen=True)
class Workspace:
    """What every job works with: the session, the schema and the lake."""

    spark: SparkSession
    schema: Schema
    lake: Lake

    def impressions(self, days: Sequence[datetime.date], table: str = IMPRESSIONS) -> DataFrame:
        """Impressions of some days, with ``day``."""
        return self.lake.read(self.spark, table, impressions_struct(self.schema), days)

    def features(self, table: FeatureTable, days: Sequence[datetime.date]) -> DataFrame:
        """Rows of a feature table of some days, with ``day``."""
        return self.lake.read(self.spark, table.name, feature_struct(self.schema, table), days)


def ingest(work: Workspace, landing: Path, days: Sequence[datetime.date]) -> list[Partition]:
    """Landed impressions of some days, typed, into the lake."""
    reader = READERS[work.schema.name]
    frame = reader.read_impressions(work.spark, landing / work.schema.name, days)
    return work.lake.replace(frame, IMPRESSIONS_RAW, days, keys=["timestamp", EXAMPLE_ID])


def build(
    work: Workspace,
    landing: Path,
    days: Sequence[datetime.date],
    *,
    available_at: datetime.datetime | None = None,
) -> list[Partition]:
    """Feature rows of some days, for every table of the schema.

    Args:
        work: Session, schema and lake.
        landing: Where the attributes have landed.
        days: Days of which to compute rows, in order.
        available_at: From when the rows can be counted on, for a correction of days that were
            published before: the rows published then stay, so that what a model saw can be told.
            None: as declared, from the event plus the table's delay.
    """
    # On small days Spark plans longer than it computes; the tables do not depend on each other.
    with ThreadPoolExecutor(max_workers=len(work.schema.tables)) as pool:
        written = pool.map(
            lambda table: _build_table(work, landing, table, days, available_at),
            work.schema.tables,
        )
        return [partition for partitions in written for partition in partitions]


def _build_table(
    work: Workspace,
    landing: Path,
    table: FeatureTable,
    days: Sequence[datetime.date],
    available_at: datetime.datetime | None,
) -> list[Partition]:
    if table.kind is TableKind.ATTRIBUTES:
        return _build_attributes(work, landing, table)
    compute = _state_rows if table.kind is TableKind.STATE else _daily_rows
    rows = compute(work, table, days)
    key = work.schema.entity(table.role).name
    names = [*feature_struct(work.schema, table).names, DAY]
    frame = _with_availability(work, table, rows, days, available_at).select(*names)
    return work.lake.replace(frame, table.name, days, keys=[key, EVENT_TIMESTAMP, CREATED])


def examples(work: Workspace, days: Sequence[datetime.date]) -> list[Partition]:
    """Training examples: the impressions of some days with the features visible at each."""
    schema = work.schema
    impressions = work.impressions(days).withColumn(LABEL, is_positive(schema.label))
    joined = impressions
    for table in schema.tables:
        rows = work.features(table, visible_days(work, table, days[0], days[-1])).drop(DAY)
        key = schema.entity(table.role).name
        joined = join_as_of(joined, rows, table, key=key, time="timestamp")
    return work.lake.replace(joined, EXAMPLES, days, keys=["timestamp", EXAMPLE_ID])


def visible_days(
    work: Workspace, table: FeatureTable, first: datetime.date, last: datetime.date
) -> list[datetime.date]:
    """Days whose partitions can hold a row that is usable between ``first`` and ``last``."""
    if table.ttl is None:
        return work.lake.days(table.name)
    # A daily row becomes true at the end of its day, so one more day can still matter.
    return work.lake.days_between(table.name, first - _whole_days(table.ttl) - ONE_DAY, last)


def carry_days(work: Workspace, table: FeatureTable, before: datetime.date) -> list[datetime.date]:
    """Days of a state table that the state of ``before`` builds on."""
    ttl = _whole_days(table.ttl or datetime.timedelta(0))
    return work.lake.days_between(table.name, before - ttl - ONE_DAY, before - ONE_DAY)


def _state_rows(work: Workspace, table: FeatureTable, days: Sequence[datetime.date]) -> DataFrame:
    since = days[0] - label_delay_days(work.schema)
    impressions = work.impressions(work.lake.days_between(IMPRESSIONS, since, days[-1]))
    return user_state(
        work.schema,
        table,
        impressions=impressions,
        carry=work.features(table, carry_days(work, table, days[0])),
        first_day=days[0],
        last_day=days[-1],
    )


def _daily_rows(work: Workspace, table: FeatureTable, days: Sequence[datetime.date]) -> DataFrame:
    earlier = work.lake.days_between(table.name, datetime.date.min, days[0] - ONE_DAY)
    carry_day = earlier[-1] if earlier else None
    since = first_impression_day(work.schema, table, first_day=days[0], carry_day=carry_day)
    return item_daily(
        work.schema,
        table,
        impressions=work.impressions(work.lake.days_between(IMPRESSIONS, since, days[-1])),
        carry=work.features(table, earlier[-1:]),
        carry_day=carry_day,
        days=days,
    )


def _build_attributes(work: Workspace, landing: Path, table: FeatureTable) -> list[Partition]:
    """Attributes hold since the epoch, in one partition that is written when they change."""
    schema = work.schema
    reader = READERS[schema.name]
    rows = reader.read_attributes(work.spark, landing / schema.name, table)
    since = F.lit(datetime.datetime.combine(schema.epoch, datetime.time(), datetime.UTC))
    times = {EVENT_TIMESTAMP: since, CREATED: since, DAY: F.lit(schema.epoch)}
    names = [*feature_struct(schema, table).names, DAY]
    key = schema.entity(table.role).name
    frame = rows.withColumns(times).select(*names)
    return work.lake.replace(frame, table.name, [schema.epoch], keys=[key])


def _with_availability(
    work: Workspace,
    table: FeatureTable,
    rows: DataFrame,
    days: Sequence[datetime.date],
    available_at: datetime.datetime | None,
) -> DataFrame:
    """The rows with ``created``, and the published rows of other revisions beside them."""
    declared = declared_availability(table)
    names = [*feature_struct(work.schema, table).names, DAY]
    if available_at is None:
        published = rows.withColumn(CREATED, declared).select(*names)
        corrections = F.col(CREATED) > declared
    else:
        moment = F.lit(available_at)
        published = rows.withColumn(CREATED, F.greatest(moment, declared)).select(*names)
        corrections = F.col(CREATED) < moment
    kept_days = work.lake.days_between(table.name, days[0], days[-1])
    if not kept_days:
        return published
    kept = work.features(table, kept_days).select(*names).where(corrections)
    return published.unionByName(kept)


def declared_availability(table: FeatureTable) -> SparkColumn:
    """From when a row can be counted on when nothing was corrected."""
    delay = round(table.delay.total_seconds() * 1_000_000)
    day_end = F.to_timestamp(F.date_add(F.to_date(EVENT_TIMESTAMP), 1))
    since = day_end if table.counts_from_day_end else F.col(EVENT_TIMESTAMP)
    return F.timestamp_micros(F.unix_micros(since) + delay)


def _whole_days(span: datetime.timedelta) -> datetime.timedelta:
    return datetime.timedelta(days=-(-span // ONE_DAY))
