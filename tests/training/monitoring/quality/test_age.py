"""How often to retrain: normalised entropy against the age of a version."""

import math

import numpy as np
import pytest

from training.monitoring.quality.age import Seen, age_curve


def seen(daily: float, *, noise: float = 0.002, days_each: int = 6, versions: int = 5, seed=0):
    """Versions one after the other, each better or worse than the others, that grow old alike."""
    random = np.random.default_rng(seed)
    found, day = [], 0
    for number in range(versions):
        level = 0.8 + 0.03 * random.standard_normal()
        for age in range(1, days_each + 1):
            ne = level * math.exp(math.log1p(daily) * age + noise * random.standard_normal())
            found.append(Seen(day=f"d{day:03d}", version=f"v{number}", age_days=age, ne=ne))
            day += 1
    return found


def test_the_age_at_which_a_planted_share_is_lost_is_found():
    curve = age_curve(seen(0.005), loss=0.02)
    assert curve.low < 0.005 < curve.high
    assert curve.daily_loss == pytest.approx(0.005, abs=0.001)
    truth = math.log(1.02) / math.log(1.005)
    assert curve.retrain_after_days == pytest.approx(truth, rel=0.15)
    assert curve.says.startswith("NE has lost 2.0% at the age of ")
    assert "retrain at least as often" in curve.says


def test_the_curve_is_that_of_one_version_whatever_the_versions_levels():
    curve = age_curve(seen(0.01, noise=0.0), loss=0.02)
    assert curve.ages == [1, 2, 3, 4, 5, 6]
    assert curve.ratios == pytest.approx([1.01**age for age in curve.ages])


def test_the_interval_covers_as_often_as_it_says():
    """Of few days it may be a little too narrow."""
    curves = [age_curve(seen(0.004, seed=seed), loss=0.02, draws=300) for seed in range(100)]
    assert sum(curve.low <= 0.004 <= curve.high for curve in curves) >= 85


def test_an_age_beyond_what_was_seen_is_named_as_such():
    assert "older than any version seen (6 days)" in age_curve(seen(0.005), loss=0.2).says


def test_versions_that_do_not_age_ask_for_nothing():
    curve = age_curve(seen(0.0, seed=2), loss=0.02)
    assert curve.retrain_after_days is None
    assert curve.low <= 0 <= curve.high
    assert "nothing asks for more frequent retraining" in curve.says


@pytest.mark.parametrize(
    "few", [[], seen(0.01)[:7], seen(0.01, days_each=1, versions=30), seen(0.01, days_each=2)]
)
def test_too_few_days_or_ages_are_not_enough(few):
    curve = age_curve(few, loss=0.02)
    assert (curve.daily_loss, curve.retrain_after_days, curve.ages) == (None, None, [])
    assert curve.says.startswith("Not enough days to say how often to retrain")
