"""What is read of metrics, and what is concluded from it."""

import itertools
import math
import random
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client import Histogram as Exported

from serving.observability import metrics
from serving.release import intervals
from serving.release.analysis import EARLY_LOOKS, LATE_LOOKS, Limits, judge
from serving.release.canary import Canary, _Seen
from serving.release.canary_target import Outcome
from serving.release.intervals import Interval
from serving.release.metrics_window import Histogram, observe, samples

SECONDS, SCORES = "ranking_version_seconds", "ranking_version_mean_score"
REQUESTS = "ranking_version_requests_total"


def pod(complete, failed=0):
    """Metrics of a pod that answered so many, all within 0.1 s and with a score of 0.5."""
    return {
        (REQUESTS, "complete"): complete,
        (REQUESTS, "failed"): failed,
        (f"{SECONDS}_bucket", "0.1"): complete,
        (f"{SECONDS}_bucket", "+Inf"): complete,
        (f"{SCORES}_bucket", "0.5"): complete,
        (f"{SCORES}_bucket", "+Inf"): complete,
        (f"{SCORES}_sum", ""): complete / 2,
    }


def test_pods_are_summed_and_a_pod_that_restarted_or_is_new_counts_from_zero():
    before = {"a": pod(100, 5), "b": pod(50), "gone": pod(70)}
    after = {"a": pod(130, 6), "b": pod(20), "new": pod(3)}
    seen = observe(before, after)
    assert (seen.num_requests - seen.num_failed, seen.num_failed) == (30 + 20 + 3, 1)
    assert seen.seconds.counts == (53, 0)
    assert seen.scores.total == 53 / 2
    assert seen.pairs is None


@pytest.fixture
def exported():
    """A server with two versions, one of which failed once, and one request turned away."""
    registry = CollectorRegistry()
    requests = Counter("ranking_version_requests", "-", ["version", "outcome"], registry=registry)
    Counter("ranking_turned_away", "-", registry=registry).inc()
    Exported("ranking_request_seconds", "-", registry=registry).observe(0.3)
    names = (SECONDS, SCORES, "ranking_pair_score_ratio", "ranking_pair_rank_distance")
    histograms = [Exported(name, "-", ["version"], registry=registry) for name in names]
    for version, outcome in (("one", "complete"), ("one", "failed"), ("other", "degraded")):
        requests.labels(version, outcome).inc()
        for histogram in histograms:
            histogram.labels(version).observe(0.02)
    return generate_latest(registry).decode()


def test_a_version_is_read_of_a_server_that_has_several(exported):
    seen = observe({}, {"server": samples(exported, version="one")})
    assert (seen.num_complete, seen.num_degraded, seen.num_failed) == (1, 0, 1)
    assert (sum(seen.seconds.counts), sum(seen.pairs.score_ratios.counts)) == (2, 2)
    assert seen.pairs.rank_distances.total == pytest.approx(0.04)


def test_a_pod_has_one_version_whole_requests_and_what_it_turned_away(exported):
    seen = observe({}, {"pod": samples(exported)})
    assert (seen.num_complete, seen.num_degraded, seen.num_failed) == (1, 1, 2)
    assert sum(seen.seconds.counts) == 1
    assert seen.pairs is None


def test_text_without_a_series_is_refused_with_its_name(exported):
    with pytest.raises(ValueError, match=f"metrics: no .*{SECONDS}"):
        samples(exported, version="third")


def test_a_quantile_is_linear_within_its_bucket():
    histogram = Histogram(bounds=(0.1, 0.2, math.inf), counts=(50, 50, 0))
    assert histogram.quantile(0.95) == pytest.approx(0.19)
    assert histogram.quantile(0.25) == pytest.approx(0.05)


def test_a_quantile_beyond_the_last_bound_has_no_end_and_of_nothing_is_not_known():
    assert Histogram(bounds=(0.1, math.inf), counts=(1, 99)).quantile(0.95) == math.inf
    assert math.isnan(Histogram(bounds=(0.1, math.inf), counts=(0, 0)).quantile(0.95))


def test_buckets_of_seconds_are_a_quarter_apart_up_to_two_seconds():
    bounds = metrics._FINE_BUCKETS
    assert (bounds[0], bounds[-1] > 2) == (0.0005, True)
    assert max(b / a for a, b in itertools.pairwise(bounds)) < 1.26


def test_the_stability_index_is_the_sum_over_buckets_without_what_chance_adds():
    one = Histogram(bounds=(0.5, math.inf), counts=(8_000, 2_000))
    other = Histogram(bounds=(0.5, math.inf), counts=(6_000, 4_000))
    expected = 0.2 * math.log(0.8 / 0.6) - 0.2 * math.log(0.2 / 0.4)
    seen = intervals.stability_index(one, other, z=2)
    assert seen.value == pytest.approx(expected, rel=2e-3)
    assert seen.low < expected < seen.high
    assert intervals.stability_index(one, one, z=2).value == 0


def test_chances_of_all_looks_together_are_no_more_than_one_was_to_have():
    chances = [0.05 / ((look + 1) * (look + 2)) for look in range(10_000)]
    assert sum(chances) == pytest.approx(0.05, rel=1e-3)
    normal = intervals.NormalDist()
    for look in range(9):
        z = intervals.deviations(0.05, look=look)
        assert 1 - normal.cdf(z) == pytest.approx(chances[look], rel=1e-6)


@pytest.mark.parametrize(("rate", "size"), [(0.001, 2_000), (0.02, 500), (0.3, 100)])
def test_intervals_of_a_share_and_of_a_difference_hold_what_is_true(rate, size):
    """Of 400 draws no more miss than 5 % on both sides together would, by three deviations."""
    chance, missed = random.Random(0), [0, 0]
    for _ in range(400):
        one, other = (sum(chance.random() < rate for _ in range(size)) for _ in range(2))
        seen = [intervals.share(count, size, z=1.96) for count in (one, other)]
        difference = intervals.difference(*seen)
        missed[0] += not seen[0].low <= rate <= seen[0].high
        missed[1] += not difference.low <= 0 <= difference.high
    assert max(missed) <= 0.05 * 400 + 3 * math.sqrt(0.05 * 0.95 * 400)


def test_a_mean_and_a_quantile_of_a_histogram_have_intervals_that_hold_what_is_true():
    chance, missed = random.Random(0), [0, 0]
    bounds = (*(n / 20 for n in range(1, 20)), math.inf)
    for _ in range(400):
        values = [chance.random() for _ in range(300)]
        counts = [
            sum(low < v <= high for v in values)
            for low, high in zip((0, *bounds), bounds, strict=False)
        ]
        histogram = Histogram(bounds=bounds, counts=tuple(counts), total=sum(values))
        mean = intervals.mean(histogram, highest=1.0, z=1.96)
        p90 = intervals.quantile(histogram, 0.9, z=1.96)
        missed[0] += not mean.low <= 0.5 <= mean.high
        missed[1] += not p90.low <= 0.9 <= p90.high
    assert max(missed) <= 0.05 * 400 + 3 * math.sqrt(0.05 * 0.95 * 400)


def test_a_quantile_beyond_the_last_bound_is_known_to_be_at_least_that():
    bounds = (0.1, 2.0, math.inf)
    fast = Histogram(bounds=bounds, counts=(2_000, 0, 0))
    slow = Histogram(bounds=bounds, counts=(0, 0, 2_000))
    found = intervals.quantile(slow, 0.95, z=3)
    assert found == Interval(2.0, 2.0, math.inf)
    ratio = intervals.difference(found.log(), intervals.quantile(fast, 0.95, z=3).log()).exp()
    assert 10 < ratio.low < ratio.high == math.inf
    # Of two that are beyond it nothing is known.
    both = intervals.difference(found, found)
    assert (both.low, both.high) == (-math.inf, math.inf)


def test_of_too_few_values_nothing_is_known():
    few = Histogram(bounds=(0.5, math.inf), counts=(29, 0), total=10.0)
    assert intervals.mean(few, highest=1.0, z=2) is intervals.UNKNOWN
    assert intervals.stability_index(few, few, z=2) is intervals.UNKNOWN
    assert intervals.share(0, 0, z=2) is intervals.UNKNOWN
    nothing = Histogram(bounds=(0.5, math.inf), counts=(0, 0))
    assert intervals.quantile(nothing, 0.95, z=2) is intervals.UNKNOWN
    assert intervals.difference(intervals.UNKNOWN, Interval(1, 0, 2)) is intervals.UNKNOWN
    many = Histogram(bounds=(0.5, math.inf), counts=(99, 0))
    assert intervals.quantile(many, 0.99, z=2).high == math.inf


def test_nothing_is_kept_before_there_are_enough_requests():
    """However good it looks: of nine looks six come before that, to stop what is broken."""
    good = observe({}, {"pod": pod(10_000)})
    states = [
        {finding.state for finding in judge(good, good, limits=Limits(), look=look)}
        for look in range(EARLY_LOOKS + LATE_LOOKS + 1)
    ]
    assert states == [{"open"}] * EARLY_LOOKS + [{"kept"}] * (LATE_LOOKS + 1)


def test_without_requests_no_check_is_kept_at_any_look():
    nothing = observe({}, {"pod": pod(0)})
    for look in range(EARLY_LOOKS + LATE_LOOKS + 1):
        findings = judge(nothing, nothing, limits=Limits(), look=look)
        assert {finding.state for finding in findings} == {"open"}
        assert all("not known; " in str(finding) for finding in findings)
        assert {finding.to_dict()["value"] for finding in findings} == {None}
    seen = _Seen(canary=nothing, control=nothing, is_late=True)
    assert seen.outcome is Outcome.NO_TRAFFIC


@pytest.mark.parametrize(
    ("failed", "outcome"), [(10, Outcome.BROKEN), (1, Outcome.NO_TRAFFIC), (0, Outcome.NO_TRAFFIC)]
)
def test_when_time_is_up_a_few_requests_can_break_a_canary_and_never_pass_it(failed, outcome):
    canary, control = (observe({}, {"pod": pod(10 - bad, bad)}) for bad in (failed, 0))
    tried = Canary(target=SimpleNamespace(quiet_seconds=None), limits=Limits())
    assert tried._look(None, canary, control, is_late=False).outcome is None
    assert tried._look(None, canary, control, is_late=True).outcome is outcome
    many = observe({}, {"pod": pod(1_999)})
    assert tried._look(None, many, many, is_late=True).outcome is Outcome.NO_TRAFFIC


@pytest.mark.parametrize(
    ("num_requests", "seconds", "is_over"),
    [
        (0, 1.9, False),  # too soon to tell
        (0, 2.0, True),
        (1, 2.0, True),  # one stray request must not make a step wait for an hour
        (5, 2.0, True),  # 450 of the canary in an hour; a quarter of 2,000 are 500
        (6, 2.0, False),
        (6, 3_601.0, True),
    ],
)
def test_a_step_waits_only_for_traffic_that_can_be_enough(num_requests, seconds, is_over):
    seen, nothing = (observe({}, {"pod": pod(number)}) for number in (num_requests, 0))
    quiet, strict = (
        Canary(target=SimpleNamespace(quiet_seconds=quiet), limits=Limits())
        for quiet in (2.0, None)
    )
    assert quiet._is_over(5, nothing, seen, seconds=seconds) is is_over
    assert strict._is_over(5, nothing, seen, seconds=seconds) is (seconds > 3_600)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"max_p95_ratio": 1.0}, r"max_p95_ratio: 1.0; above 1"),
        ({"min_requests": 0}, "min_requests: 0; a finite number above 0"),
        ({"min_requests": 99}, "min_requests: 99; at least 100"),
        ({"max_score_change": 1.0}, "max_score_change: 1.0; below 1"),
        ({"max_score_psi": math.inf}, "max_score_psi: inf; a finite number"),
    ],
)
def test_a_limit_under_which_no_canary_can_hold_or_none_can_fail_is_refused(limits, says):
    with pytest.raises(ValueError, match=says):
        Limits(**limits)


def test_what_the_gate_saw_is_what_a_canary_is_held_to():
    assert Limits().with_agreement(None) == Limits().with_agreement({}) == Limits()
    seen = {"score_ratio": 1.04, "rank_correlation": 0.7}
    expected = Limits(expected_score_ratio=1.04, min_rank_correlation=0.35)
    assert Limits().with_agreement(seen) == expected
    assert Limits().with_agreement({"rank_correlation": -0.1}).min_rank_correlation > 0
    unknown = {"score_ratio": None, "rank_correlation": None}
    assert Limits().with_agreement(unknown) == Limits()


def test_a_limit_that_is_given_counts_more_than_what_the_gate_saw():
    given = Limits(expected_score_ratio=0.9, min_rank_correlation=0.6)
    assert given.with_agreement({"score_ratio": 1.04, "rank_correlation": 0.7}) == given
