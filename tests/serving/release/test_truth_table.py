"""Canaries whose truth is known, drawn 200 times: how often the verdict is right.

Each draw takes the real way through the steps, with the real verdict, on a target that reads the
same metrics as a real one.
"""

import dataclasses
import functools
import itertools
import logging

import numpy as np
import pytest
from tqdm import tqdm

from serving.observability import metrics
from serving.release.analysis import EARLY_LOOKS, Limits, judge
from serving.release.canary import Canary, CanaryError
from serving.release.metrics_window import observe

DRAWS = 200
ERROR_RATE = 0.001
"""Of the control: every server has some."""
SECONDS, SCORES = "ranking_version_seconds", "ranking_version_mean_score"
RATIOS, DISTANCES = "ranking_pair_score_ratio", "ranking_pair_rank_distance"
HISTOGRAMS = {
    SECONDS: metrics.VERSION_SECONDS,
    SCORES: metrics.VERSION_MEAN_SCORE,
    RATIOS: metrics.PAIR_SCORE_RATIO,
    DISTANCES: metrics.PAIR_RANK_DISTANCE,
}
BOUNDS = {
    name: np.array([*histogram._kwargs["buckets"], np.inf])
    for name, histogram in HISTOGRAMS.items()
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
    """A canary, against a control that fails in 0.1 % and takes 4 ms in the median."""

    error_rate: float = ERROR_RATE
    latency_ratio: float = 1.0
    score_ratio: float = 1.0
    is_permuted: bool = False
    has_traffic: bool = True

    def values(self, random, size):
        """So many values of each histogram."""
        scores = random.beta(6, 14, size) * self.score_ratio
        # Of twenty candidates each: two good models mostly agree, chance does not.
        correlations = random.normal(0.0 if self.is_permuted else 0.85, 0.22, size)
        return {
            SECONDS: random.lognormal(np.log(0.004 * self.latency_ratio), 0.5, size),
            SCORES: np.minimum(scores, 1.0),
            RATIOS: np.clip(random.normal(self.score_ratio, 0.03, size), 0.0, 2.0),
            DISTANCES: np.clip(1 - correlations, 0.0, 2.0),
        }


TRUTHS = {
    "equal": Truth(),
    "1 % errors": Truth(error_rate=ERROR_RATE + 0.01),
    "30 % NaN": Truth(error_rate=0.3),
    "2 x latency": Truth(latency_ratio=2.0),
    "scores 20 % higher": Truth(score_ratio=1.2),
    "permuted within a request": Truth(is_permuted=True),
    "no traffic": Truth(has_traffic=False),
}
SEES = {
    "1 % errors": "error rate",
    "30 % NaN": "error rate",
    "2 x latency": "p95",
    "scores 20 % higher": "mean score",
    "permuted within a request": "rank correlation",
    "no traffic": "no traffic",
}


@functools.cache
def laws(truth):
    """Of each histogram the shares of its buckets and the means in them, from 200,000 values."""
    found = {}
    for name, values in truth.values(np.random.default_rng(1), 200_000).items():
        places = np.searchsorted(BOUNDS[name], values, side="left")
        counts = np.bincount(places, minlength=len(BOUNDS[name]))
        sums = np.bincount(places, values, minlength=len(BOUNDS[name]))
        found[name] = (counts / len(values), sums / np.maximum(counts, 1))
    return found


class Series:
    """The metrics of one version, as they grow."""

    def __init__(self, random, truth, names):
        self.random = random
        self.truth = truth
        self.outcomes = np.zeros(3, dtype=np.int64)
        self.counts = {name: np.zeros(len(BOUNDS[name]), dtype=np.int64) for name in names}

    def grow(self, size, num_pairs):
        rate = self.truth.error_rate
        shares = [0.9 * (1 - rate), 0.1 * (1 - rate), rate]
        new = self.random.multinomial(size, shares)
        self.outcomes += new
        for name, counts in self.counts.items():
            number = num_pairs if name in {RATIOS, DISTANCES} else size - new[2]
            counts += self.random.multinomial(number, laws(self.truth)[name][0])

    def samples(self):
        found = {}
        for outcome, number in zip(("complete", "degraded", "failed"), self.outcomes, strict=True):
            found["ranking_version_requests_total", outcome] = float(number)
        for name, counts in self.counts.items():
            running = np.cumsum(counts).tolist()
            keys = [(f"{name}_bucket", str(bound)) for bound in BOUNDS[name]]
            found.update(zip(keys, map(float, running), strict=True))
            found[f"{name}_sum", ""] = float(counts @ laws(self.truth)[name][1])
        return found


class Simulated:
    """A target whose readings find what the looks at 1/16, 1/4, 1, 2 and 4 times enough need."""

    version = "canary"
    pause_seconds = 0.0
    quiet_seconds = None

    def __init__(self, random, truth, *, is_paired):
        self.truth = truth
        self.is_paired = is_paired
        names = (SECONDS, SCORES, RATIOS, DISTANCES) if is_paired else (SECONDS, SCORES)
        self.canary, self.control = (Series(random, one, names) for one in (truth, Truth()))
        self.concluded = None
        self.shares = []

    def begin(self):
        return "control"

    def shift(self, percent, *, timeout_seconds):
        self.shares.append(percent)
        enough = Limits().min_requests
        reached = [0, *(enough * 4**power // 16 for power in range(3)), 2 * enough, 4 * enough]
        self.sizes = iter([0, *np.diff(reached).tolist()])

    def read(self):
        size = next(self.sizes) if self.truth.has_traffic else 0
        # At 95 % one in ten of the canary's answers is scored twice.
        self.canary.grow(size, size // 10)
        self.control.grow(size, 0)
        return {"server": self.canary.samples()}, {"server": self.control.samples()}

    def roll_back(self):
        """Nothing to do."""

    def conclude(self, outcome, reason=""):
        self.concluded = (str(outcome), reason)


def tried(seed, truth, *, is_paired):
    """One draw: what the canary came to, and why."""
    target = Simulated(np.random.default_rng(seed), truth, is_paired=is_paired)
    limits = Limits(step_timeout_seconds=60.0 if truth.has_traffic else 1e-9)
    try:
        Canary(target=target, limits=limits).run()
    except CanaryError:
        assert target.shares == [0, 5]
    return target.concluded


@pytest.mark.parametrize("is_paired", [True, False], ids=["one server", "pods"])
@pytest.mark.parametrize("name", TRUTHS)
def test_the_verdict_is_right_in_95_of_100_draws(name, is_paired, monkeypatch):
    if name == "permuted within a request" and not is_paired:
        pytest.skip("no figure of a pod that scores alone can tell, as docs/endpoint.md says")
    monkeypatch.setattr("serving.release.canary.time.sleep", lambda seconds: None)
    monkeypatch.setattr("serving.release.canary.tqdm", functools.partial(tqdm, disable=True))
    logging.disable(logging.CRITICAL)
    try:
        found = [tried(seed, TRUTHS[name], is_paired=is_paired) for seed in range(DRAWS)]
    finally:
        logging.disable(logging.NOTSET)
    if name == "equal":
        right = [outcome == "passed" for outcome, _ in found]
    else:
        right = [outcome != "passed" and SEES[name] in reason for outcome, reason in found]
    assert sum(right) >= 0.95 * DRAWS


@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_a_canary_that_fails_by_just_the_limit_more_is_rarely_passed(rate):
    """Once half of those with 0.5 % more errors were passed, at the old limit of as much."""
    random = np.random.default_rng(2)
    num_passed = 0
    for _ in range(DRAWS):
        canary = Series(random, Truth(error_rate=rate + 0.005), (SECONDS, SCORES))
        control = Series(random, Truth(error_rate=rate), (SECONDS, SCORES))
        for series in (canary, control):
            series.grow(Limits().min_requests, 0)
        observed = [observe({}, {"": series.samples()}) for series in (canary, control)]
        findings = judge(*observed, limits=Limits(), look=EARLY_LOOKS)
        num_passed += findings[0].state == "kept"
    assert num_passed <= 0.05 * DRAWS


class EndsAfterAStep(Simulated):
    """A server on which nothing is asked, or answered, any more once the first step is passed."""

    quiet_seconds = 1e-9

    def read(self):
        if self.shares[-1] > 5:
            self.sizes = itertools.repeat(0)
        return super().read()


def test_traffic_that_ends_during_a_try_is_a_failure_though_there_may_be_none(monkeypatch):
    monkeypatch.setattr("serving.release.canary.time.sleep", lambda _seconds: None)
    target = EndsAfterAStep(np.random.default_rng(0), Truth(), is_paired=True)
    with pytest.raises(CanaryError, match="canary at 25 %: no traffic"):
        Canary(target=target, limits=Limits()).run()
    assert target.shares == [0, 5, 25]
