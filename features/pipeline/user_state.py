"""The running state of a user, computed with Spark's native functions."""

import datetime
from collections.abc import Iterator, Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType

from features.pipeline.aggregates import (
    AT,
    MICROSECONDS_PER_SECOND,
    SUMS,
    carried_sums,
    count_columns,
    midnight,
    newest_rows,
    occurrences,
)
from features.schema import (
    DAY,
    EVENT_TIMESTAMP,
    EXAMPLE_ID,
    Affinity,
    FeatureTable,
    Label,
    Schema,
)
from features.schema.derived_tables import recent_lengths, recent_rate_name
from features.spark.session import feature_struct


def user_state(
    schema: Schema,
    table: FeatureTable,
    *,
    impressions: DataFrame,
    carry: DataFrame,
    first_day: datetime.date,
    last_day: datetime.date,
) -> DataFrame:
    """State rows of the days from ``first_day`` to ``last_day``: one for each user and moment.

    A user who did nothing for longer than the table's time-to-live starts from zero. So a job reads
    back at most one time-to-live.

    Args:
        schema: The data set's schema.
        table: Its state table.
        impressions: Impressions of these days, and of as many before as the label delay spans, with
            the attributes that the table's affinities are on.
        carry: Earlier states: all of one time-to-live before ``first_day``, or those at the end of
            a day before and all since; the newest of each user counts.
        first_day: First day of which rows are wanted.
        last_day: Last day of which rows are wanted.

    Returns:
        The user's id, ``event_timestamp``, the table's columns and ``day``; ``created`` is for the
        caller to add.
    """
    user = schema.key_of(table).name
    start, end = (
        F.lit(midnight(day)) for day in (first_day, last_day + datetime.timedelta(days=1))
    )
    bags = {_bag_of(one): _bag(impressions, one.on) for one in table.affinities}
    with_bags = impressions.withColumns(bags) if bags else impressions
    fresh = occurrences(schema, with_bags, kept=list(bags))
    fresh = fresh.where((F.col(AT) >= start) & (F.col(AT) < end))
    events = _carried_events(schema, table, carry).unionByName(fresh)
    events = events.withColumn("_life", _life(user, table))
    histories = _histories(events, user, length=schema.history_length, kept=list(bags))
    sums = [F.sum(name).alias(name) for name in SUMS]
    moments = events.groupBy(user, "_life", AT).agg(*sums, F.max("_shown_at").alias("_shown_at"))
    joined = moments.join(histories, on=[user, "_life", AT], how="left")
    so_far = (
        Window.partitionBy(user, "_life")
        .orderBy(AT)
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    running = joined.select(
        user,
        F.col(AT).alias(EVENT_TIMESTAMP),
        *(F.sum(name).over(so_far).alias(name) for name in SUMS),
        F.max("_shown_at").over(so_far).alias("_shown_at"),
        F.last("_history", ignorenulls=True).over(so_far).alias("_history"),
    )
    return running.where(F.col(EVENT_TIMESTAMP) >= start).select(
        user,
        EVENT_TIMESTAMP,
        *count_columns("user", "all", schema.label, "_{}"),
        *(
            _recent_rate(F.coalesce(F.col("_history.label"), F.array()), length, schema.label)
            for length in recent_lengths(schema.history_length)
        ),
        F.unix_micros("_shown_at").alias("user_last_event_at"),
        F.coalesce(F.col("_history.item"), F.array()).alias("user_history_item_ids"),
        F.coalesce(F.col("_history.label"), F.array()).alias("user_history_labels"),
        *(column for one in table.affinities for column in _flat(one)),
        F.to_date(EVENT_TIMESTAMP).alias(DAY),
    )


def _life(user: str, table: FeatureTable) -> SparkColumn:
    """Which of a user's lives an event belongs to: a new one starts after the time-to-live."""
    in_order = Window.partitionBy(user).orderBy(AT)
    idle = F.unix_micros(AT) - F.unix_micros(F.lag(AT).over(in_order))
    starts_again = (idle > _ttl_microseconds(table)).cast("int")
    return F.sum(F.coalesce(starts_again, F.lit(0))).over(in_order)


def _histories(events: DataFrame, user: str, *, length: int, kept: Sequence[str]) -> DataFrame:
    """The newest items with their labels as of each moment of a life, oldest first."""
    order = (AT, "_position", "_item", EXAMPLE_ID)
    trailing = Window.partitionBy(user, "_life").orderBy(*order).rowsBetween(1 - length, 0)
    item = F.struct(F.col("_item").alias("item"), F.col("_label").alias("label"), *kept)
    history = F.collect_list(item)
    return (
        events.where(F.col("_item").isNotNull())
        .withColumn("_history", history.over(trailing))
        .groupBy(user, "_life", AT)
        .agg(F.max_by("_history", F.struct(*order)).alias("_history"))
    )


def _bag_of(affinity: Affinity) -> str:
    """Name of the column with the values that one impression's item had."""
    return f"_kept_{affinity.on}"


def _bag(impressions: DataFrame, name: str) -> SparkColumn:
    """An attribute as an array, without nulls; empty where it is null."""
    is_list = isinstance(impressions.schema[name].dataType, ArrayType)
    return F.coalesce(F.array_compact(F.col(name) if is_list else F.array(name)), F.array())


def _flat(affinity: Affinity) -> Iterator[SparkColumn]:
    """Of a history the values of all its items, and how many each has."""
    bags = F.col(f"_history.{_bag_of(affinity)}")
    sizes = F.transform(bags, lambda bag: F.size(bag).cast("bigint"))
    yield F.coalesce(F.flatten(bags), F.array()).alias(affinity.values)
    yield F.coalesce(sizes, F.array()).alias(affinity.counts)


def _bags(affinity: Affinity) -> SparkColumn:
    """The values of each item again, from what ``_flat`` has made of them."""
    counts = F.col(affinity.counts)

    def bag(count: SparkColumn, place: SparkColumn) -> SparkColumn:
        before = F.slice(counts, F.lit(1), place)
        start = F.aggregate(before, F.lit(1).cast("bigint"), lambda so_far, one: so_far + one)
        return F.slice(affinity.values, start.cast("int"), count.cast("int"))

    return F.transform(counts, bag)


def _carried_events(schema: Schema, table: FeatureTable, carry: DataFrame) -> DataFrame:
    """A user's newest earlier state, as events: its sums at once, then its history item by item."""
    user = schema.key_of(table).name
    newest = newest_rows(carry.select(*feature_struct(schema, table).names), user)
    bags = {_bag_of(one): one for one in table.affinities}
    empty = {
        name: F.lit(None).cast(carry.schema[one.values].dataType) for name, one in bags.items()
    }
    zero = F.lit(0).cast("bigint")
    item = carry.schema["user_history_item_ids"].dataType.elementType  # type: ignore[attr-defined]
    times = (F.lit(None).cast("bigint").alias(EXAMPLE_ID), F.col(EVENT_TIMESTAMP).alias(AT))
    sums = newest.select(
        user,
        *times,
        F.lit(-1).alias("_position"),
        *carried_sums("user", schema.label),
        F.timestamp_micros("user_last_event_at").alias("_shown_at"),
        F.lit(None).cast(item).alias("_item"),
        F.lit(None).cast("bigint").alias("_label"),
        *(value.alias(name) for name, value in empty.items()),
    )
    kept = newest.select("*", *(_bags(one).alias(name) for name, one in bags.items()))
    pairs = F.posexplode(F.arrays_zip("user_history_item_ids", "user_history_labels", *bags))
    items = kept.select(user, *times, pairs.alias("_position", "_pair")).select(
        user,
        EXAMPLE_ID,
        AT,
        "_position",
        *(zero.alias(name) for name in SUMS),
        F.lit(None).cast("timestamp").alias("_shown_at"),
        F.col("_pair.user_history_item_ids").alias("_item"),
        F.col("_pair.user_history_labels").alias("_label"),
        *(F.col(f"_pair.{name}").alias(name) for name in bags),
    )
    carried = sums.unionByName(items)
    if user == schema.item.name:
        return carried
    return carried.withColumn(schema.item.name, F.lit(None).cast(item))


def _recent_rate(labels: SparkColumn, length: int, label: Label) -> SparkColumn:
    """Smoothed positive rate of the last labels, as ``features.schema.derived_tables`` names it."""
    last = F.slice(labels, F.greatest(F.size(labels) - (length - 1), F.lit(1)), length)
    positives = F.size(F.filter(last, lambda value: value == 1)).cast("double")
    prior = label.prior_rate * label.prior_weight
    rate = (positives + prior) / (F.size(last).cast("double") + label.prior_weight)
    return rate.alias(recent_rate_name(length))


def _ttl_microseconds(table: FeatureTable) -> int:
    if table.ttl is None:
        raise ValueError(f"table {table.name}: ttl None; a state table needs a finite ttl")
    return round(table.ttl.total_seconds() * MICROSECONDS_PER_SECOND)
