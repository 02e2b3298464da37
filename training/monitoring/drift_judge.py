"""Which of a day's statistics are beyond what they were from day to day in the last weeks.

A statistic of the last w days, their mean, is compared with the days before them: its distance from
their mean over its predicted deviation follows Student's distribution if days vary like normal
variables. The deviation is that of the days themselves, at least that of sampling.

- Days that follow one another are alike: the deviation grows with their autocorrelation.
- Where the day of the week says most of how days vary, they are compared with its median.
- Days that stand out by far, such as those of an earlier drift, are left out, if they are few.
- Where days have longer tails than a normal variable, so has the distribution that judges: its
  degrees of freedom follow from the kurtosis of all statistics together.

Windows of one day find what is large at once, longer ones what is small (T. L. Lai, "Sequential
multiple hypothesis testing and efficient fault detection-isolation", 2000: generalised likelihood
ratios over a window).

All statistics share a budget of false alerts (Bonferroni, whatever depends on what): it bounds the
expected number of false alerts, which is what whoever reads them counts, and not their share.
"""

import dataclasses
import datetime
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from training.data.sketches import FloatArray
from training.monitoring.drift_noise import BASE_DAYS, Flags, Noise

WINDOWS = (1, 2, 7)
"""Days whose mean is compared."""
HISTORY_DAYS = BASE_DAYS + max(WINDOWS) - 1
"""Days before a day that its judgement reads."""
FALSE_ALERTS_A_WEEK = 0.25
"""Over all statistics together, in expectation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """Of each statistic of a day; NaN where there are too few days to say."""

    p: FloatArray
    """Probability of at least such a distance without drift, over all windows."""
    alpha: FloatArray
    """Below it there is a drift."""
    window: npt.NDArray[np.int64]
    """Days of the window that stands out most."""
    center: FloatArray
    """Mean of the days that tell the noise."""
    low: FloatArray
    """Bounds of a single day's value; -inf where only more is a drift."""
    high: FloatArray
    num_days: npt.NDArray[np.int64]
    """Days that tell the noise of a single day."""

    @property
    def is_drift(self) -> Flags:
        """Which of them drift."""
        return np.asarray(np.nan_to_num(self.p, nan=1.0) < self.alpha)


def shares_of_budget(is_of_all: Flags) -> FloatArray:
    """The level of each statistic: half of a day's budget goes to those of all rows.

    Args:
        is_of_all: Whether each statistic is of all rows, and not of a slice.
    """
    budget = FALSE_ALERTS_A_WEEK / 7
    num_all, num_others = int(is_of_all.sum()), int((~is_of_all).sum())
    if not num_all or not num_others:
        return np.full(len(is_of_all), budget / max(len(is_of_all), 1))
    return np.where(is_of_all, budget / 2 / num_all, budget / 2 / num_others)


def judge(
    values: FloatArray,
    *,
    days: Sequence[datetime.date],
    sampling_sd: FloatArray,
    two_sided: Flags,
    alpha: FloatArray,
) -> Judged:
    """Judge the last of some days.

    Args:
        values: (days, statistics) oldest first, NaN where a day has none; at least one day.
        days: Which days these are.
        sampling_sd: (statistics,) least deviation of a day.
        two_sided: (statistics,) whether less is a drift, too.
        alpha: (statistics,) level of each.
    """
    size = values.shape[1]
    weekday = np.array([day.weekday() for day in days])
    p, window = np.full(size, np.nan), np.ones(size, dtype=np.int64)
    noises = {
        length: Noise.of(
            values[-length - BASE_DAYS : -length],
            weekday[-length - BASE_DAYS : -length],
            sampling_sd=sampling_sd,
            two_sided=two_sided,
        )
        for length in WINDOWS
        if length == 1 or len(values) > length
    }
    for length, noise in noises.items():
        t = noise.distances(values[-length:], weekday[-length:])
        of_window = _tail(t, noise.freedom(length), two_sided) * len(WINDOWS)
        is_smaller = of_window < np.nan_to_num(p, nan=np.inf)
        p, window = np.where(is_smaller, of_window, p), np.where(is_smaller, length, window)
    noise, sides = noises[1], np.where(two_sided, 2, 1)
    reach = stats.t.isf(alpha / len(WINDOWS) / sides, noise.freedom(1)) * noise.deviation(1)
    center = np.where(noise.is_enough, noise.expected(weekday[-1:])[0], np.nan)
    return Judged(
        p=np.minimum(p, 1.0),
        alpha=alpha,
        window=window,
        center=center,
        low=np.where(two_sided, center - reach, -np.inf),
        high=center + reach,
        num_days=noise.num_days,
    )


def _tail(t: FloatArray, freedom: FloatArray, two_sided: Flags) -> FloatArray:
    """Probability of at least such a distance; NaN stays."""
    both = 2 * stats.t.sf(np.abs(t), freedom)
    return np.asarray(np.where(two_sided, both, stats.t.sf(t, freedom)))
