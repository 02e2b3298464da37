"""What happened to users and items, computed with Spark's native functions.

The same functions serve the daily job, the bootstrap over many days and the micro-batch push, so a
stream has no second implementation. Sums are integers and rates are derived from them at the end:
no shuffle order can change a bit. An impression counts when it happens; its label counts after the
schema's label delay.
"""

import datetime
from collections.abc import Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from features.schema import CREATED, DAY, EVENT_TIMESTAMP, EXAMPLE_ID, FeatureTable, Label, Schema
from features.schema.derived_tables import recent_lengths, recent_rate_name
from features.spark.session import feature_struct

_AT = "_at"
_SUMS = ("_impressions", "_labelled", "_positives", "_rating_sum")
_MICROSECONDS = 1_000_000


def is_positive(label: Label) -> SparkColumn:
    """1 where the label's source says positive, else 0."""
    return (F.col(label.column) >= label.positive_from).cast("bigint")


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

    A user who did nothing for longer than the table's time-to-live starts anew, which bounds what
    a job reads back to one time-to-live.

    Args:
        schema: The data set's schema.
        table: Its state table.
        impressions: Impressions of these days, and of as many before as the label delay spans.
        carry: State rows of one time-to-live before ``first_day``; the newest of each user counts.
        first_day: First day of which rows are wanted.
        last_day: Last day of which rows are wanted.

    Returns:
        The user's id, ``event_timestamp``, the table's columns and ``day``; ``created`` is for the
        caller to add.
    """
    user = schema.entity(table.role).name
    start, end = _midnight(first_day), _midnight(last_day + datetime.timedelta(days=1))
    fresh = _occurrences(schema, impressions).where(F.col(_AT) >= start).where(F.col(_AT) < end)
    events = _carried_events(schema, table, carry).unionByName(fresh)
    events = events.withColumn("_life", _life(user, table))
    histories = _histories(events, user, length=schema.history_length)
    sums = [F.sum(name).alias(name) for name in _SUMS]
    moments = events.groupBy(user, "_life", _AT).agg(*sums, F.max("_shown_at").alias("_shown_at"))
    joined = moments.join(histories, on=[user, "_life", _AT], how="left")
    so_far = (
        Window.partitionBy(user, "_life")
        .orderBy(_AT)
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    running = joined.select(
        user,
        F.col(_AT).alias(EVENT_TIMESTAMP),
        *(F.sum(name).over(so_far).alias(name) for name in _SUMS),
        F.max("_shown_at").over(so_far).alias("_shown_at"),
        F.last("_history", ignorenulls=True).over(so_far).alias("_history"),
    )
    return running.where(F.col(EVENT_TIMESTAMP) >= start).select(
        user,
        EVENT_TIMESTAMP,
        *_count_columns("user", "all", schema.label, "_{}"),
        *(
            _recent_rate(F.coalesce(F.col("_history.label"), F.array()), length, schema.label)
            for length in recent_lengths(schema.history_length)
        ),
        F.unix_micros("_shown_at").alias("user_last_event_at"),
        F.coalesce(F.col("_history.item"), F.array()).alias("user_history_item_ids"),
        F.coalesce(F.col("_history.label"), F.array()).alias("user_history_labels"),
        F.to_date(EVENT_TIMESTAMP).alias(DAY),
    )


def _life(user: str, table: FeatureTable) -> SparkColumn:
    """Which of a user's lives an event belongs to: a new one starts after the time-to-live."""
    in_order = Window.partitionBy(user).orderBy(_AT)
    idle = F.unix_micros(_AT) - F.unix_micros(F.lag(_AT).over(in_order))
    starts_anew = (idle > _ttl_microseconds(table)).cast("int")
    return F.sum(F.coalesce(starts_anew, F.lit(0))).over(in_order)


def _histories(events: DataFrame, user: str, *, length: int) -> DataFrame:
    """The newest items with their labels as of each moment of a life, oldest first."""
    order = (_AT, "_place", "_item", EXAMPLE_ID)
    trailing = Window.partitionBy(user, "_life").orderBy(*order).rowsBetween(1 - length, 0)
    history = F.collect_list(F.struct(F.col("_item").alias("item"), F.col("_label").alias("label")))
    return (
        events.where(F.col("_item").isNotNull())
        .withColumn("_history", history.over(trailing))
        .groupBy(user, "_life", _AT)
        .agg(F.max_by("_history", F.struct(*order)).alias("_history"))
    )


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
        As ``user_state``.
    """
    item = schema.entity(table.role).name
    events = _occurrences(schema, impressions).withColumn(DAY, F.to_date(_AT))
    events = events.where(F.col(DAY) <= days[-1])
    deltas = events.groupBy(item, DAY).agg(*(F.sum(name).alias(name) for name in _SUMS))
    carried = _carried_counts(schema, table, carry)
    seen = deltas.select(item).union(carried.select(item)).distinct()
    calendar = F.explode(F.array(*(F.lit(day) for day in days))).alias(DAY)
    grid = seen.select(item, calendar, *(F.lit(0).cast("bigint").alias(name) for name in _SUMS))
    daily = grid.unionByName(deltas.select(item, DAY, *_SUMS)).groupBy(item, DAY)
    counts = daily.agg(*(F.sum(name).alias(name) for name in _SUMS))
    columns = _windowed_sums(item, table, carry_day)
    summed = counts.withColumns(columns).where(F.col(DAY).isin(list(days)))
    whole = summed.join(carried, on=item, how="left").withColumns(
        {
            f"{name}_all": F.col(f"{name}_all") + F.coalesce(f"{name}_carried", F.lit(0))
            for name in _SUMS
        }
    )
    windows = (*(f"{days}d" for days in table.windows_days), "all")
    return whole.where(F.col("_impressions_all") + F.col("_labelled_all") > 0).select(
        item,
        F.to_timestamp(F.date_add(DAY, 1)).alias(EVENT_TIMESTAMP),
        *(
            column
            for window in windows
            for column in _count_columns("item", window, schema.label, "_{}_" + window)
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
        for name in _SUMS
    }
    for window in table.windows_days:
        trailing = in_days.rangeBetween(1 - window, 0)
        columns |= {f"{name}_{window}d": F.sum(name).over(trailing) for name in _SUMS}
    return columns


def first_impression_day(
    schema: Schema,
    table: FeatureTable,
    *,
    first_day: datetime.date,
    carry_day: datetime.date | None,
) -> datetime.date:
    """First day of impressions that ``item_daily`` reads for rows from ``first_day`` on."""
    if carry_day is None:
        return datetime.date.min
    longest = max(table.windows_days, default=1)
    since = min(
        first_day - datetime.timedelta(days=longest - 1), carry_day + datetime.timedelta(days=1)
    )
    return since - label_delay_days(schema)


def label_delay_days(schema: Schema) -> datetime.timedelta:
    """Whole days of impressions whose labels may become known on a later day."""
    return datetime.timedelta(days=-(-schema.label.delay // datetime.timedelta(days=1)))


def newest_rows(frame: DataFrame, key: str) -> DataFrame:
    """The newest row of each entity: by event, then by when it could be counted on."""
    columns = [name for name in frame.columns if name not in {key, EVENT_TIMESTAMP, CREATED}]
    row = F.struct(EVENT_TIMESTAMP, CREATED, *columns)
    newest = frame.groupBy(key).agg(F.max(row).alias("_row"))
    return newest.select(key, *(F.col(f"_row.{name}") for name in row_names(columns)))


def row_names(columns: Sequence[str]) -> list[str]:
    """Both times, then the columns."""
    return [EVENT_TIMESTAMP, CREATED, *columns]


def _occurrences(schema: Schema, impressions: DataFrame) -> DataFrame:
    """What counts when: each impression at its moment, each label at its moment plus the delay."""
    label = schema.label
    entities = [column.name for _, column in schema.entities()]
    rating = F.col(label.column).cast("bigint") if label.has_rating else F.lit(0).cast("bigint")
    one, zero = F.lit(1).cast("bigint"), F.lit(0).cast("bigint")
    shown = {"_impressions": one, "_shown_at": F.col("timestamp")}
    labelled = {
        "_labelled": one,
        "_positives": is_positive(label),
        "_rating_sum": rating,
        "_item": F.col(schema.item.name),
        "_label": is_positive(label),
    }
    nothing = {
        **dict.fromkeys(_SUMS, zero),
        "_shown_at": F.lit(None).cast("timestamp"),
        "_item": F.lit(None).cast(impressions.schema[schema.item.name].dataType),
        "_label": F.lit(None).cast("bigint"),
    }

    def rows(at: SparkColumn, values: dict[str, SparkColumn]) -> DataFrame:
        filled = nothing | values
        named = [value.alias(name) for name, value in filled.items()]
        place = F.lit(schema.history_length).alias("_place")
        return impressions.select(*entities, EXAMPLE_ID, at.alias(_AT), place, *named)

    if not label.delay:
        return rows(F.col("timestamp"), shown | labelled)
    known_at = F.timestamp_micros(
        F.unix_micros("timestamp") + round(label.delay.total_seconds() * _MICROSECONDS)
    )
    return rows(F.col("timestamp"), shown).unionByName(rows(known_at, labelled))


def _carried_events(schema: Schema, table: FeatureTable, carry: DataFrame) -> DataFrame:
    """A user's newest earlier state, as events: its sums at once, then its history item by item."""
    user = schema.entity(table.role).name
    newest = newest_rows(carry.select(*feature_struct(schema, table).names), user)
    zero = F.lit(0).cast("bigint")
    item = carry.schema["user_history_item_ids"].dataType.elementType  # type: ignore[attr-defined]
    times = (F.lit(None).cast("bigint").alias(EXAMPLE_ID), F.col(EVENT_TIMESTAMP).alias(_AT))
    rating = F.col("user_rating_sum_all") if schema.label.has_rating else zero
    sums = newest.select(
        user,
        *times,
        F.lit(-1).alias("_place"),
        F.col("user_impressions_all").alias("_impressions"),
        F.col("user_labelled_all").alias("_labelled"),
        F.col("user_positives_all").alias("_positives"),
        rating.alias("_rating_sum"),
        F.timestamp_micros("user_last_event_at").alias("_shown_at"),
        F.lit(None).cast(item).alias("_item"),
        F.lit(None).cast("bigint").alias("_label"),
    )
    pairs = F.posexplode(F.arrays_zip("user_history_item_ids", "user_history_labels"))
    items = newest.select(user, *times, pairs.alias("_place", "_pair")).select(
        user,
        EXAMPLE_ID,
        _AT,
        "_place",
        *(zero.alias(name) for name in _SUMS),
        F.lit(None).cast("timestamp").alias("_shown_at"),
        F.col("_pair.user_history_item_ids").alias("_item"),
        F.col("_pair.user_history_labels").alias("_label"),
    )
    carried = sums.unionByName(items)
    if user == schema.item.name:
        return carried
    return carried.withColumn(schema.item.name, F.lit(None).cast(item))


def _carried_counts(schema: Schema, table: FeatureTable, carry: DataFrame) -> DataFrame:
    item = schema.entity(table.role).name
    newest = newest_rows(carry.select(*feature_struct(schema, table).names), item)
    rating = F.col("item_rating_sum_all") if schema.label.has_rating else F.lit(0).cast("bigint")
    return newest.select(
        item,
        F.col("item_impressions_all").alias("_impressions_carried"),
        F.col("item_labelled_all").alias("_labelled_carried"),
        F.col("item_positives_all").alias("_positives_carried"),
        rating.alias("_rating_sum_carried"),
    )


def _recent_rate(labels: SparkColumn, length: int, label: Label) -> SparkColumn:
    """Smoothed positive rate of the last labels, as ``features.schema.derived_tables`` names it."""
    last = F.slice(labels, F.greatest(F.size(labels) - (length - 1), F.lit(1)), length)
    positives = F.size(F.filter(last, lambda value: value == 1)).cast("double")
    prior = label.prior_rate * label.prior_weight
    rate = (positives + prior) / (F.size(last).cast("double") + label.prior_weight)
    return rate.alias(recent_rate_name(length))


def _count_columns(owner: str, window: str, label: Label, source: str) -> list[SparkColumn]:
    """The columns of ``derived_tables._counts``, in its order, from integer sums."""
    impressions, labelled, positives, ratings = (
        F.col(source.format(name.removeprefix("_"))) for name in _SUMS
    )
    prior = label.prior_rate * label.prior_weight
    rate = (positives.cast("double") + prior) / (labelled.cast("double") + label.prior_weight)
    columns = [
        impressions.alias(f"{owner}_impressions_{window}"),
        labelled.alias(f"{owner}_labelled_{window}"),
        positives.alias(f"{owner}_positives_{window}"),
        rate.alias(f"{owner}_positive_rate_{window}"),
    ]
    if label.has_rating:
        mean = F.when(labelled > 0, ratings.cast("double") / labelled.cast("double"))
        columns += [
            ratings.alias(f"{owner}_rating_sum_{window}"),
            mean.alias(f"{owner}_rating_mean_{window}"),
        ]
    return columns


def _midnight(day: datetime.date) -> SparkColumn:
    return F.lit(datetime.datetime.combine(day, datetime.time(), datetime.UTC))


def _ttl_microseconds(table: FeatureTable) -> int:
    if table.ttl is None:
        raise ValueError(f"table {table.name}: ttl None; a state table needs a finite ttl")
    return round(table.ttl.total_seconds() * _MICROSECONDS)
