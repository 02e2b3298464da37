"""The daily aggregates of an item, computed with Spark's native functions."""

import datetime
from collections.abc import Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from features.pipeline.aggregates import (
    AT,
    SUMS,
    carried_sums,
    count_columns,
    label_delay_days,
    newest_rows,
    occurrences,
)
from features.schema import DAY, EVENT_TIMESTAMP, FeatureTable, Schema
from features.spark.session import feature_struct


def item_daily(
    schema: Schema,
    table: FeatureTable,
    *,
    impressions: DataFrame,
    carry: DataFrame,
    carry_day: datetime.date | None,
    days: Sequence[datetime.date],
) -> DataFrame:
    """Aggregates of every item seen so far as of the end of each of ``days``.

    Args:
        schema: The data set's schema.
        table: Its daily table.
        impressions: Impressions from ``first_impression_day`` on, until the last of ``days``.
        carry: The table's rows of ``carry_day``, for the all-time counts; no rows when None.
        carry_day: Newest day before ``days`` of which the table has rows.
        days: Days of which rows are wanted, in order.

    Returns:
        The item's id, ``event_timestamp``, the table's columns and ``day``; ``created`` is for the
        caller to add.
    """
    item = schema.key_of(table).name
    events = occurrences(schema, impressions).withColumn(DAY, F.to_date(AT))
    events = events.where(F.col(DAY) <= days[-1])
    deltas = events.groupBy(item, DAY).agg(*(F.sum(name).alias(name) for name in SUMS))
    carried = _carried_counts(schema, table, carry)
    seen = deltas.select(item).union(carried.select(item)).distinct()
    calendar = F.explode(F.array(*(F.lit(day) for day in days))).alias(DAY)
    grid = seen.select(item, calendar, *(F.lit(0).cast("bigint").alias(name) for name in SUMS))
    daily = grid.unionByName(deltas.select(item, DAY, *SUMS)).groupBy(item, DAY)
    counts = daily.agg(*(F.sum(name).alias(name) for name in SUMS))
    columns = _windowed_sums(item, table, carry_day)
    summed = counts.withColumns(columns).where(F.col(DAY).isin(list(days)))
    whole = summed.join(carried, on=item, how="left").withColumns(
        {
            f"{name}_all": F.col(f"{name}_all") + F.coalesce(f"{name}_carried", F.lit(0))
            for name in SUMS
        }
    )
    windows = (*(f"{days}d" for days in table.windows_days), "all")
    return whole.where(F.col("_impressions_all") + F.col("_labelled_all") > 0).select(
        item,
        F.to_timestamp(F.date_add(DAY, 1)).alias(EVENT_TIMESTAMP),
        *(
            column
            for window in windows
            for column in count_columns("item", window, schema.label, "_{}_" + window)
        ),
        DAY,
    )


def _windowed_sums(
    item: str, table: FeatureTable, carry_day: datetime.date | None
) -> dict[str, SparkColumn]:
    """Sums over each trailing window, and over all days after the carried ones."""
    in_days = Window.partitionBy(item).orderBy(F.unix_date(DAY))
    after_carry = F.col(DAY) > F.lit(carry_day) if carry_day else F.lit(True)  # Spark's literal
    ever = in_days.rangeBetween(Window.unboundedPreceding, Window.currentRow)
    columns = {
        f"{name}_all": F.sum(F.when(after_carry, F.col(name)).otherwise(0)).over(ever)
        for name in SUMS
    }
    for window in table.windows_days:
        trailing = in_days.rangeBetween(1 - window, 0)
        columns |= {f"{name}_{window}d": F.sum(name).over(trailing) for name in SUMS}
    return columns


def first_impression_day(
    schema: Schema,
    table: FeatureTable,
    *,
    first_day: datetime.date,
    carry_day: datetime.date | None,
) -> datetime.date:
    """First day of impressions that a daily table reads for rows from ``first_day`` on."""
    if carry_day is None:
        return datetime.date.min
    longest = max(table.windows_days, default=1)
    since = min(
        first_day - datetime.timedelta(days=longest - 1), carry_day + datetime.timedelta(days=1)
    )
    return since - label_delay_days(schema, table)


def _carried_counts(schema: Schema, table: FeatureTable, carry: DataFrame) -> DataFrame:
    item = schema.key_of(table).name
    newest = newest_rows(carry.select(*feature_struct(schema, table).names), item)
    return newest.select(item, *carried_sums("item", schema.label, "_carried"))
