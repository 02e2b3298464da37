"""Sums over resampled groups of rows, for intervals of whatever is a ratio of sums."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.stats import poisson

FloatArray = npt.NDArray[np.float64]
_GROUPS_AT_ONCE = 2_048
_POISSON = poisson.ppf((np.arange(2**16) + 0.5) / 2**16, 1).astype(np.float32)
"""A Poisson variable of mean 1 at equal steps of its distribution: one for each 16-bit number."""


def bootstrap_sums(
    columns: Callable[[npt.NDArray[np.int64]], FloatArray],
    group: npt.NDArray[np.int64],
    *,
    draws: int,
    seed: int,
) -> FloatArray:
    """Sums of columns over all rows, then over resampled groups: (1 + draws, columns).

    Rows of one user are not independent, so whole users are drawn: each counts in a draw as often
    as a Poisson variable of mean 1 says, independent of the others (Hanley and MacGibbon 2006;
    Chamandy et al. 2012). Ratios of the sums vary as those of a draw with replacement do, but no
    user has to know of another, so memory is bounded by a block of them, however many there are.

    Args:
        columns: Of some rows, all rows of a user among them and next to each other, the values:
            (rows, columns).
        group: (rows,) numbers of the users.
        draws: How many resamples.
        seed: Of the draws; the same seed and users give the same draws for any columns.
    """
    random = np.random.default_rng(seed)
    total: FloatArray | float = 0.0
    for rows, starts in blocks(group):
        sums = np.add.reduceat(columns(rows), starts, axis=0)
        times = _POISSON[random.integers(0, len(_POISSON), (draws, len(sums)), np.uint16)]
        drawn = times @ sums.astype(np.float32)
        total = total + np.concatenate([sums.sum(axis=0, keepdims=True), drawn])
    return np.asarray(total)


def blocks(
    group: npt.NDArray[np.int64],
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The rows of some groups at a time, group by group, and where each group begins in them."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(changes(group[order]))
    for first in range(0, len(starts), _GROUPS_AT_ONCE):
        block = starts[first : first + _GROUPS_AT_ONCE]
        end = starts[first + _GROUPS_AT_ONCE] if first + _GROUPS_AT_ONCE < len(starts) else None
        yield order[block[0] : end], block - block[0]


def changes(values: npt.NDArray[np.int64] | npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Where a value differs from the one before; the first does."""
    changes: npt.NDArray[np.bool_] = np.r_[True, values[1:] != values[:-1]][: len(values)]
    return changes


def interval(draws: FloatArray, *, level: float = 0.95) -> tuple[float, float]:
    """The central interval of bootstrap draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Their ratio; NaN where there is nothing to divide by: a draw may have left a part empty."""
    found = np.full(len(below), np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found
