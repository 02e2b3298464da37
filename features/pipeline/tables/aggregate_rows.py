"""Declared aggregates and histories of a key as of each day's end, with Spark's native functions.

As in ``item_daily`` everything is added up as integers, by day first; windows are sums of days, and
all of time is what the newest earlier row has and the days since. An impression counts when it
happens, a label and what is known with it after the label's delay.
"""

import datetime
import functools
from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from features.pipeline.tables.aggregate_plan import CARRIED, SEEN, Plan, change_of, day_after
from features.pipeline.tables.history_rows import history_days
from features.schema import DAY, EVENT_TIMESTAMP, Aggregate, FeatureTable, Schema
from features.schema.measures import What, delays, happened, known_after


def aggregate_rows(
    schema: Schema,
    table: FeatureTable,
    *,
    impressions: DataFrame,
    carry: DataFrame,
    carry_day: datetime.date | None,
    days: Sequence[datetime.date],
) -> DataFrame:
    """Rows of every key seen so far as of the end of each of ``days``.

    Args:
        schema: The data set's schema.
        table: Its table, with ``aggregates`` or ``histories``.
        impressions: Impressions with the table's key and what its histories keep, from the first
            day that is read on, until the last of ``days``; those without a key count nowhere.
        carry: The table's rows of ``carry_day``; no rows when None.
        carry_day: Newest day before ``days`` of which the table has rows.
        days: Days of which rows are wanted, in order.

    Returns:
        The key, ``event_timestamp``, the table's columns and ``day``; ``created`` is for the caller
        to add.
    """
    plan = Plan(schema, table)
    key, names = plan.key, plan.added
    known = impressions.where(F.col(key).isNotNull())
    deltas = _deltas(plan, known, last_day=days[-1])
    carried = plan.carried(carry)
    seen = deltas.select(key).union(carried.select(key)).distinct()
    calendar = F.explode(F.array(*(F.lit(day) for day in days))).alias(DAY)
    grid = seen.select(key, calendar)
    lists = [
        history_days(
            plan, one, impressions=known, carry=carry, carry_day=carry_day, last_day=days[-1]
        )
        for one in table.histories
    ]
    changes = [_changes(plan, known, one, days[-1]) for one in plan.distinct]
    daily = _union([grid, deltas, *changes, *lists])
    sums = [F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in names]
    largest = [F.max(name).alias(name) for name in (*plan.latest, *plan.lists)]
    summed = daily.groupBy(key, DAY).agg(*sums, *largest)
    windowed = summed.withColumns(plan.windows(carry_day)).where(F.col(DAY).isin(list(days)))
    whole = windowed.join(carried, on=key, how="left").withColumns(plan.with_carried())
    is_seen = F.coalesce(F.col(CARRIED), F.lit(False)) | (F.col(f"{SEEN}_all") > 0)
    return whole.where(is_seen).select(
        key,
        F.to_timestamp(F.date_add(DAY, 1)).alias(EVENT_TIMESTAMP),
        *plan.columns(),
        DAY,
    )


def _deltas(plan: "Plan", impressions: DataFrame, *, last_day: datetime.date) -> DataFrame:
    """What each key has of each day: a row for what happens, and one for each delay after it."""
    parts = []
    for delay in delays(plan.schema, plan.table):
        of = [m for m in plan.measures if known_after(plan.schema, m) == delay]
        is_first = F.lit(int(not delay)).cast("bigint").alias(SEEN)
        values = [plan.value(measure).alias(measure.column) for measure in of]
        parts.append(impressions.select(plan.key, day_after(delay), is_first, *values))
    return (
        _union(parts)
        .where(F.col(DAY) <= F.lit(last_day))
        .groupBy(plan.key, DAY)
        .agg(
            F.sum(SEEN).alias(SEEN),
            *(
                (F.max(m.column) if m.what is What.LAST_AT else F.sum(m.column)).alias(m.column)
                for m in plan.measures
            ),
        )
    )


def _changes(
    plan: "Plan", impressions: DataFrame, aggregate: Aggregate, last_day: datetime.date
) -> DataFrame:
    """By how many the number of different values in each window changes on a day.

    A value enters on a day that has it, and leaves when the window has passed without it.
    """
    measure = happened(aggregate.of, plan.labels)
    counted = impressions.where(plan.value(measure) > 0)
    days = (
        counted.select(
            plan.key,
            F.col(aggregate.distinct_of).alias("_value"),
            day_after(known_after(plan.schema, measure)),
        )
        .where(F.col("_value").isNotNull() & (F.col(DAY) <= F.lit(last_day)))
        .distinct()
    )
    in_order = Window.partitionBy(plan.key, "_value").orderBy(DAY)
    ordered = days.select(
        plan.key,
        DAY,
        F.lag(DAY).over(in_order).alias("_before"),
        F.lead(DAY).over(in_order).alias("_next"),
    )
    parts = []
    for window in plan.table.windows_days:
        name = change_of(aggregate, f"{window}d")
        one = F.lit(1).cast("bigint").alias(name)
        is_new = F.col("_before").isNull() | (F.date_add("_before", window) < F.col(DAY))
        leaves = F.date_add(DAY, window)
        is_last = F.col("_next").isNull() | (leaves < F.col("_next"))
        parts.append(ordered.where(is_new).select(plan.key, DAY, one))
        parts.append(ordered.where(is_last).select(plan.key, leaves.alias(DAY), (-one).alias(name)))
    return _union(parts)


def _union(frames: Sequence[DataFrame]) -> DataFrame:
    """All rows; null in the columns that a frame has not."""
    return functools.reduce(
        lambda whole, part: whole.unionByName(part, allowMissingColumns=True), frames
    )
