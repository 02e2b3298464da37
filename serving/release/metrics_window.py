"""What a version did in a stretch of time, read from Prometheus text of its pods or its server."""

import bisect
import dataclasses
import itertools
import math
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, str], float]
"""Value of a series, by its name and the value of its label ``le`` or ``outcome``."""
_REQUESTS, _TURNED_AWAY = "ranking_version_requests_total", "ranking_turned_away_total"
_WHOLE_SECONDS, _SECONDS = "ranking_request_seconds", "ranking_version_seconds"
_SCORES = "ranking_version_mean_score"
_RATIOS, _DISTANCES = "ranking_pair_score_ratio", "ranking_pair_rank_distance"
_OF_A_VERSION = (_SECONDS, _SCORES, _RATIOS, _DISTANCES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts between bounds: ``counts[i]`` values were at most ``bounds[i]``, above the one before.

    The last bound is infinity. ``total`` is the sum of the values.
    """

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()
    total: float = 0.0

    def quantile(self, share: float) -> float:
        """The value below which a share lies, linear within a bucket; NaN where nothing was seen.

        Infinity where it lies in the last bucket, which has no end, or the share is above 1.
        """
        count = sum(self.counts)
        if not count:
            return math.nan
        cumulative = list(itertools.accumulate(self.counts))
        index = bisect.bisect_left(cumulative, share * count)
        if index >= len(self.bounds) - 1:
            return math.inf
        below = self.bounds[index - 1] if index else 0.0
        if not self.counts[index]:
            return below
        into = (share * count - (cumulative[index] - self.counts[index])) / self.counts[index]
        return below + into * (self.bounds[index] - below)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """Requests that the control scored too, after the canary had answered."""

    score_ratios: Histogram
    rank_distances: Histogram


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
    """One version's requests: what became of them, their seconds and their mean scores."""

    num_complete: int
    num_degraded: int
    num_failed: int
    """Not answered, for whatever reason but the caller's own fault."""
    seconds: Histogram
    scores: Histogram
    pairs: Pairs | None
    """None on a cluster, whose pods have one version each: no two score the same requests."""

    @property
    def num_requests(self) -> int:
        """Answered and failed; what callers got wrong says nothing of a version."""
        return self.num_complete + self.num_degraded + self.num_failed


def samples(text: str, *, model: str | None = None, version: str | None = None) -> Samples:
    """The series that a rollout needs.

    Args:
        text: Prometheus text of a server.
        model: Of the version; None: a pod, which has one model only.
        version: One of those that the model has. Its seconds are those of scoring: all else is
            the same for every version. None: a pod, which has one version only; then its seconds
            are those of whole requests, and what it turned away is its failure too.

    Raises:
        ValueError: The text lacks a series.
    """
    found: Samples = {}
    wanted = (*_OF_A_VERSION, _REQUESTS) if version else (_WHOLE_SECONDS, _SCORES, _REQUESTS)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name, labels = sample.name, sample.labels
            if model not in {None, labels.get("model")}:
                continue
            if version is None and name == _TURNED_AWAY:
                key = _REQUESTS, "turned away"
                found[key] = found.get(key, 0.0) + sample.value
            elif _stem(name) in wanted and version in {None, labels.get("version")}:
                key = _name_of(name), labels.get("le") or labels.get("outcome", "")
                found[key] = found.get(key, 0.0) + sample.value
    missing = sorted(set(map(_name_of, wanted)) - {_stem(name) for name, _ in found})
    if missing:
        raise ValueError(f"metrics: no {', '.join(missing)}; an endpoint of this version has them")
    return found


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
    is_paired = any(name.startswith(_RATIOS) for name, _ in total)
    failed = (total.get((_REQUESTS, one), 0.0) for one in ("failed", "turned away"))
    return Observation(
        num_complete=int(total.get((_REQUESTS, "complete"), 0.0)),
        num_degraded=int(total.get((_REQUESTS, "degraded"), 0.0)),
        num_failed=int(sum(failed)),
        seconds=_histogram(total, _SECONDS),
        scores=_histogram(total, _SCORES),
        pairs=Pairs(
            score_ratios=_histogram(total, _RATIOS), rank_distances=_histogram(total, _DISTANCES)
        )
        if is_paired
        else None,
    )


def _stem(name: str) -> str:
    return name.removesuffix("_bucket").removesuffix("_sum")


def _name_of(name: str) -> str:
    """Whole requests' seconds stand where those of scoring would."""
    return name.replace(_WHOLE_SECONDS, _SECONDS)


def _histogram(total: Samples, name: str) -> Histogram:
    cumulative = sorted(
        (float(bound), count)
        for (series, bound), count in total.items()
        if series == f"{name}_bucket"
    )
    counts = [count for _, count in cumulative]
    return Histogram(
        bounds=tuple(bound for bound, _ in cumulative),
        counts=tuple(now - was for now, was in zip(counts, [0.0, *counts], strict=False)),
        total=total.get((f"{name}_sum", ""), 0.0),
    )
