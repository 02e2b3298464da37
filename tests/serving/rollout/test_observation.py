"""What is read of pods' metrics, and what is concluded from it."""

import math

import pytest

from serving.rollout.observation import Histogram, observe
from serving.rollout.verdict import Limits, stability_index

SECONDS, SCORES = "ranking_request_seconds_bucket", "ranking_mean_score_bucket"


def pod(complete, failed=0):
    """Counters of a pod that answered so many, all within 0.1 s and with a score to 0.5."""
    return {
        ("ranking_requests_total", "complete"): complete,
        ("ranking_requests_total", "failed"): failed,
        (SECONDS, "0.1"): complete,
        (SECONDS, "+Inf"): complete,
        (SCORES, "0.5"): complete,
        (SCORES, "+Inf"): complete,
    }


def test_pods_are_summed_and_a_pod_that_restarted_or_is_new_counts_from_zero():
    before = {"a": pod(100, 5), "b": pod(50), "gone": pod(70)}
    after = {"a": pod(130, 6), "b": pod(20), "new": pod(3)}
    seen = observe(before, after)
    assert (seen.num_answered, seen.num_failed) == (30 + 20 + 3, 1)
    assert seen.seconds.counts == (53, 0)


def test_a_quantile_is_linear_within_its_bucket():
    histogram = Histogram(bounds=(0.1, 0.2, math.inf), counts=(50, 50, 0))
    assert histogram.quantile(0.95) == pytest.approx(0.19)
    assert histogram.quantile(0.25) == pytest.approx(0.05)


def test_a_quantile_beyond_the_last_bound_is_that_bound_and_of_nothing_is_none():
    assert Histogram(bounds=(0.1, math.inf), counts=(1, 99)).quantile(0.95) == 0.1
    assert Histogram(bounds=(0.1, math.inf), counts=(0, 0)).quantile(0.95) is None


def test_the_stability_index_is_the_sum_over_buckets():
    one = Histogram(bounds=(0.5, math.inf), counts=(8_000, 2_000))
    other = Histogram(bounds=(0.5, math.inf), counts=(6_000, 4_000))
    expected = 0.2 * math.log(0.8 / 0.6) - 0.2 * math.log(0.2 / 0.4)
    assert stability_index(one, other) == pytest.approx(expected, rel=1e-3)
    assert stability_index(one, one) == 0


def test_a_limit_under_which_no_canary_can_hold_is_refused():
    with pytest.raises(ValueError, match=r"max_p95_ratio: 0.5; at least 1"):
        Limits(max_p95_ratio=0.5)
    with pytest.raises(ValueError, match="min_requests: -1; a finite number of at least 0"):
        Limits(min_requests=-1)
