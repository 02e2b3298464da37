"""How far two rankers agree, against SciPy and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from training.evaluation.agreement import agreement


def of(candidate, champion, group):
    one, other = (np.array(scores, dtype=np.float32) for scores in (candidate, champion))
    return agreement(one, other, np.array(group, dtype=np.int64))


def test_equal_scores_agree_and_doubled_ones_only_in_their_order():
    scores, group = [0.1, 0.3, 0.2, 0.4], [7, 7, 3, 3]
    assert of(scores, scores, group) == {"score_ratio": 1.0, "rank_correlation": 1.0}
    doubled = of([2 * score for score in scores], scores, group)
    assert doubled == pytest.approx({"score_ratio": 2.0, "rank_correlation": 1.0})


def test_scores_dealt_out_within_a_group_keep_the_ratio_and_lose_the_order():
    found = of([0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1])
    assert found == pytest.approx({"score_ratio": 1.0, "rank_correlation": -1.0})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_the_champion_does_not_answer_are_left_out(bad):
    champion, group = [0.1, bad, 0.3, bad, bad], [1, 1, 1, 2, 2]
    found = of([0.1, 0.2, 0.3, 0.2, 0.1], champion, group)
    assert found == pytest.approx({"score_ratio": 1.0, "rank_correlation": 1.0})
    assert of([0.1, 0.2], [bad, bad], [1, 1]) == {"score_ratio": None, "rank_correlation": None}


def test_where_nothing_can_be_said_nothing_is():
    assert of([0.1, 0.2], [0.0, 0.0], [1, 1]) == {"score_ratio": None, "rank_correlation": None}
    assert of([0.1, 0.2], [0.1, 0.2], [1, 2])["rank_correlation"] is None
    assert of([np.nan, 0.2], [0.1, 0.2], [1, 1])["score_ratio"] is None
    # The candidate has lost the order that the champion has.
    assert of([0.1, 0.1], [0.1, 0.2], [1, 1])["rank_correlation"] == 0


_ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(_ROWS)
def test_the_correlation_is_the_mean_of_spearmans_within_groups(rows):
    group, candidate, champion = (np.array(column) for column in zip(*rows, strict=True))
    expected = []
    for one in np.unique(group):
        mine, theirs = candidate[group == one], champion[group == one]
        if len(set(theirs)) > 1:
            expected.append(spearmanr(mine, theirs)[0] if len(set(mine)) > 1 else 0.0)
    found = of(candidate / 10, champion / 10, group)["rank_correlation"]
    assert found == (pytest.approx(np.mean(expected), abs=1e-6) if expected else None)
