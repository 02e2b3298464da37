"""Intervals of what was counted, and a schedule of looks at which they may be read.

An interval that is right 95 times in 100 is right less often when one looks again and again
and stops at the first look that pleases. So the chance of an error is dealt out over the looks, of
which there may be any number: look k, from 0, gets ``chance / ((k + 1) (k + 2))``, and all of them
together get ``chance``. Looks come at doubled numbers of requests, so few are needed.
"""

import dataclasses
import math
from statistics import NormalDist

from serving.release.metrics_window import Histogram

_FEWEST = 30
"""Values below which a mean has no interval: the normal law does not hold for it yet."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and what it may be."""

    value: float
    low: float
    high: float

    def log(self) -> "Interval":
        """The same of the logarithm; what reaches 0 or below may be anything there."""
        return Interval(*(math.log(x) if x > 0 else -math.inf for x in self.as_tuple()))

    def exp(self) -> "Interval":
        """The way back from ``log``."""
        return Interval(*map(math.exp, self.as_tuple()))

    def as_tuple(self) -> tuple[float, float, float]:
        """Estimate, low, high."""
        return self.value, self.low, self.high


UNKNOWN = Interval(math.nan, -math.inf, math.inf)


def deviations(chance: float, *, look: int) -> float:
    """Standard deviations within which a look must stay, on each side.

    Args:
        chance: Of an error on one side, over all looks that there will ever be.
        look: Which one it is, from 0.
    """
    return NormalDist().inv_cdf(1 - chance / ((look + 1) * (look + 2)))


def share(count: int, total: int, *, z: float) -> Interval:
    """A share of requests, by Wilson's score interval, which holds for shares near 0 too."""
    if not total:
        return UNKNOWN
    value, spread = count / total, z * z / total
    middle = (value + spread / 2) / (1 + spread)
    half = math.sqrt(value * (1 - value) * spread + spread * spread / 4) / (1 + spread)
    return Interval(value, max(0.0, middle - half), min(1.0, middle + half))


def mean(histogram: Histogram, *, highest: float, z: float) -> Interval:
    """A mean, exact by the sum; its variance is at most what the buckets allow.

    Args:
        histogram: Of values from 0 to ``highest``.
        highest: The end of the last bucket.
        z: Standard deviations on each side.
    """
    count = sum(histogram.counts)
    if count < _FEWEST:
        return UNKNOWN
    value = histogram.total / count
    squares, low = 0.0, 0.0
    for bound, number in zip(histogram.bounds, histogram.counts, strict=True):
        high = min(bound, highest)
        squares += number * max(abs(low - value), abs(high - value)) ** 2
        low = high
    half = z * math.sqrt(squares) / count
    return Interval(value, value - half, value + half)


def quantile(histogram: Histogram, at: float, *, z: float) -> Interval:
    """A quantile between two order statistics, linear within a bucket.

    Where it may lie in the last bucket, which has no end, it may be anything above, but is no less
    than where that begins.
    """
    count = sum(histogram.counts)
    if not count:
        return UNKNOWN
    half = z * math.sqrt(at * (1 - at) / count)
    value, low, high = (histogram.quantile(x) for x in (at, max(at - half, 0.0), at + half))
    begin = histogram.bounds[-2]
    return Interval(min(value, begin), min(low, begin), high)


def difference(one: Interval, other: Interval) -> Interval:
    """One minus the other, independent of each other, by the method of variance recovery.

    Newcombe, Statistics in Medicine 17 (1998), method 10; for other statistics Zou and Donner,
    Statistics in Medicine 27 (2008).
    """
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    if math.isnan(below) or math.isnan(above):
        return UNKNOWN
    return Interval(value, value - below, value + above)


def stability_index(one: Histogram, other: Histogram, *, z: float) -> Interval:
    """The population stability index of two histograms, without what chance adds to it.

    Of two samples of one distribution it is (buckets - 1)(1/n + 1/m) in the mean, and of two that
    differ it has a non-central chi-squared distribution in these units. ValueError where the
    bounds differ.
    """
    if one.bounds != other.bounds:
        raise ValueError(f"buckets: {one.bounds} and {other.bounds}; the same on both sides")
    n, m = sum(one.counts), sum(other.counts)
    if min(n, m) < _FEWEST:
        return UNKNOWN
    unit = 1 / n + 1 / m
    pairs = [(a, b) for a, b in zip(one.counts, other.counts, strict=True) if a or b]
    first, second = (_smoothed([pair[side] for pair in pairs]) for side in (0, 1))
    found = sum((p - q) * math.log(p / q) for p, q in zip(first, second, strict=True))
    freedom = len(pairs) - 1
    value = max(0.0, found - freedom * unit)
    half = z * math.sqrt(2 * freedom * unit**2 + 4 * value * unit)
    return Interval(value, max(0.0, value - half), value + half)


def _smoothed(counts: list[float]) -> list[float]:
    """Shares; half a value is added to each bucket, so that an empty one has a logarithm."""
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]
