"""How statistics vary from day to day: center, deviation, rhythm of the week, tails."""

import dataclasses

import numpy as np
import numpy.typing as npt

from training.data.sketches import FloatArray

BASE_DAYS, MIN_DAYS = 28, 14
"""Days that tell the noise: the most, and the fewest with which anything is said."""
_FAR = 5.0
"""Days so many robust deviations from the median are left out of the noise."""
_MOST_FAR = 7
"""Unless more than one day in so many is: that is how days are."""
_OF_NORMAL = 1.4826
"""Standard deviation over median absolute deviation of a normal variable."""
_MOST_ALIKE = 0.9
_WEEKS_DAYS = 21
"""With fewer days no day of the week is told from another."""
_RHYTHM = 0.5
"""Of the deviations from the median, as much is left where each day of the week has its own."""
_LEAST_EXCESS = 0.1
"""Of kurtosis; below it days count as normal."""
Flags = npt.NDArray[np.bool_]
Weekdays = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """How statistics varied over some days; each array has an entry for each statistic."""

    num_days: npt.NDArray[np.int64]
    center: FloatArray
    offsets: FloatArray
    """(7, statistics) what a day of the week adds; 0 where it says little."""
    has_rhythm: Flags
    scale: FloatArray
    """Standard deviation of a day."""
    alike: FloatArray
    """Autocorrelation of days that follow one another, 0 to 0.9."""
    excess: FloatArray
    """Of the kurtosis over that of a normal variable, of all statistics of a kind together."""

    @classmethod
    def of(
        cls, values: FloatArray, weekday: Weekdays, *, sampling_sd: FloatArray, two_sided: Flags
    ) -> "Noise":
        """Of some days.

        Args:
            values: (days, statistics), NaN where a day has none.
            weekday: (days,) 0 to 6.
            sampling_sd: (statistics,) least deviation of a day.
            two_sided: (statistics,) of which kind each is, whose tails are alike.
        """
        if not len(values):
            values, weekday = np.full((1, values.shape[1]), np.nan), np.zeros(1, dtype=np.int64)
        offsets = _offsets(values, weekday)
        kept = _without_far_days(values - offsets[weekday], sampling_sd)
        is_there = np.isfinite(kept)
        num_days = is_there.sum(axis=0)
        has_rhythm = np.asarray((offsets != 0).any(axis=0))
        center = np.where(is_there, kept, 0.0).sum(axis=0) / np.maximum(num_days, 1)
        off = np.where(is_there, kept - center, 0.0)
        squares = (off**2).sum(axis=0)
        scale = np.sqrt(squares / np.maximum(num_days - np.where(has_rhythm, 7, 1), 1))
        products = (off[1:] * off[:-1]).sum(axis=0)
        alike = np.divide(products, squares, out=np.zeros_like(squares), where=squares > 0)
        return cls(
            num_days=num_days,
            center=center,
            offsets=offsets,
            has_rhythm=has_rhythm,
            scale=np.maximum(scale, sampling_sd),
            alike=np.clip(alike, 0.0, _MOST_ALIKE),
            excess=_excess(off, num_days, two_sided),
        )

    @property
    def is_enough(self) -> Flags:
        """Whether there are enough days to say something."""
        return np.asarray(self.num_days >= MIN_DAYS)

    def deviation(self, length: int) -> FloatArray:
        """Predicted, of the mean of so many days from what is expected of them."""
        of_window = _times(self.alike, np.array(length)) / length
        num_days = np.maximum(self.num_days, 1)
        of_center = _times(self.alike, num_days) / num_days
        # The median of one day of the week is of a seventh of the days, and less sure than a mean.
        of_rhythm = 8 / num_days / min(length, 7)
        return np.asarray(
            self.scale * np.sqrt(of_window + np.where(self.has_rhythm, of_rhythm, 0) + of_center)
        )

    def expected(self, weekday: Weekdays) -> FloatArray:
        """(days, statistics) of days of the week."""
        return np.asarray(self.center + self.offsets[weekday])

    def distances(self, recent: FloatArray, weekday: Weekdays) -> FloatArray:
        """Of the mean of the last days, in predicted deviations; NaN where that cannot be said."""
        t = (recent - self.expected(weekday)).mean(axis=0) / self.deviation(len(recent))
        return np.where(self.is_enough, t, np.nan)

    def freedom(self, length: int) -> FloatArray:
        """Degrees of freedom: fewer days and longer tails give fewer.

        Student's distribution has an excess of 6 / (f - 4); that of a mean of days is as many times
        smaller.
        """
        lost = np.where(self.has_rhythm, 7, 1)
        of_days = 1 / np.maximum(self.num_days - lost, 1)
        excess = self.excess / length
        return np.asarray(1 / (of_days + excess / (4 * excess + 6)))


def _offsets(values: FloatArray, weekday: Weekdays) -> FloatArray:
    """(7, statistics) medians of the days of the week, from that of all, where they say much."""
    median = _median(values)
    own = np.stack(
        [_median(values[weekday == day]) if (weekday == day).any() else median for day in range(7)]
    )
    away = np.nansum(np.abs(values - median), axis=0)
    left = np.nansum(np.abs(values - own[weekday]), axis=0)
    is_enough = np.isfinite(values).sum(axis=0) >= _WEEKS_DAYS
    return np.where(is_enough & (left < _RHYTHM * away), own - median, 0.0)


def _without_far_days(values: FloatArray, sampling_sd: FloatArray) -> FloatArray:
    """Days with NaN in place of what is far from the median, where that is rare."""
    median = _median(values)
    deviation = np.maximum(_OF_NORMAL * _median(np.abs(values - median)), sampling_sd)
    is_far = np.abs(values - median) > _FAR * deviation
    is_rare = is_far.sum(axis=0) * _MOST_FAR <= np.isfinite(values).sum(axis=0)
    return np.where(is_far & is_rare, np.nan, values)


def _median(values: FloatArray) -> FloatArray:
    """Of each column without NaN; 0 of one that has nothing else."""
    ordered = np.sort(values, axis=0)
    number = np.isfinite(ordered).sum(axis=0)
    low, high = np.maximum(number - 1, 0) // 2, np.minimum(number // 2, len(values) - 1)
    columns = np.arange(values.shape[1])
    middle = (ordered[low, columns] + ordered[high, columns]) / 2
    return np.where(number > 0, middle, 0.0)


def _times(alike: FloatArray, length: npt.NDArray[np.int64]) -> FloatArray:
    """By how much the variance of a mean of days grows when days that follow are alike."""
    less = 1 - alike
    return np.asarray((1 + alike) / less - 2 * alike * (1 - alike**length) / (length * less**2))


def _excess(off: FloatArray, num_days: npt.NDArray[np.int64], two_sided: Flags) -> FloatArray:
    """Mean excess of kurtosis of the statistics of each kind; 0 where days seem normal."""
    squares = (off**2).sum(axis=0)
    is_known = (num_days >= MIN_DAYS) & (squares > 0)
    kurtosis = np.divide(
        num_days * (off**4).sum(axis=0), squares**2, out=np.zeros(len(squares)), where=is_known
    )
    # What it is of as few normal variables.
    over = kurtosis - 3 * (num_days - 1) / (num_days + 1)
    found = np.zeros(len(squares))
    for kind in (two_sided, ~two_sided):
        if (kind & is_known).any():
            found[kind] = over[kind & is_known].mean()
    return np.where(found > _LEAST_EXCESS, found, 0.0)
