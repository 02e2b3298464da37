"""A version is broken when it is shown to be, and not when days are too few to tell."""

import dataclasses

import numpy as np
import pytest
from scipy.special import expit, logit
from support.quality.quality_logs import scored

from training.monitoring.quality.figures import Resampling, measured_figures
from training.monitoring.quality.verdict import QualityLimits, judge

HOW = Resampling(draws=200)
LIMITS = QualityLimits()


def judged(*, shift=0.0, answers=1_000, is_random=False, champion_ne=None, **values):
    """Of scores whose logits were moved, or that say nothing of their labels."""
    rows, label = scored(answers, low=0.2)
    moved = np.float32(expit(logit(rows.score) + shift))
    if is_random:
        moved = np.random.default_rng(1).permutation(moved)
    figures = measured_figures(dataclasses.replace(rows, score=moved), label, HOW)
    given = {"requests": answers, "champion_ne": champion_ne, **values}
    return judge(figures, LIMITS, **given), figures


def test_a_calibrated_version_is_not_broken():
    found, _ = judged()
    assert found.is_broken is False


@pytest.mark.parametrize("shift", [-0.7, 0.7])
def test_a_miscalibrated_version_is_broken_and_the_reason_has_the_interval_and_the_bounds(shift):
    found, figures = judged(shift=shift)
    value = figures["calibration"]["value"]
    assert (value > 1) == (shift > 0)
    assert found.is_broken is True
    assert found.reason.startswith(f"calibration {value:.4f} (")
    assert "bounds 0.8 to 1.25" in found.reason


def test_scores_that_say_nothing_are_broken_by_an_ne_above_1():
    found, figures = judged(is_random=True)
    assert figures["ne"]["low"] > 1
    assert found.is_broken is True
    assert "NE " in found.reason
    assert "at most 1.0000" in found.reason


def test_a_version_that_is_worse_than_the_champion_was_at_its_training_is_broken():
    _, figures = judged()
    ne = figures["ne"]["low"]
    worse, _ = judged(champion_ne=ne / 1.051)
    as_good, _ = judged(champion_ne=ne / 1.049)
    assert (worse.is_broken, as_good.is_broken) == (True, False)


def test_too_few_requests_say_nothing_however_bad_they_are():
    found, _ = judged(shift=3.0, requests=99)
    assert found.is_broken is None
    assert found.reason == "requests: 99 with final labels; at least 100"


def test_an_interval_that_is_not_known_is_no_verdict():
    rows, label = scored(10)
    figures = measured_figures(rows, label, HOW)
    assert judge(figures, LIMITS, requests=100, champion_ne=None).is_broken is None


def test_one_score_that_is_no_probability_is_one_too_many():
    found, _ = judged(bad_scores=1, requests=1)
    assert found.is_broken is True
    assert found.reason == "scores: 1 rows are no probabilities; none may be"


@pytest.mark.parametrize(
    "values", [{"calibration": (1.0, 1.2)}, {"calibration": (0.5, 0.9)}, {"ne_margin": -0.1}]
)
def test_limits_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values)).split("_")[0]):
        QualityLimits(**values)
