"""What every aggregate is made of: which impression counts when, and the columns of its counts.

``user_state`` and ``item_daily`` build on it. The same functions serve the daily job, the bootstrap
over many days and the micro-batch push, so a stream has no second implementation. Sums are integers
and rates are derived from them at the end: no shuffle order can change a bit. An impression counts
when it happens; its label counts once it is known, a negative as late as a positive one.
"""

import datetime
import functools
from collections.abc import Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.schema import CREATED, EVENT_TIMESTAMP, EXAMPLE_ID, FeatureTable, Label, Schema
from features.schema.measures import delays

AT = "_at"
"""When an occurrence counts."""
SUMS = ("_impressions", "_labelled", "_positives", "_rating_sum")
"""The integer sums of occurrences."""
MICROSECONDS_PER_SECOND = 1_000_000


def is_positive(label: Label) -> SparkColumn:
    """1 where the label's source says positive, else 0."""
    return (F.col(label.column) >= label.positive_from).cast("bigint")


def label_delay_days(schema: Schema, table: FeatureTable | None = None) -> datetime.timedelta:
    """Whole days of impressions of which a table, or any, counts what becomes known later."""
    if table and table.is_declared:
        return datetime.timedelta(days=-(-delays(schema, table)[-1] // datetime.timedelta(days=1)))
    return datetime.timedelta(days=max(label.known_after_days for label in schema.labels))


def midnight(day: datetime.date) -> datetime.datetime:
    """The first moment of a day, UTC."""
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC)


def newest_rows(frame: DataFrame, key: str, *groups: SparkColumn) -> DataFrame:
    """The newest row of each entity and group: by event, then by when it could be counted on."""
    columns = [name for name in frame.columns if name not in {key, EVENT_TIMESTAMP, CREATED}]
    row = F.struct(EVENT_TIMESTAMP, CREATED, *columns)
    newest = frame.groupBy(key, *groups).agg(F.max(row).alias("_row"))
    return newest.select(key, *(F.col(f"_row.{name}") for name in row_names(columns)))


def union(frames: Sequence[DataFrame]) -> DataFrame:
    """All rows of at least one frame, by the names of their columns."""
    return functools.reduce(lambda whole, part: whole.unionByName(part), frames)


def row_names(columns: Sequence[str]) -> list[str]:
    """Both times, then the columns."""
    return [EVENT_TIMESTAMP, CREATED, *columns]


def occurrences(schema: Schema, impressions: DataFrame, *, kept: Sequence[str] = ()) -> DataFrame:
    """What counts when: each impression at its moment, each label when it is known.

    Args:
        schema: The data set's schema.
        impressions: Its impressions.
        kept: Other columns of an impression that its label has with it.
    """
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
        **{name: F.col(name) for name in kept},
    }
    types = {field.name: field.dataType for field in impressions.schema.fields}
    defaults = {
        **dict.fromkeys(SUMS, zero),
        "_shown_at": F.lit(None).cast("timestamp"),
        "_item": F.lit(None).cast(types[schema.item.name]),
        "_label": F.lit(None).cast("bigint"),
        **{name: F.lit(None).cast(types[name]) for name in kept},
    }

    def rows(at: SparkColumn, values: dict[str, SparkColumn]) -> DataFrame:
        filled = defaults | values
        named = [value.alias(name) for name, value in filled.items()]
        position = F.lit(schema.history_length).alias("_position")
        return impressions.select(*entities, EXAMPLE_ID, at.alias(AT), position, *named)

    if not label.known_after:
        return rows(F.col("timestamp"), shown | labelled)
    known_at = F.timestamp_micros(
        F.unix_micros("timestamp")
        + round(label.known_after.total_seconds() * MICROSECONDS_PER_SECOND)
    )
    return rows(F.col("timestamp"), shown).unionByName(rows(known_at, labelled))


def carried_sums(owner: str, label: Label, suffix: str = "") -> list[SparkColumn]:
    """The integer sums that a table's all-time counts hold."""
    zero = F.lit(0).cast("bigint")
    names = SUMS if label.has_rating else SUMS[:-1]
    found = {name: F.col(f"{owner}{name}_all") for name in names}
    return [found.get(name, zero).alias(f"{name}{suffix}") for name in SUMS]


def count_columns(owner: str, window: str, label: Label, source: str) -> list[SparkColumn]:
    """The columns of ``derived_tables._counts``, in its order, from integer sums."""
    impressions, labelled, positives, ratings = (
        F.col(source.format(name.removeprefix("_"))) for name in SUMS
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
