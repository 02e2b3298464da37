"""Labels: what counts as a positive impression, and when that is known."""

import dataclasses
import datetime
from enum import StrEnum
from typing import ClassVar


class Correction(StrEnum):
    """How a label that is not final is learnt as if it were."""

    INVERSE_PROBABILITY = "inverse_probability"
    """A positive counts as many times as there will be positives for each that is known by then
    (``training.data.immature``)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Immature:
    """Rows whose label is not final are learnt too, corrected for the events to come."""

    JUDGED_PERCENT: ClassVar = 25
    """Of a hundred requests so many are learnt when they are mature, never before, and judge the
    versions. Fixed: with more of them than the day before, a champion would be judged on rows that
    it has learnt."""
    correction: Correction
    min_known_share: float = 0.2
    """A row is learnt from the age on at which this share of its events would be known."""
    delay_days: int = 14
    """How many of the newest mature days say how late events are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """What counts as a positive impression, and when that is known.

    It is in the row of its impression, or it comes later: an event of its own, which lands apart.
    """

    name: str
    column: str
    """Impression column from which the label is read; of one that comes later, its own name:
    impressions that are joined with its events have 1 or 0 there."""
    positive_from: float
    """Smallest value of that column that is a positive."""
    delay: datetime.timedelta
    """From the impression, or from the end of the window, until the label may enter a feature."""
    has_rating: bool = False
    """Whether the column is a graded rating, whose mean is a feature too."""
    prior_rate: float = 0.5
    """Positive rate towards which small counts are smoothed."""
    prior_weight: float = 10.0
    """How many impressions that prior is worth."""
    join: tuple[str, ...] = ()
    """Of a label that comes later: the columns of an impression that its events have too."""
    window: datetime.timedelta = datetime.timedelta(0)
    """So long after an impression an event makes it positive."""
    immature: Immature | None = None
    """Of a target that comes later: how rows are learnt before it is final; None: not at all."""

    @property
    def comes_later(self) -> bool:
        """Whether it is joined from events of its own."""
        return bool(self.join)

    @property
    def known_after(self) -> datetime.timedelta:
        """From an impression until its label may enter a feature, positive or not.

        A positive could be known with its event, and a negative not before the window is over: to
        count positives earlier would make every young rate too high.
        """
        return self.window + self.delay

    @property
    def known_after_days(self) -> int:
        """The same in whole days, rounded up."""
        return -(-self.known_after // datetime.timedelta(days=1))
