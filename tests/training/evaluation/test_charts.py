"""The parts of the chart of calibration."""

import numpy as np
import pytest

from training.evaluation.charts import reliability


@pytest.mark.parametrize("decimals", [2, 7])
def test_the_parts_are_of_equally_many_rows_with_and_without_ties(decimals):
    random = np.random.default_rng(0)
    scores = np.round(random.beta(1, 20, 1_000), decimals).astype(np.float32)
    label = (random.random(1_000) < scores).astype(np.int64)
    predicted, seen = reliability(scores, label)
    ordered = np.sort(scores).reshape(10, 100)
    np.testing.assert_allclose(predicted, ordered.mean(axis=1, dtype=np.float64))
    assert np.mean(seen) == pytest.approx(label.mean())


def test_what_is_not_finite_is_left_out_and_few_rows_are_a_part_each():
    scores = np.array([0.5, np.nan, 1.5, 0.25], dtype=np.float32)
    assert reliability(scores, np.array([1, 1, 0, 0])) == ([0.25, 0.5, 1.5], [0.0, 1.0, 0.0])
    assert reliability(scores[1:2], np.array([1])) == ([], [])
