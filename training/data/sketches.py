"""Distributions in some hundred numbers: of numbers, of categories, of a share.

Of numbers the distribution function is kept at quantiles of their own, with the weight that lies on
each and between two: exact where there are few different values, and else linear between them. Two
sketches are compared on the union of their values, so days and references of any origin can be.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
AnyFloats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
MOST_VALUES = 128
"""Of a sketch of numbers: values at which the distribution is kept."""
MOST_CATEGORIES = 100
"""Of a sketch of categories: the most frequent, which are counted apart."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbers:
    """How numbers are distributed."""

    values: FloatArray
    """(V,) different values, increasing; the smallest and the largest among them."""
    at: FloatArray
    """(V,) weight of the rows that have exactly this value."""
    between: FloatArray
    """(V,) weight of the rows above the value before and below this one; 0 at the first."""
    missing: float
    """Weight of the rows without a number."""
    rows: float
    """Of equal weight, as many as say as much: (sum of weights)² / (sum of their squares)."""

    @classmethod
    def of(cls, values: AnyFloats, weight: FloatArray) -> "Numbers":
        """Of numbers in any order, NaN where missing, with their weights."""
        order = np.argsort(values, kind="stable")
        known = order[: len(order) - int(np.isnan(values).sum())]
        missing = float(weight.sum() - weight[known].sum())
        return cls.of_sorted(
            values[known].astype(np.float64), weight[known], missing=missing, rows=effective(weight)
        )

    @classmethod
    def of_sorted(
        cls, values: FloatArray, weight: FloatArray, *, missing: float, rows: float
    ) -> "Numbers":
        """Of numbers in increasing order, none missing, with their weights."""
        if not len(values):
            nothing = np.zeros(0)
            return cls(values=nothing, at=nothing, between=nothing, missing=missing, rows=rows)
        starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        distinct, weights = values[starts], np.add.reduceat(weight, starts)
        upto = np.cumsum(weights)
        kept = np.arange(len(distinct))
        if len(distinct) > MOST_VALUES:
            wanted = np.linspace(0, upto[-1], MOST_VALUES)
            kept = np.unique(np.minimum(np.searchsorted(upto, wanted), len(distinct) - 1))
        at = weights[kept]
        between = np.diff(upto[kept], prepend=0.0) - at
        # Sums of weights that differ in their last bit.
        between[between < 1e-9 * upto[-1]] = 0.0
        return cls(values=distinct[kept], at=at, between=between, missing=missing, rows=rows)

    @property
    def total(self) -> float:
        """Weight of the rows that have a number."""
        return float(self.at.sum() + self.between.sum())

    def below_and_upto(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Shares of the numbers that are below each point, and at most it."""
        upto = np.cumsum(self.at + self.between)
        below = upto - self.at
        last = len(self.values) - 1
        right = np.searchsorted(self.values, points, side="left")
        at = np.minimum(right, last)
        is_value = (right <= last) & (self.values[at] == points)
        left = np.maximum(at - 1, 0)
        width = np.where(at > left, self.values[at] - self.values[left], 1.0)
        inside = upto[left] + (points - self.values[left]) / width * self.between[at]
        inside = np.where(right == 0, 0.0, np.where(right > last, upto[last], inside))
        total = upto[last]
        return (
            np.where(is_value, below[at], inside) / total,
            np.where(is_value, upto[at], inside) / total,
        )

    def quantiles(self, shares: FloatArray) -> FloatArray:
        """The values up to which these shares of the numbers lie, linear between those kept."""
        upto = np.cumsum(self.at + self.between)
        wanted = shares * upto[-1]
        right = np.minimum(np.searchsorted(upto, wanted), len(upto) - 1)
        left = np.maximum(right - 1, 0)
        step = np.where(self.between[right] > 0, self.between[right], 1.0)
        part = np.clip((wanted - np.where(right > 0, upto[left], 0.0)) / step, 0.0, 1.0)
        inside = self.values[left] + part * (self.values[right] - self.values[left])
        return np.asarray(np.where(self.between[right] > 0, inside, self.values[right]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Categories:
    """How categories are distributed, each a row of an embedding table."""

    keys: IntArray
    """(C,) the most frequent, by their weight."""
    counts: FloatArray
    """(C,) their weights."""
    rest: float
    """Weight of all others."""
    missing: float
    unknown: float
    """Weight of values that no row of the embedding table stands for."""
    rows: float
    """As of numbers."""

    @classmethod
    def of(cls, keys: IntArray, weight: FloatArray, *, missing: float, rows: float) -> "Categories":
        """Of rows of an embedding table with their weights; 0 is unknown."""
        found, where = np.unique(keys, return_inverse=True)
        counts = np.bincount(where, weight, minlength=len(found)).astype(np.float64)
        is_known = found > 0
        unknown = float(counts[~is_known].sum())
        found, counts = found[is_known], counts[is_known]
        kept = np.lexsort((found, -counts))[:MOST_CATEGORIES]
        return cls(
            keys=found[kept],
            counts=counts[kept],
            rest=float(max(counts.sum() - counts[kept].sum(), 0.0)),
            missing=missing,
            unknown=unknown,
            rows=rows,
        )

    @property
    def total(self) -> float:
        """Weight of all."""
        return float(self.counts.sum() + self.rest + self.missing + self.unknown)

    def cells(self, keys: IntArray) -> FloatArray:
        """Shares of some categories, then of all others, of missing and of unknown values."""
        order = np.argsort(self.keys)
        where = np.minimum(np.searchsorted(self.keys[order], keys), max(len(order) - 1, 0))
        found = np.zeros(len(keys))
        if len(order):
            is_there = self.keys[order][where] == keys
            found = np.where(is_there, self.counts[order][where], 0.0)
        rest = max(float(self.counts.sum() - found.sum()), 0.0) + self.rest
        return np.asarray(np.r_[found, rest, self.missing, self.unknown] / (self.total or 1.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """Which share of the rows has something."""

    with_it: float
    """Weight of these rows."""
    total: float
    rows: float
    """As of numbers."""

    @classmethod
    def of(cls, has_it: AnyFloats, weight: FloatArray) -> "Share":
        """Of 1 or 0 for each row, with the rows' weights."""
        with_it = float((has_it.astype(np.float64) * weight).sum())
        return cls(with_it=with_it, total=float(weight.sum()), rows=effective(weight))

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.with_it / self.total if self.total else 0.0


Sketch = Numbers | Categories | Share


def effective(weight: FloatArray) -> float:
    """Rows of equal weight that say as much: (sum of weights)² / (sum of their squares)."""
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0


def union(sketches: Sequence[Numbers]) -> FloatArray:
    """The values of several sketches, increasing."""
    return np.unique(np.concatenate([sketch.values for sketch in sketches]))
