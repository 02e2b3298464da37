"""Whether a canary does as well as the control beside it, by what both did at the same time."""

import dataclasses
import math

from serving.rollout.observation import Histogram, Observation

_P95 = 0.95
_FEWEST = 100
"""Requests of each side below which a p95 or a distribution is chance, whatever is asked for."""
_SMOOTHING = 0.5
"""Added to each bucket, so that one that is empty on one side has a logarithm."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a canary must keep at each step, and how long it may take.

    ``max_score_psi`` bounds the population stability index between the mean scores of both models'
    requests, sum((p - q) ln(p / q)) over buckets. Of two samples of one distribution it is about
    (buckets - 1)(1/n + 1/m): 0.03 at 1,000 requests each.

    ``min_requests`` may be 0, for a place that may have no traffic: a step is then judged on what
    arrived in one pause, by its failures, and from 100 requests of each side on by all checks.
    """

    min_requests: int = 1_000
    max_error_rate_increase: float = 0.005
    max_p95_ratio: float = 1.25
    max_score_psi: float = 0.25
    step_timeout_seconds: float = 3_600.0
    ready_timeout_seconds: float = 900.0

    def __post_init__(self) -> None:
        """Refuse limits under which every canary fails or none can."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            may_be_zero = field.name == "min_requests"
            if not math.isfinite(value) or value < 0 or (value == 0 and not may_be_zero):
                least = "of at least" if may_be_zero else "above"
                raise ValueError(f"{field.name}: {value}; a finite number {least} 0")
        if self.max_p95_ratio < 1:
            raise ValueError(f"max_p95_ratio: {self.max_p95_ratio}; at least 1")


def fails_early(canary: Observation, *, limits: Limits, control: Observation) -> bool:
    """Whether the canary has failed more often already than a whole step of it may."""
    allowed = control.error_rate + limits.max_error_rate_increase
    return canary.num_failed > allowed * max(limits.min_requests, canary.num_requests)


def objections(canary: Observation, *, control: Observation, limits: Limits) -> list[str]:
    """What speaks against the canary, a sentence each; empty where nothing does."""
    found = []
    for name, seen in (("canary", canary), ("control", control)):
        if seen.num_requests < limits.min_requests:
            found.append(f"{name}: {seen.num_requests} requests; at least {limits.min_requests}")
    most = control.error_rate + limits.max_error_rate_increase
    if canary.error_rate > most:
        found.append(
            f"error rate: {canary.error_rate:.4f} of {canary.num_requests} requests; "
            f"at most {most:.4f}, the control has {control.error_rate:.4f}"
        )
    if not limits.min_requests and min(canary.num_answered, control.num_answered) < _FEWEST:
        return found
    p95, p95_of_control = (seen.seconds.quantile(_P95) for seen in (canary, control))
    if p95 is not None and p95_of_control is not None:
        bound = p95_of_control * limits.max_p95_ratio
        if p95 > bound:
            found.append(
                f"p95: {1000 * p95:.1f} ms; at most {1000 * bound:.1f} ms, "
                f"the control has {1000 * p95_of_control:.1f} ms"
            )
    psi = stability_index(canary.scores, control.scores)
    if psi > limits.max_score_psi:
        found.append(f"score distribution: PSI {psi:.3f}; at most {limits.max_score_psi:g}")
    return found


def stability_index(one: Histogram, other: Histogram) -> float:
    """The population stability index of two histograms; ValueError where their bounds differ."""
    if not one.counts or not other.counts:
        return 0.0
    if one.bounds != other.bounds:
        raise ValueError(f"buckets: {one.bounds} and {other.bounds}; the same on both sides")
    first, second = (_shares(histogram) for histogram in (one, other))
    return sum((p - q) * math.log(p / q) for p, q in zip(first, second, strict=True))


def _shares(histogram: Histogram) -> list[float]:
    total = sum(histogram.counts) + _SMOOTHING * len(histogram.counts)
    return [(count + _SMOOTHING) / total for count in histogram.counts]
