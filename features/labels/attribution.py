"""Which impression an event belongs to, computed with Spark's native functions.

One sort of each key: impressions and events in the order of their moments. The first row after an
impression says all: where it is an event within the window the impression is positive, and where it
is another impression, that one is nearer to whatever follows. So it is linear, however many events
and impressions share a key.
"""

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from features.schema import EXAMPLE_ID, Label

_MICROSECOND = 1_000_000
_IMPRESSION, _EVENT = 0, 1


def with_label(
    impressions: DataFrame,
    events: DataFrame,
    label: Label,
    *,
    later: DataFrame,
    delay_column: str = "",
) -> DataFrame:
    """Impressions with the label's column: 1 where an event belongs to one, else 0.

    An event belongs to the newest impression with the same values in ``label.join`` that is not
    after it, where it comes within the window, its last moment included. Of impressions of one
    moment the one with the largest ``example_id`` has it.

    Args:
        impressions: The impressions to label.
        events: Events from the first impression on, to the last end of a window.
        label: A label that comes later.
        later: Impressions after these, to which an event may belong instead; they are not returned.
        delay_column: Name of a column for the microseconds until the event, null where none
            belongs to the impression; empty: there is none.
    """
    kept = F.struct(*impressions.columns)
    both = (
        impressions.select(*label.join, *_in_order("timestamp", _IMPRESSION), kept.alias("_row"))
        .unionByName(
            later.select(*label.join, *_in_order("timestamp", _IMPRESSION)),
            allowMissingColumns=True,
        )
        .unionByName(
            events.withColumn(EXAMPLE_ID, F.lit(None).cast("bigint")).select(
                *label.join, *_in_order("timestamp", _EVENT)
            ),
            allowMissingColumns=True,
        )
    )
    # An event of an impression's own moment comes after it.
    in_order = Window.partitionBy(*label.join).orderBy("_at", "_side", "_example")
    is_event = F.lead("_side").over(in_order) == _EVENT
    age = F.unix_micros(F.lead("_at").over(in_order)) - F.unix_micros("_at")
    within = is_event & (age <= round(label.window.total_seconds() * _MICROSECOND))
    positive = F.coalesce(within, F.lit(False)).cast("bigint")  # a Spark literal
    added = {label.column: positive} | ({delay_column: F.when(within, age)} if delay_column else {})
    return both.withColumns(added).where(F.col("_row").isNotNull()).select("_row.*", *added)


def _in_order(time: str, side: int) -> tuple[SparkColumn, ...]:
    return (
        F.col(time).alias("_at"),
        F.lit(side).alias("_side"),
        F.col(EXAMPLE_ID).alias("_example"),
    )
