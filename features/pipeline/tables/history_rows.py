"""Declared histories of a key as of the end of each day, with Spark's native functions.

A day's list is made of the list at the end of the day before and of what became known on the day.
Within a day impressions are in the order of their moments and, where these are the same, of their
ids: so no order of rows shows. A delay is the same for all impressions of a label, so what becomes
known on a later day was later itself, and the order of days is that of moments.
"""

import datetime

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from features.pipeline.aggregates import newest_rows
from features.pipeline.tables.aggregate_plan import Plan, day_after, list_of
from features.schema import DAY, EXAMPLE_ID, REQUEST_TIME, History
from features.schema.measures import happened, known_after
from features.schema.tables import AGE
from features.spark.session import feature_struct

_PLACE = "_place"
"""Of an entry of the carried row its place from the end, below 0; of a new one 0."""
_ENTRY = "_entry"
_IN_ORDER = (DAY, _PLACE, REQUEST_TIME.name, EXAMPLE_ID)


def history_days(
    plan: Plan,
    history: History,
    *,
    impressions: DataFrame,
    carry: DataFrame,
    carry_day: datetime.date | None,
    last_day: datetime.date,
) -> DataFrame:
    """The list of each key at the end of each day that adds to it, and of the carried day.

    Args:
        plan: Of the table.
        history: One of its histories.
        impressions: Impressions that have the table's key, with what the history keeps of them.
        carry: The table's rows of ``carry_day``.
        carry_day: Newest day before those that are wanted of which the table has rows.
        last_day: The last day that is wanted.

    Returns:
        The key, ``day`` and a column ``list_of(history)``: structs of what is kept, newest first.
    """
    new = _new_entries(plan, history, impressions).where(F.col(DAY) <= F.lit(last_day))
    if carry_day:
        new = new.where(F.col(DAY) > F.lit(carry_day))
    entries = _last_of_each_day(plan, history, new)
    entries = entries.unionByName(_carried_entries(plan, history, carry, carry_day))
    in_order = Window.partitionBy(plan.key).orderBy(*_IN_ORDER)
    last = F.collect_list(_ENTRY).over(in_order.rowsBetween(1 - history.length, 0))
    is_last_of_day = ~F.lead(DAY).over(in_order).eqNullSafe(F.col(DAY))
    lists = entries.select(plan.key, DAY, last.alias("_list"), is_last_of_day.alias("_is_last"))
    newest_first = F.reverse("_list").alias(list_of(history))
    return lists.where("_is_last").select(plan.key, DAY, newest_first)


def _new_entries(plan: Plan, history: History, impressions: DataFrame) -> DataFrame:
    """A row for each impression that a history is of and that has all that it keeps."""
    measure = happened(history.of, plan.labels)
    kept = {name: F.col(name) for name in history.columns if name != AGE}
    whole = impressions.where(plan.value(measure) > 0)
    for column in kept.values():
        whole = whole.where(column.isNotNull())
    values = {**kept, AGE: F.unix_micros(REQUEST_TIME.name)}
    return whole.select(
        plan.key,
        day_after(known_after(plan.schema, measure)),
        F.lit(0).alias(_PLACE),
        REQUEST_TIME.name,
        EXAMPLE_ID,
        F.struct(*(values[name].alias(name) for name in history.columns)).alias(_ENTRY),
    )


def _last_of_each_day(plan: Plan, history: History, entries: DataFrame) -> DataFrame:
    """The entries that can be in a list: of a key with millions on a day few are sorted."""
    backwards = (F.desc(name) for name in (REQUEST_TIME.name, EXAMPLE_ID))
    place = F.row_number().over(Window.partitionBy(plan.key, DAY).orderBy(*backwards))
    numbered = entries.withColumn("_number", place)
    return numbered.where(F.col("_number") <= history.length).drop("_number")


def _carried_entries(
    plan: Plan, history: History, carry: DataFrame, carry_day: datetime.date | None
) -> DataFrame:
    """The entries of each key's newest earlier row, as of its day."""
    names = {name: f"{history.name}_{name}" for name in history.columns}
    rows = carry.select(*feature_struct(plan.schema, plan.table).names)
    zipped = F.posexplode(F.arrays_zip(*names.values())).alias("_position", "_values")
    values = (F.col(f"_values.{column}").alias(name) for name, column in names.items())
    return (
        newest_rows(rows, plan.key)
        .select(plan.key, zipped)
        .select(
            plan.key,
            F.lit(carry_day).cast("date").alias(DAY),
            (-1 - F.col("_position")).alias(_PLACE),
            F.lit(None).cast("timestamp").alias(REQUEST_TIME.name),
            F.lit(None).cast("bigint").alias(EXAMPLE_ID),
            F.struct(*values).alias(_ENTRY),
        )
    )
