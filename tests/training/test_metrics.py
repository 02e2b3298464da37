import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from training.bootstrap import bootstrap_sums, interval
from training.metrics import (
    auc,
    entropy,
    evaluate,
    evaluate_requests,
    group_aucs,
    grouped_auc,
)

RANDOM = np.random.default_rng(0)


def predictions(rows=500):
    label = RANDOM.integers(0, 2, rows)
    # Rounded, so that there are ties.
    score = np.round(RANDOM.uniform(0.02, 0.98, rows), 2).astype(np.float32)
    return score, label, RANDOM.integers(0, 20, rows)


def test_log_loss_and_auc_are_scikit_learns():
    score, label, group = predictions()
    found = evaluate(score, label, group)
    assert found.log_loss == pytest.approx(log_loss(label, np.float64(score)), abs=1e-6)
    assert found.auc == pytest.approx(roc_auc_score(label, score))
    assert found.ne == pytest.approx(found.log_loss / entropy(label.mean()))
    assert found.calibration == pytest.approx(score.mean() / label.mean(), rel=1e-6)


def test_grouped_auc_weights_users_by_rows_and_reports_those_with_one_class():
    label = np.array([1, 0, 1, 1, 0, 1, 0])
    score = np.array([0.9, 0.1, 0.5, 0.6, 0.8, 0.2, 0.3], dtype=np.float32)
    group = np.array([0, 0, 1, 1, 2, 2, 2])
    users = {0: 1.0, 2: 0.0}
    expected = (2 * users[0] + 3 * users[2]) / 5
    assert grouped_auc(score, label, group) == (pytest.approx(expected), pytest.approx(1 / 3))


def test_weights_are_those_of_scikit_learn_and_halves_of_a_row_are_no_pair():
    score, label, group = predictions()
    weight = RANDOM.uniform(0.5, 4, len(label))
    expected = roc_auc_score(label, score, sample_weight=weight)
    assert auc(score, label, weight) == pytest.approx(expected)
    found, sizes = group_aucs(score, label, group, weight)
    by_group = [
        roc_auc_score(label[group == g], score[group == g], sample_weight=weight[group == g])
        for g in range(20)
    ]
    assert (list(found), list(sizes)) == (pytest.approx(by_group), list(np.bincount(group)))
    two = np.array([0.2, 0.8], dtype=np.float32)
    # Pairs are (first positive, second negative), probability 0.12, and the other way, 0.42.
    assert auc(two, np.array([0.3, 0.6])) == pytest.approx(0.42 / 0.54)


def test_one_class_has_no_auc():
    assert np.isnan(auc(np.array([0.1, 0.2], dtype=np.float32), np.array([1, 1])))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="rows: 0"):
        evaluate(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))


def test_a_groups_auc_counts_ties_half_and_does_not_depend_on_the_order():
    score, label, group = predictions(2_000)
    by_group = [roc_auc_score(label[group == g], score[group == g]) for g in range(20)]
    sizes = np.bincount(group)
    expected = (np.array(by_group) * sizes).sum() / sizes.sum()
    assert grouped_auc(score, label, group) == (pytest.approx(expected, rel=1e-12), 0.0)
    order = RANDOM.permutation(len(group))
    assert grouped_auc(score[order], label[order], group[order])[0] == pytest.approx(expected)


def test_scores_that_are_no_numbers_have_no_metrics():
    score, label, group = predictions()
    score[3] = np.nan
    found = evaluate(score, label, group).to_dict()
    assert [found[name] for name in ("log_loss", "ne", "auc", "gauc", "calibration")] == [None] * 5


# The bootstrap


def mean_interval(values, group, *, draws=2_000, seed=0):
    columns = np.stack([values, np.ones(len(values))], axis=1)
    total, count = bootstrap_sums(lambda rows: columns[rows], group, draws=draws, seed=seed).T
    assert total[0] == pytest.approx(values.sum())
    assert count[0] == len(values)
    return interval(total[1:] / count[1:])


def multinomial_interval(values, group, *, draws=2_000):
    """Users drawn with replacement, all at once: what the blocks of the bootstrap stand for."""
    groups = group.max() + 1
    sums, sizes = np.bincount(group, values, groups), np.bincount(group, minlength=groups)
    random = np.random.default_rng(99)
    weights = random.multinomial(groups, np.full(groups, 1 / groups), size=draws)
    return interval((weights @ sums) / (weights @ sizes))


def test_whole_users_are_resampled():
    # Rows of a user are equal: the interval must be that of 30 users, not of 3,000 rows.
    group = np.repeat(np.arange(30), 100)
    values = RANDOM.normal(size=30)[group]
    low, high = mean_interval(values, group)
    expected = 2 * 1.96 * values[::100].std() / np.sqrt(30)
    assert high - low == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("users", [60, 3_000])
def test_intervals_are_those_of_drawing_users_with_replacement(users):
    # 3,000 users are two blocks; sizes differ, and values go with them.
    group = np.sort(RANDOM.integers(0, users, users * 6))
    values = RANDOM.normal(size=users)[group] + RANDOM.normal(size=len(group)) + 1
    found, expected = mean_interval(values, group), multinomial_interval(values, group)
    width = expected[1] - expected[0]
    # Of 2,000 draws, the standard error of either end is 1.5 % of the width.
    assert found == pytest.approx(expected, abs=0.06 * width)


def test_draws_follow_from_the_seed_and_the_users_alone():
    group = RANDOM.integers(0, 40, 500)
    values = RANDOM.normal(size=500)
    order = RANDOM.permutation(500)
    assert mean_interval(values, group) == mean_interval(values, group)
    assert mean_interval(values[order], group[order]) == pytest.approx(mean_interval(values, group))
    assert mean_interval(values, group) != mean_interval(values, group, seed=1)


def test_the_bootstrap_holds_a_block_of_users_at_a_time_however_many_there_are():
    users, largest = 60_000, 0

    def columns(rows):
        nonlocal largest
        largest = max(largest, len(rows))
        return np.ones((len(rows), 1))

    group = np.repeat(np.arange(users), 2)
    tracemalloc.start()
    bootstrap_sums(columns, group, draws=200, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest == 2 * 2_048
    # The draws of all users at once would take 96 MB, those of a block 3.
    assert peak < 16e6


# Requests


def expected_of(score, label, places):
    """NDCG and reciprocal rank by the definition, of scores that are all different."""
    ranked = label[np.argsort(-score)]
    discount = 1 / np.log2(np.arange(2, len(label) + 2))
    best = np.sort(label)[::-1]
    gains = [(ranked * discount)[:k].sum() / (best * discount)[:k].sum() for k in places]
    return [*gains, 1 / (1 + np.flatnonzero(ranked)[0])]


def test_ranking_of_requests_is_as_defined_and_does_not_depend_on_the_order_of_rows():
    sizes = [1, 3, 7, 20, 40, 12] * 30
    request = np.repeat(np.arange(len(sizes)), sizes)
    score = RANDOM.permutation(np.linspace(0.01, 0.99, len(request))).astype(np.float32)
    label = (RANDOM.random(len(request)) < 0.15).astype(np.int64)
    groups = [(score[request == n], label[request == n]) for n in range(len(sizes))]
    good = [expected_of(s, y, (5, 10)) for s, y in groups if y.any()]
    assert 0.1 < 1 - len(good) / len(sizes) < 0.9
    for order in (np.arange(len(request)), RANDOM.permutation(len(request))):
        found = evaluate_requests(score[order], label[order], request[order])
        means = (found.ndcg_5, found.ndcg_10, found.mrr)
        assert means == pytest.approx(np.mean(good, axis=0), abs=1e-9)
        assert found.requests == len(sizes)
        assert found.without_positive == pytest.approx(1 - len(good) / len(sizes))
        assert found.gauc == grouped_auc(score, label, request)[0]


def test_ndcg_is_scikit_learns_with_ties():
    request = np.repeat(np.arange(200), 15)
    score = np.round(RANDOM.random(len(request)), 1).astype(np.float32)
    label = (RANDOM.random(len(request)) < 0.3).astype(np.int64)
    rows = [(label[request == n][None], score[request == n][None]) for n in range(200)]
    found = evaluate_requests(score, label, request)
    kept = [(y, s) for y, s in rows if y.any()]
    for k, mine in ((5, found.ndcg_5), (10, found.ndcg_10)):
        assert mine == pytest.approx(np.mean([ndcg_score(y, s, k=k) for y, s in kept]), abs=1e-9)


def test_equal_predictions_share_their_places():
    same = np.full(4, 0.5, np.float32)
    found = evaluate_requests(same, np.array([0, 0, 1, 0]), np.zeros(4, np.int64))
    discounts = 1 / np.log2(np.arange(2, 6))
    assert found.ndcg_5 == pytest.approx(discounts.mean())
    assert found.mrr == pytest.approx(1 / 2.5)
    assert found.gauc == 0.5


def test_metrics_of_requests_are_there_where_requests_have_an_id():
    score, label, group = predictions()
    alone, both = (evaluate(score, label, group, request) for request in (None, group))
    assert alone.by_request is None
    assert not any("request" in name for name in alone.to_dict())
    found = both.to_dict()
    assert (found["requests"], found["request_gauc"]) == (20, pytest.approx(both.gauc))
    assert {name: value for name, value in found.items() if name in alone.to_dict()} == (
        alone.to_dict()
    )
    no_positive = evaluate(score, np.zeros_like(label), group, group).to_dict()
    assert (no_positive["request_mrr"], no_positive["requests_without_positive"]) == (None, 1.0)
