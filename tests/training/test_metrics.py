import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from training.metrics import auc, bootstrap_means, entropy, evaluate, grouped_auc, interval

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


def test_one_class_has_no_auc():
    assert np.isnan(auc(np.array([0.1, 0.2], dtype=np.float32), np.array([1, 1])))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="rows: 0"):
        evaluate(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))


def test_whole_users_are_resampled():
    # Rows of a user are equal: the interval must be that of 30 users, not of 3,000 rows.
    group = np.repeat(np.arange(30), 100)
    values = RANDOM.normal(size=30)[group][:, None]
    low, high = interval(bootstrap_means(values, group, draws=4000, seed=0)[:, 0])
    expected = 2 * 1.96 * values[::100].std() / np.sqrt(30)
    assert high - low == pytest.approx(expected, rel=0.15)
