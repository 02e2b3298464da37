"""Rows whose label is not final: what is known of it by the end of a day, and of how many events.

A window is cut into ``STEPS`` equal steps, and a row's age is rounded down to one of them: an event
after that step is not counted yet, although it may have landed. So the share of events that are
known is one number for each step, exactly, whatever the delays between them.
"""

import dataclasses
import datetime
import itertools
import logging
from collections.abc import Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.labels.judged import judged_key
from features.lake.day_rows import Partition
from features.schema import KNOWN_SHARE, LABEL, Immature, Label, Schema

STEPS = 100
FEWEST_DELAYS = 100
"""Positives of mature rows; of fewer, the share that is known is not estimated."""
EVENT_DELAY = "_event_delay"
"""Microseconds from an impression to its event; null where there is none within the window."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImmatureExamples:
    """What a day's run may learn of rows whose label is not final, and by which delays."""

    partition: Partition
    num_delays: int
    """Positives of mature rows whose delays were counted."""
    known_shares: list[float]
    """Share of events known at each hundredth of the window; 0 where there are too few delays."""

    def to_dict(self) -> dict[str, object]:
        """Rows, and the shares at each tenth of the window."""
        shares = {
            f"{step} % of the window": round(self.known_shares[step], 4)
            for step in range(0, 101, 10)
        }
        return {"rows": self.partition.rows, "delays": self.num_delays, "known_shares": shares}


def delays_by_step(mature: DataFrame, label: Label) -> list[int]:
    """How many positives of mature rows have their event by each step and not by the one before.

    Args:
        mature: Rows with ``EVENT_DELAY``, whose window is over.
        label: The label.
    """
    step = F.ceil(F.col(EVENT_DELAY) * STEPS / _window(label)).cast("int").alias("step")
    rows = mature.where(F.col(EVENT_DELAY).isNotNull()).groupBy(step).count().collect()
    found = {row["step"]: row["count"] for row in rows}
    return [found.get(number, 0) for number in range(STEPS + 1)]


def known_shares(delays: Sequence[int]) -> list[float]:
    """Share of all events that are known at each step; 0 at all where there are too few to tell."""
    total = sum(delays)
    if total < FEWEST_DELAYS:
        logger.warning("immature: %d positives in mature rows; %d needed", total, FEWEST_DELAYS)
        return [0.0] * len(delays)
    return [known / total for known in itertools.accumulate(delays)]


def known_rows(
    rows: DataFrame, schema: Schema, shares: Sequence[float], *, until: datetime.datetime
) -> DataFrame:
    """The rows that are learnt at a moment, with ``LABEL`` as known then and ``KNOWN_SHARE``.

    Which ones depends on their age and their request alone, so that the share of positives among
    them is what it is among all.

    Args:
        rows: Impressions with ``EVENT_DELAY``.
        schema: Its target declares ``immature``.
        shares: Of ``known_shares``.
        until: The end of the last day whose events are there.
    """
    label, immature = schema.label, schema.label.immature
    assert immature is not None
    end = F.unix_micros(F.lit(until - label.delay))
    age = F.least(end - F.unix_micros("timestamp"), F.lit(_window(label)))
    step = F.floor(age * STEPS / _window(label)).cast("int")
    is_known = F.col(EVENT_DELAY) * STEPS <= step * _window(label)
    share = F.element_at(F.array(*map(F.lit, shares)), F.greatest(step, F.lit(0)) + 1)
    return (
        rows.where((age >= 0) & ~_is_judged(schema))
        .withColumn(LABEL, F.coalesce(is_known, F.lit(False)).cast("bigint"))
        .withColumn(KNOWN_SHARE, share)
        .where(F.col(KNOWN_SHARE) >= immature.min_known_share)
        .drop(EVENT_DELAY)
    )


def _is_judged(schema: Schema) -> SparkColumn:
    """As ``features.labels.judged.is_judged_key``."""
    key = F.col(judged_key(schema)).cast("string")
    return F.crc32(key) % 100 < Immature.JUDGED_PERCENT


def _window(label: Label) -> int:
    """Of a label, in microseconds."""
    return label.window // datetime.timedelta(microseconds=1)
