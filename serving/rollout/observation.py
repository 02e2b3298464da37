"""What the pods of one model did in a stretch of time, read from their Prometheus text."""

import bisect
import dataclasses
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, str], float]
"""Value of a series, by its name and its one label's value."""
_REQUESTS, _SECONDS, _SCORES = (
    "ranking_requests_total",
    "ranking_request_seconds_bucket",
    "ranking_mean_score_bucket",
)
_LABELS = {_REQUESTS: "outcome", _SECONDS: "le", _SCORES: "le"}
_OF_A_VERSION = {
    "ranking_version_requests_total": (_REQUESTS, "outcome"),
    "ranking_version_seconds_bucket": (_SECONDS, "le"),
    "ranking_version_mean_score_bucket": (_SCORES, "le"),
}
_OUTCOMES = {"answered": "complete", "failed": "failed"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts between bounds: ``counts[i]`` values were at most ``bounds[i]``, above the one before.

    The last bound is infinity.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    def quantile(self, share: float) -> float | None:
        """The value below which a share lies, linear within a bucket; None where nothing was seen.

        In the last bucket, which has no end, the bound before it.
        """
        total = sum(self.counts)
        if not total:
            return None
        cumulative = [sum(self.counts[: index + 1]) for index in range(len(self.counts))]
        index = bisect.bisect_left(cumulative, share * total)
        below = self.bounds[index - 1] if index else 0.0
        if index == len(self.bounds) - 1:
            return below
        into = (share * total - (cumulative[index] - self.counts[index])) / self.counts[index]
        return below + into * (self.bounds[index] - below)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
    """One model's requests: answered, failed by our own fault, their seconds and mean scores."""

    num_answered: int
    num_failed: int
    seconds: Histogram
    scores: Histogram

    @property
    def num_requests(self) -> int:
        """Answered and failed; what callers got wrong says nothing of a model."""
        return self.num_answered + self.num_failed

    @property
    def error_rate(self) -> float:
        """Share of failures among the requests."""
        return self.num_failed / self.num_requests if self.num_requests else 0.0


def samples(text: str) -> Samples:
    """The series that a rollout needs; ValueError where the text lacks them."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if label := _LABELS.get(sample.name):
                found[sample.name, sample.labels[label]] = sample.value
    _require(found)
    return found


def version_samples(text: str, version: str) -> Samples:
    """As ``samples``, of one version among those that a server has.

    Its seconds are those of scoring: reading features is the same for every version.
    """
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in _OF_A_VERSION and sample.labels["version"] == version:
                name, label = _OF_A_VERSION[sample.name]
                value = sample.labels[label]
                found[name, _OUTCOMES.get(value, value)] = sample.value
    _require(found)
    return found


def _require(found: Samples) -> None:
    missing = sorted({_SECONDS, _SCORES} - {name for name, _ in found})
    if missing:
        raise ValueError(f"metrics: no {', '.join(missing)}; an endpoint of this version has them")


def observe(before: Mapping[str, Samples], after: Mapping[str, Samples]) -> Observation:
    """What happened between two readings of all pods, by pod.

    A pod that is new, or whose counters went back because it restarted, counts from zero.
    """
    total: Samples = {}
    for pod, now in after.items():
        was = before.get(pod, {})
        if any(now.get(key, 0.0) < value for key, value in was.items()):
            was = {}
        for key, value in now.items():
            total[key] = total.get(key, 0.0) + value - was.get(key, 0.0)
    return Observation(
        num_answered=sum(int(total.get((_REQUESTS, one), 0)) for one in ("complete", "degraded")),
        num_failed=int(total.get((_REQUESTS, "failed"), 0)),
        seconds=_histogram(total, _SECONDS),
        scores=_histogram(total, _SCORES),
    )


def _histogram(total: Samples, name: str) -> Histogram:
    cumulative = sorted(
        (float(bound), count) for (series, bound), count in total.items() if series == name
    )
    counts = [count for _, count in cumulative]
    return Histogram(
        bounds=tuple(bound for bound, _ in cumulative),
        counts=tuple(now - was for now, was in zip(counts, [0.0, *counts], strict=False)),
    )
