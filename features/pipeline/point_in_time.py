"""The as-of join: the newest feature row that could be counted on at each impression.

Rows of state become visible at any moment. Both sides are sorted once per entity by the moment at
which they become visible, and a running maximum over (event, created) carries the newest row along:
linear, and two tied rows cannot multiply an impression.

Rows of the other tables become visible at few moments, once a day and when they are corrected. Each
entity's newest row from each moment on is made first, from the table alone, and impressions join it
by equality. It is small, or impressions of an entity are spread: no task has all of a popular item.

Feast's point-in-time join, a range join, is the oracle in the tests. The rule of ties, offline as
online: a row may be used from its ``created`` on, that moment included, and until its age is
exactly the time-to-live. No row that is created at an impression knows of it:
``features.schema.schema`` raises for a schema that would allow one.
"""

import datetime
from collections.abc import Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from features.pipeline.aggregates import MICROSECONDS_PER_SECOND, row_names
from features.schema import CREATED, EVENT_TIMESTAMP, FeatureTable, TableKind

_BROADCAST_VALUES = 8_000_000
"""Most values of a table that is sent to every task: 64 MB."""
_SPREAD = 8
"""Over how many keys the impressions of an entity are spread where the table is larger."""


def join_as_of(
    queries: DataFrame,
    rows: DataFrame,
    table: FeatureTable,
    *,
    key: str,
    time: str,
    since: datetime.datetime | None = None,
    is_smaller: bool = True,
) -> DataFrame:
    """Each query with the newest row of its entity that was visible and not expired at its time.

    Args:
        queries: Any rows with ``key`` and ``time``.
        rows: The feature table: ``key``, both times, the table's columns. Of a table that is joined
            by equality the moments at which they become visible are read at once.
        table: The table's declaration, for its kind, columns and time-to-live.
        key: Id column of the entity.
        time: Timestamp column of the queries.
        since: No query is earlier; None where that is not known.
        is_smaller: Whether the table has fewer rows than there are queries. If not, it is joined as
            a table of state: a row a moment would be many, and a popular entity has few queries.

    Returns:
        The queries, as many as before, with the table's columns and its timestamp column; all of
        them null where no row was usable.
    """
    columns = [column.name for column in table.columns]
    row = F.struct(*row_names(columns)).alias("_row")
    visible_at = F.greatest(EVENT_TIMESTAMP, CREATED)
    if table.kind is TableKind.STATE or not is_smaller:
        visible = rows.select(F.col(key).alias("_key"), visible_at.alias("_at"), row)
        joined = _by_running_maximum(queries, visible, key=key, time=time)
    else:
        at = F.unix_micros(visible_at)
        at = F.greatest(at, F.unix_micros(F.lit(since))) if since else at
        visible = rows.select(key, at.alias("_moment"), row)
        joined = _by_moment(queries, visible, table, key=key, time=time)
    usable = F.col("_row").isNotNull()
    if table.ttl is not None:
        usable = usable & (_age(F.unix_micros(time)) <= _microseconds(table.ttl))
    taken = joined.select(*queries.columns, F.when(usable, F.col("_row")).alias("_row"))
    timestamp = F.col(f"_row.{EVENT_TIMESTAMP}").alias(table.timestamp_column)
    return taken.select(
        *queries.columns, timestamp, *(F.col(f"_row.{name}").alias(name) for name in columns)
    )


def _by_running_maximum(
    queries: DataFrame, visible: DataFrame, *, key: str, time: str
) -> DataFrame:
    """The queries with ``_row``, from rows (``_key``, ``_at``, ``_row``)."""
    query = F.struct(*queries.columns).alias("_query")
    left = queries.select(
        F.col(key).alias("_key"), F.col(time).alias("_at"), F.lit(1).alias("_side"), query
    )
    # Rows sort before queries of the same moment: a row visible exactly then may be used.
    right = visible.withColumn("_side", F.lit(0))
    so_far = (
        Window.partitionBy("_key")
        .orderBy("_at", "_side")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    both = left.unionByName(right, allowMissingColumns=True)
    joined = both.withColumn("_row", F.max("_row").over(so_far)).where(F.col("_side") == 1)
    return joined.select("_query.*", "_row")


def _by_moment(
    queries: DataFrame, visible: DataFrame, table: FeatureTable, *, key: str, time: str
) -> DataFrame:
    """The queries with ``_row``, from rows (``key``, ``_moment``, ``_row``) of few moments."""
    counts: dict[int, int] = dict(visible.groupBy("_moment").count().collect())
    moments = sorted(counts)
    newest = _newest_from(visible, moments, table, key=key)
    num_values = max(counts.values(), default=0) * len(moments) * len(table.columns)
    is_small = num_values <= _BROADCAST_VALUES
    asked = queries.withColumn("_moment", _latest(moments, F.unix_micros(time)))
    if is_small:
        return asked.join(F.broadcast(newest), [key, "_moment"], "left")
    parts = F.explode(F.array(*map(F.lit, range(_SPREAD))))
    asked = asked.withColumn("_part", F.pmod(F.xxhash64(time), F.lit(_SPREAD)).cast("int"))
    return asked.join(newest.withColumn("_part", parts), [key, "_moment", "_part"], "left")


def _newest_from(
    visible: DataFrame, moments: Sequence[int], table: FeatureTable, *, key: str
) -> DataFrame:
    """For each entity and moment the newest row that is visible and not expired then.

    An entity has a row a moment here, however many impressions it has.
    """
    of_entity = Window.partitionBy(key).orderBy("_moment")
    so_far = of_entity.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    each = visible.groupBy(key, "_moment").agg(F.max("_row").alias("_row"))
    ranges = each.select(
        key,
        F.col("_moment").alias("_from"),
        F.lead("_moment").over(of_entity).alias("_until"),
        F.max("_row").over(so_far).alias("_row"),
    )

    def holds(moment: SparkColumn) -> SparkColumn:
        until = F.coalesce(F.col("_until"), F.lit(2**63 - 1))
        within = (moment >= F.col("_from")) & (moment < until)
        if table.ttl is not None:
            within = within & (_age(moment) <= _microseconds(table.ttl))
        return within

    known = F.array(*map(F.lit, moments)).cast("array<bigint>")
    return ranges.select(key, F.explode(F.filter(known, holds)).alias("_moment"), "_row")


def _latest(moments: Sequence[int], at: SparkColumn) -> SparkColumn:
    """The last of some moments, in order, that is not after ``at``: a binary search."""
    if len(moments) < 2:
        found = F.lit(moments[0] if moments else None).cast("bigint")
        return F.when(at >= found, found)
    middle = len(moments) // 2
    earlier, later = _latest(moments[:middle], at), _latest(moments[middle:], at)
    return F.when(at < F.lit(moments[middle]), earlier).otherwise(later)


def _age(microseconds: SparkColumn) -> SparkColumn:
    return microseconds - F.unix_micros(F.col(f"_row.{EVENT_TIMESTAMP}"))


def _microseconds(span: datetime.timedelta) -> int:
    return round(span.total_seconds() * MICROSECONDS_PER_SECOND)
