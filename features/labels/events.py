"""The events of a label that comes later, as tables of the lake."""

import datetime
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from features.labels.attribution import with_label
from features.lake.lake import IMPRESSIONS, ONE_DAY, Lake
from features.schema import Label, Schema
from features.spark.session import impressions_struct, struct_of


def events_table(label: Label) -> str:
    """The table of the events that the checks let through."""
    return f"labels_{label.name}"


def raw_events_table(label: Label) -> str:
    """The table of the events as they landed, typed."""
    return f"{events_table(label)}_raw"


def events_struct(schema: Schema, label: Label) -> StructType:
    """Row type of the events: their moment, and the columns that impressions have too."""
    return struct_of(schema.event_columns(label))


def last_event_day(label: Label, day: datetime.date) -> datetime.date:
    """The last day on which an event can make an impression of a day positive."""
    return day - (-label.window // ONE_DAY) * ONE_DAY


def with_later_labels(
    spark: SparkSession,
    lake: Lake,
    schema: Schema,
    impressions: DataFrame,
    days: Sequence[datetime.date],
    *,
    delay_column: str = "",
) -> DataFrame:
    """Impressions of some days with a column for each label that comes later.

    Its value is final once the events of ``last_event_day``, and the impressions until then, which
    may be nearer to an event, are in the lake. Until then it is 0 where no event is known: who
    counts a label waits for ``Label.known_after``.

    Args:
        spark: The session.
        lake: The tables of the data set.
        schema: Its schema.
        impressions: Those of the days, with ``day``.
        days: The days.
        delay_column: Of the target, as ``with_label`` takes it.
    """
    for label in schema.later_labels:
        first, last = min(days, default=None), max(days, default=None)
        until = last_event_day(label, last) if last else None
        after = lake.days_between(IMPRESSIONS, last + ONE_DAY, until) if last and until else []
        events = lake.days_between(events_table(label), first, until) if first and until else []
        struct = events_struct(schema, label)
        nearer = lake.read(spark, IMPRESSIONS, impressions_struct(schema), after)
        impressions = with_label(
            impressions,
            lake.read(spark, events_table(label), struct, events),
            label,
            later=nearer,
            delay_column=delay_column if label is schema.label else "",
        )
    return impressions
