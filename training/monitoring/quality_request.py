"""The request of ``python -m training quality``."""

import datetime

from features.options import count, folder, from_flags, option, whole
from features.places import Place
from training.monitoring.quality.verdict import QualityLimits
from training.requests import ReadsLake, Reports

_LIMITS = QualityLimits()


@from_flags
class QualityRequest(Reports, ReadsLake):
    """Measure the quality of a day's answers by the labels that came, or estimate it.

    The answers are those of the prediction log. While labels of the day are not final, its figures
    are estimated from the scores; a later run, of any day, replaces them by measured ones.
    docs/quality.md has the figures and what is read of them.
    """

    date: datetime.date = option("day of the answers (UTC), YYYY-MM-DD")
    log: Place | None = option(
        "the folder of the logs; without it, RANKING_LOG_FOLDER", metavar="DIR", default=None
    )
    due: bool = option(
        "instead of --date the oldest day of the week before it that has no result but "
        "answers; nothing to do where there is none",
        default=False,
    )
    artifacts: Place = folder("artifacts", "the exported rankers")
    open_days: int = option(
        "of so many days before, too, measure those whose labels have become final",
        parse=whole,
        metavar="DAYS",
        default=14,
    )
    min_calibration: float = option(
        "sum of scores over that of labels: a version is broken whose interval is below",
        default=_LIMITS.calibration[0],
    )
    max_calibration: float = option("or above", default=_LIMITS.calibration[1])
    ne_margin: float = option(
        "a version is broken whose NE is shown to be above the champion's at its training by more "
        "than this share of it, or above 1",
        default=_LIMITS.ne_margin,
    )
    min_requests: int = option(
        "fewest judged answers of a version and day", parse=count, default=_LIMITS.min_requests
    )
    nearest_minutes: int = option(
        "where impressions are found by user, item and moment: the farthest",
        parse=count,
        default=30,
    )
    loss: float = option("share of NE after whose loss to retrain", default=0.01)
    curve_days: int = option("days of which NE by age is read", parse=count, default=90)
    draws: int = option("of the bootstrap", parse=count, default=1_000)
    seed: int = option("of the draws", parse=whole, default=0)

    def __post_init__(self) -> None:
        """ValueError for limits that nothing, or everything, keeps."""
        if not 0 < self.loss < 1:
            raise ValueError(f"--loss: {self.loss}; between 0 and 1")
        self.limits()

    def limits(self) -> QualityLimits:
        """The limits that were asked for."""
        return QualityLimits(
            calibration=(self.min_calibration, self.max_calibration),
            ne_margin=self.ne_margin,
            min_requests=self.min_requests,
        )
