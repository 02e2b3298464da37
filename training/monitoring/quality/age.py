"""Normalised entropy against the age of a version: how often to retrain.

A version's age on a day is that day minus the newest day that it has learnt. Versions differ, and
what is asked is what age does to one of them, so each is compared with itself: the slope of ln NE
over age, common to all, with a level for each version. Days are drawn for its interval, as what is
special about a day meets every version that answers on it.

Within one version age and date run together: a season looks like age, until versions of different
ages answer on the same days.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from training.bootstrap import FloatArray, bootstrap_sums, interval, ratio

FEWEST_DAYS = 8
FEWEST_AGES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """The normalised entropy of one version on one day."""

    day: str
    version: str
    age_days: int
    ne: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgeCurve:
    """What age does to normalised entropy."""

    ages: list[int]
    ratios: list[float]
    """Of each age: the mean NE, over that which the same version would have at age 0."""
    daily_loss: float | None
    """Share by which NE grows a day; None where there are not enough days."""
    low: float | None
    high: float | None
    retrain_after_days: float | None
    """Age at which NE has lost ``loss``; None: not enough days, or it does not grow."""
    says: str
    """The same in a sentence."""


def age_curve(seen: Sequence[Seen], *, loss: float, draws: int = 2_000, seed: int = 0) -> AgeCurve:
    """The curve of what has been seen of versions on days.

    Args:
        seen: One for each version and day.
        loss: Share of NE whose loss is asked for, above 0.
        draws: Of the bootstrap.
        seed: Of the draws.
    """
    days = sorted({one.day for one in seen})
    ages = sorted({one.age_days for one in seen})
    offsets, levels = _centred(seen)
    if len(days) < FEWEST_DAYS or len(ages) < FEWEST_AGES or not (offsets[:, 0] ** 2).sum():
        return _unknown(len(days), ages)
    number = np.array([days.index(one.day) for one in seen])
    # Within a version, sums of age x age and age x ln NE: their ratio is the slope.
    products = offsets[:, :1] * offsets
    squares, joint = bootstrap_sums(lambda rows: products[rows], number, draws=draws, seed=seed).T
    slopes = ratio(joint, squares)
    slope = float(slopes[0])
    low, high = interval(slopes[1:][np.isfinite(slopes[1:])])
    ratios = np.exp(offsets[:, 1] + slope * levels)
    age = np.array([one.age_days for one in seen])
    return AgeCurve(
        ages=ages,
        ratios=[float(ratios[age == one].mean()) for one in ages],
        daily_loss=math.expm1(slope),
        low=math.expm1(low),
        high=math.expm1(high),
        retrain_after_days=math.log1p(loss) / slope if slope > 0 and low > 0 else None,
        says=_sentence(slope, low, high, loss=loss, oldest=ages[-1]),
    )


def _centred(seen: Sequence[Seen]) -> tuple[FloatArray, FloatArray]:
    """(rows, 2) age and ln NE about their version's means, and that mean age of each row."""
    values = np.array([[one.age_days, math.log(one.ne)] for one in seen]).reshape(-1, 2)
    offsets, levels = np.zeros_like(values), np.zeros(len(seen))
    for version in {one.version for one in seen}:
        rows = np.array([one.version == version for one in seen])
        mean = values[rows].mean(axis=0)
        offsets[rows], levels[rows] = values[rows] - mean, mean[0]
    return offsets, levels


def _unknown(num_days: int, ages: Sequence[int]) -> AgeCurve:
    text = (
        f"Not enough days to say how often to retrain: {num_days} days and {len(ages)} ages of "
        f"versions with final labels; at least {FEWEST_DAYS} days and {FEWEST_AGES} ages, with one "
        "version on several days."
    )
    return AgeCurve(
        ages=[],
        ratios=[],
        daily_loss=None,
        low=None,
        high=None,
        retrain_after_days=None,
        says=text,
    )


def _sentence(slope: float, low: float, high: float, *, loss: float, oldest: int) -> str:
    change = (
        f"NE changes by {math.expm1(slope):+.2%} a day of age ({math.expm1(low):+.2%} to "
        f"{math.expm1(high):+.2%}), up to the age of {oldest} days"
    )
    if low <= 0:
        return f"{change}: no loss by age is shown, and nothing asks for more frequent retraining."
    at, soonest, latest = (math.log1p(loss) / one for one in (slope, high, low))
    beyond = f", which is older than any version seen ({oldest} days)" if at > oldest else ""
    return (
        f"NE has lost {loss:.1%} at the age of {at:.1f} days ({soonest:.1f} to {latest:.1f})"
        f"{beyond}: retrain at least as often. {change}."
    )
