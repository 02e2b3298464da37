"""The as-of join: the newest feature row that could be counted on at each impression.

Both sides are sorted once per entity by the moment at which they become visible, and a running
maximum over (event, created) carries the newest row along: linear, and two tied rows cannot
multiply an impression. Feast's point-in-time join, a range join, is the oracle in the tests.

The rule of ties, offline as online: a row may be used from its ``created`` on, that moment
included, and until its age is exactly the time-to-live. No row that is created at an impression
knows of it: ``features.schema.schema`` raises for a schema that would allow one.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from features.pipeline.aggregates import row_names
from features.schema import CREATED, EVENT_TIMESTAMP, FeatureTable

_MICROSECONDS = 1_000_000


def join_as_of(
    queries: DataFrame, rows: DataFrame, table: FeatureTable, *, key: str, time: str
) -> DataFrame:
    """Each query with the newest row of its entity that was visible and not expired at its time.

    Args:
        queries: Any rows with ``key`` and ``time``.
        rows: The feature table: ``key``, both times, the table's columns.
        table: The table's declaration, for its columns and time-to-live.
        key: Id column of the entity.
        time: Timestamp column of the queries.

    Returns:
        The queries, as many as before, with the table's columns and its timestamp column; all of
        them null where no row was usable.
    """
    columns = [column.name for column in table.columns]
    visible_at = F.greatest(EVENT_TIMESTAMP, CREATED)
    row = F.struct(*row_names(columns))
    query = F.struct(*queries.columns)
    left = queries.select(
        F.col(key).alias("_key"),
        F.col(time).alias("_at"),
        F.lit(1).alias("_side"),
        query.alias("_query"),
    )
    right = rows.select(
        F.col(key).alias("_key"),
        visible_at.alias("_at"),
        F.lit(0).alias("_side"),
        row.alias("_row"),
    )
    # Rows sort before queries of the same moment: a row visible exactly then may be used.
    so_far = (
        Window.partitionBy("_key")
        .orderBy("_at", "_side")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    both = left.unionByName(right, allowMissingColumns=True)
    joined = both.withColumn("_row", F.max("_row").over(so_far)).where(F.col("_side") == 1)
    usable = F.col("_row").isNotNull()
    if table.ttl is not None:
        age = F.unix_micros("_at") - F.unix_micros(F.col(f"_row.{EVENT_TIMESTAMP}"))
        usable = usable & (age <= round(table.ttl.total_seconds() * _MICROSECONDS))
    timestamp = F.col(f"_row.{EVENT_TIMESTAMP}").alias(table.timestamp_column)
    taken = joined.select("_query.*", F.when(usable, F.col("_row")).alias("_row"))
    return taken.select(
        *queries.columns, timestamp, *(F.col(f"_row.{name}").alias(name) for name in columns)
    )
