"""Figures of what was served: their values, their weights and their intervals."""

import dataclasses

import numpy as np
import pytest
from support.quality.quality_logs import scored

from training.metrics import evaluate
from training.monitoring.quality.figures import Resampling, measured_figures, probable_figures

HOW = Resampling(draws=300, seed=3)


def test_without_weights_the_figures_are_those_of_the_gate():
    rows, label = scored(500)
    found = measured_figures(rows, label, HOW)
    gate = evaluate(rows.score, label, rows.user, rows.answer).to_dict()
    expected = {name: gate[name] for name in found if name != "positive_rate"}
    assert {name: found[name]["value"] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert found["positive_rate"]["value"] == pytest.approx(label.mean())


def test_calibrated_scores_have_a_calibration_of_1_within_its_interval():
    rows, label = scored(2_000)
    found = measured_figures(rows, label, HOW)["calibration"]
    assert found["low"] < 1 < found["high"]
    # The count of positives has the variance of the sum of p (1 - p).
    sums = np.float64(rows.score)
    expected = 1.96 * np.sqrt((sums * (1 - sums)).sum()) / sums.sum()
    assert (found["high"] - found["low"]) / 2 == pytest.approx(expected, rel=0.2)


def test_a_row_of_weight_3_counts_as_three_rows_of_weight_1():
    rows, label = scored(60)
    times = np.where(rows.answer % 2, 3, 1)
    weighted = dataclasses.replace(rows, weight=np.float64(times))
    repeated = np.repeat(np.arange(len(rows)), times)
    copies = dataclasses.replace(
        rows,
        score=rows.score[repeated],
        weight=np.ones(len(repeated)),
        user=rows.user[repeated],
        # Copies of an answer are answers of their own.
        answer=rows.answer[repeated] * 10 + np.concatenate([np.arange(n) for n in times]),
        slices={},
    )
    found, expected = (
        measured_figures(some, labels, HOW)
        for some, labels in ((weighted, label), (copies, label[repeated]))
    )
    assert {n: f["value"] for n, f in found.items()} == pytest.approx(
        {n: f["value"] for n, f in expected.items()}
    )


def test_a_log_that_was_sampled_unequally_gives_the_figures_of_all_answers():
    """Of two kinds of answers, one of which is logged always and is ranked much worse."""
    rows, label = scored(8_000)
    is_degraded = rows.answer % 5 == 0
    score = np.where(is_degraded, np.float32(0.6), rows.score)
    everything = dataclasses.replace(rows, score=score, slices={})
    truth = measured_figures(everything, label, HOW)
    probability = np.where(is_degraded, 1.0, 0.1)
    draw = np.random.default_rng(5).random(8_000)[rows.answer]
    is_logged = draw < probability
    logged = dataclasses.replace(everything, weight=1 / probability).take(is_logged)
    weighted = measured_figures(logged, label[is_logged], HOW)
    plain = measured_figures(
        dataclasses.replace(logged, weight=np.ones(len(logged))), label[is_logged], HOW
    )
    for name in ("log_loss", "ne", "calibration", "auc", "request_ndcg_10", "request_mrr"):
        expected = truth[name]["value"]
        # Wider than 95 %: six figures are asked.
        spread = (weighted[name]["high"] - weighted[name]["low"]) * 0.8
        assert abs(weighted[name]["value"] - expected) < spread, name
        assert abs(plain[name]["value"] - expected) > 2 * spread, name


def test_intervals_of_the_auc_cover_as_often_as_they_say():
    """The true AUC of the scores' own probabilities, over logs that are drawn again."""
    rows, _ = scored(50_000, seed=11)
    truth = probable_figures(rows, np.float64(rows.score), Resampling(draws=1))["auc"]["value"]
    inside = 0
    for seed in range(100):
        some, labels = scored(60, seed=100 + seed)
        found = probable_figures(some, np.float64(labels), Resampling(draws=200))["auc"]
        inside += found["low"] <= truth <= found["high"]
    # 95 of 100, less three standard deviations of a count.
    assert inside >= 88


def test_the_same_seed_gives_the_same_intervals_and_another_one_others():
    rows, label = scored(100)
    first, again = (measured_figures(rows, label, HOW) for _ in range(2))
    other = measured_figures(rows, label, dataclasses.replace(HOW, seed=4))
    assert first == again
    assert first["ne"]["value"] == other["ne"]["value"]
    assert first["ne"]["low"] != other["ne"]["low"]


def test_few_answers_have_figures_and_no_intervals():
    rows, label = scored(19)
    found = measured_figures(rows, label, HOW)
    assert found["ne"]["value"] is not None
    assert (found["ne"]["low"], found["ne"]["high"]) == (None, None)
    assert found["gauc"]["low"] is None


def test_labels_of_one_kind_leave_undefined_what_needs_both():
    rows, label = scored(40)
    found = measured_figures(rows, np.zeros_like(label), HOW)
    undefined = {name for name, one in found.items() if one["value"] is None}
    assert undefined == {
        *("ne", "auc", "calibration", "gauc"),
        *("request_ndcg_5", "request_ndcg_10", "request_mrr", "request_gauc"),
    }


def test_without_users_there_is_no_gauc_by_user():
    rows, label = scored(30)
    found = measured_figures(dataclasses.replace(rows, user=None), label, HOW)
    assert "gauc" not in found
    assert found["request_gauc"]["value"] is not None
