"""Figures before the labels have come, from scores alone."""

import dataclasses

import numpy as np
import pytest
from scipy.special import expit, logit
from support.quality.quality_logs import scored

from training.metrics import auc
from training.monitoring.quality.estimate import estimated_figures, logit_shift
from training.monitoring.quality.figures import Resampling, measured_figures

HOW = Resampling(draws=100)


def test_on_calibrated_scores_the_estimate_is_what_labels_show_within_their_chance():
    rows, label = scored(2_000)
    estimated = estimated_figures(rows, HOW)
    measured = measured_figures(rows, label, HOW)
    score = np.float64(rows.score)
    positives, negatives = score.sum(), (1 - score).sum()
    # Of an AUC, given the scores: at most A (1 - A) over the smaller class (Birnbaum and Klose).
    auc = estimated["auc"]["value"]
    tolerances = {
        "auc": 4 * np.sqrt(auc * (1 - auc) / min(positives, negatives)),
        "positive_rate": 4 * np.sqrt((score * (1 - score)).sum()) / len(score),
        "log_loss": 4 * np.sqrt((score * (1 - score) * logit(score) ** 2).sum()) / len(score),
    }
    for name, tolerance in tolerances.items():
        assert abs(estimated[name]["value"] - measured[name]["value"]) < tolerance < 0.05, name


def test_the_expected_auc_is_the_mean_over_labels_that_are_drawn_from_the_scores():
    rows, _ = scored(20)
    random = np.random.default_rng(2)
    labels = (random.random((2_000, len(rows))) < rows.score).astype(np.int64)
    drawn = [auc(rows.score, label) for label in labels]
    tolerance = 4 * np.std(drawn) / np.sqrt(len(drawn))
    assert estimated_figures(rows, HOW)["auc"]["value"] == pytest.approx(
        np.mean(drawn), abs=tolerance
    )


def test_weights_count_in_the_estimate():
    rows, _ = scored(400)
    heavy = np.where(rows.answer < 200, 1.0, 9.0)
    weighted = estimated_figures(dataclasses.replace(rows, weight=heavy), HOW)
    repeated = rows.take(np.ones(len(rows), bool))
    order = np.repeat(np.arange(len(rows)), heavy.astype(int))
    copies = dataclasses.replace(
        repeated,
        score=rows.score[order],
        weight=np.ones(len(order)),
        answer=rows.answer[order],
        user=rows.user[order],
        slices={},
    )
    found = estimated_figures(copies, HOW)
    for name in ("log_loss", "ne", "positive_rate"):
        assert weighted[name]["value"] == pytest.approx(found[name]["value"]), name
    # Pairs of copies of one row are pairs there, and none here.
    assert weighted["auc"]["value"] == pytest.approx(found["auc"]["value"], abs=1e-3)


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.7])
def test_the_shift_of_scores_that_are_off_is_found_and_mends_the_estimate(shift):
    rows, label = scored(5_000, low=0.2)
    off = dataclasses.replace(rows, score=np.float32(expit(logit(rows.score) - shift)))
    found = logit_shift(off, label)
    assert found == pytest.approx(shift, abs=0.08)
    measured = measured_figures(off, label, HOW)
    mended = estimated_figures(off, HOW, shift=found)
    assert mended["positive_rate"]["value"] == pytest.approx(label.mean(), abs=1e-6)
    assert mended["log_loss"]["value"] == pytest.approx(measured["log_loss"]["value"], abs=0.01)
    if shift:
        plain = estimated_figures(off, HOW)
        assert abs(plain["log_loss"]["value"] - measured["log_loss"]["value"]) > 0.03


def test_no_shift_makes_labels_of_one_kind():
    rows, label = scored(10)
    assert logit_shift(rows, np.zeros_like(label)) is None
    assert logit_shift(rows, np.ones_like(label)) is None
