"""How far a day's distribution is from the reference's: one number for each way in which it can be.

- ``psi``: population stability index, Σ (p - q) ln(p / q), of numbers over tenths of the reference.
- ``ks``: largest distance of the two distribution functions (Kolmogorov and Smirnov).
- ``mann_whitney``: probability that a value of the day is above one of the reference, ties counted
  half; 0.5 where neither is above. It has a sign, and finds small shifts best.
- ``total_variation``: half of Σ |p - q| over categories.
- ``missing``, ``unknown``: shares of the day's rows. ``rate``: a share itself.
"""

import math
from typing import NamedTuple

import numpy as np

from training.data.sketches import Categories, FloatArray, Numbers, Share, Sketch, union

COMPARED_CATEGORIES = 30
"""Of the reference, the most frequent; the others count together."""
_TENTHS = np.arange(1, 10) / 10
_SMALLEST_SHARE = 1e-4
"""In place of an empty cell; as Evidently has it."""
_SD_OF_KS = 0.26
"""Times 1 / sqrt(rows): standard deviation of Kolmogorov's statistic."""
_SD_OF_UNIFORM = 1 / math.sqrt(12)
TWO_SIDED = frozenset({"mann_whitney", "missing", "unknown", "rate"})
"""Of the others, only more is a drift."""


class Statistic(NamedTuple):
    """One number of a day."""

    name: str
    value: float
    sampling_sd: float
    """How far it would vary from day to day if rows were drawn independently, at least."""
    start: float = 0.0
    """Of a distance: about what it is by sampling alone."""

    @property
    def is_two_sided(self) -> bool:
        """Whether less is a drift, too: of a distance it is none."""
        return self.name in TWO_SIDED

    @property
    def scaled(self) -> float:
        """On a scale on which days vary about normally: of a distance its logarithm.

        The distance of a mean that varies is folded at 0, with a long tail upwards; its logarithm
        has none. It starts at what sampling gives, so that nearly nothing does not stand out.
        """
        return self.value if self.is_two_sided else math.log(self.value + self.start)

    @property
    def scaled_sd(self) -> float:
        """``sampling_sd`` on that scale."""
        sd = self.sampling_sd
        return sd if self.is_two_sided else sd / (self.value + self.start)

    def unscaled(self, scaled: float) -> float:
        """The value that is at a point of that scale."""
        return scaled if self.is_two_sided else max(math.exp(min(scaled, 700.0)) - self.start, 0.0)


def statistics(reference: Sketch, day: Sketch) -> list[Statistic]:
    """All statistics of a day's distribution; none where one of the two has no rows.

    Raises:
        ValueError: The two are of different kinds.
    """
    match reference, day:
        case Numbers(), Numbers():
            return _of_numbers(reference, day)
        case Categories(), Categories():
            return _of_categories(reference, day)
        case Share(), Share():
            return [_share("rate", day.share, reference.share, day.rows)] if day.rows else []
    raise ValueError(f"sketches: {type(reference).__name__} and {type(day).__name__}; one kind")


def psi(expected: FloatArray, found: FloatArray) -> float:
    """The population stability index of two distributions over the same cells."""
    is_there = (expected > 0) | (found > 0)
    p = np.where(found[is_there] > 0, found[is_there], _SMALLEST_SHARE)
    q = np.where(expected[is_there] > 0, expected[is_there], _SMALLEST_SHARE)
    return float(((p - q) * np.log(p / q)).sum())


def ks_and_mann_whitney(expected: Numbers, found: Numbers) -> tuple[float, float]:
    """The largest distance of two distribution functions, and which values are above.

    The second is the probability that a value of ``found`` is above one of ``expected``, ties
    counted half.
    """
    points = union([expected, found])
    below_q, upto_q = expected.below_and_upto(points)
    below_p, upto_p = found.below_and_upto(points)
    distance = max(np.abs(below_p - below_q).max(), np.abs(upto_p - upto_q).max())
    on_points = (upto_p - below_p) * (below_q + upto_q) / 2
    # Between two points both functions are linear: the mean of the ends is exact.
    between = (below_p[1:] - upto_p[:-1]) * (upto_q[:-1] + below_q[1:]) / 2
    return float(distance), float(on_points.sum() + between.sum())


def tenths(reference: Numbers) -> FloatArray:
    """The values that cut the reference into at most ten parts of about equal weight."""
    return np.unique(reference.quantiles(_TENTHS))


def _of_numbers(reference: Numbers, day: Numbers) -> list[Statistic]:
    all_rows, known = day.total + day.missing, day.total
    if not all_rows or not (reference.total + reference.missing):
        return []
    was = reference.missing / (reference.total + reference.missing)
    found = [_share("missing", day.missing / all_rows, was, day.rows)]
    if not known or not reference.total:
        return found
    rows = max(day.rows * known / all_rows, 1.0)
    cuts = tenths(reference)
    q, p = (np.diff(np.r_[0.0, one.below_and_upto(cuts)[1], 1.0]) for one in (reference, day))
    distance, above = ks_and_mann_whitney(reference, day)
    sd_above = _SD_OF_UNIFORM * math.sqrt(_spread(day) / rows)
    return [
        *found,
        _psi(q, p, rows),
        Statistic("ks", distance, _SD_OF_KS / math.sqrt(rows), 1 / math.sqrt(rows)),
        Statistic("mann_whitney", above, sd_above),
    ]


def _spread(day: Numbers) -> float:
    """Variance of mid-ranks as a share of that of a uniform variable: less where rows are tied."""
    return max(1.0 - float(((day.at / day.total) ** 3).sum()), 0.0)


def _of_categories(reference: Categories, day: Categories) -> list[Statistic]:
    if not reference.total or not day.total:
        return []
    keys = reference.keys[:COMPARED_CATEGORIES]
    q, p = reference.cells(keys), day.cells(keys)
    rows = max(day.rows, 1.0)
    return [
        _psi(q, p, rows),
        _total_variation(q, p, rows),
        _share("missing", float(p[-2]), float(q[-2]), rows),
        _share("unknown", float(p[-1]), float(q[-1]), rows),
    ]


def _psi(q: FloatArray, p: FloatArray, rows: float) -> Statistic:
    """Rows times it is about a chi-square variable, not central where the two differ."""
    value, freedom = psi(q, p), max(len(q) - 1, 1)
    by_distance = max(rows * value - freedom, 0.0)
    sd = math.sqrt(2 * freedom + 4 * by_distance) / rows
    return Statistic("psi", value, sd, freedom / rows)


def _total_variation(q: FloatArray, p: FloatArray, rows: float) -> Statistic:
    value = float(np.abs(p - q).sum() / 2)
    by_sampling = float(np.sqrt(q * (1 - q)).sum()) / math.sqrt(2 * math.pi * rows)
    return Statistic("total_variation", value, _SD_OF_KS / math.sqrt(rows), by_sampling + 1 / rows)


def _share(name: str, share: float, was: float, rows: float) -> Statistic:
    """A share; half a row more keeps its deviation above 0 where there was none."""
    rows = max(rows, 1.0)
    middles = [(one * rows + 0.5) / (rows + 1) for one in (was, share)]
    return Statistic(name, share, math.sqrt(min(one * (1 - one) for one in middles) / rows))
