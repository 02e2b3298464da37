"""Prometheus metrics of the endpoint; KServe serves them at /metrics with its own.

What belongs to a model has the label ``model``, always the first: the name of its data set. It is
empty in the counts of calls that were rejected before it was known which model they ask for.
"""

import dataclasses
import functools
from typing import Protocol, TypeVar, cast

from prometheus_client import Counter, Gauge, Histogram

Metric = TypeVar("Metric", Counter, Gauge, Histogram)


class _Series(Protocol):
    def __call__(self, metric: Metric, /, *labels: str) -> Metric: ...


_labelled = functools.cache(lambda metric, *labels: metric.labels(*labels))
series = cast(_Series, _labelled)
"""The series of a metric and its labels, looked up once: a request counts in twenty."""
forget_series = _labelled.cache_clear
"""To be called where some were removed: they would count for no one."""

REQUESTS = Counter(
    "ranking_requests",
    "Requests, by outcome: complete, degraded, rejected, failed.",
    ["model", "outcome"],
)
FEATURE_ROWS = Counter(
    "ranking_feature_rows",
    "Feature rows read for requests, by table and status.",
    ["model", "table", "status"],
)
MISSING_CONTEXT = Counter(
    "ranking_missing_context",
    "Requests without a usable value of a context column.",
    ["model", "column"],
)
ERRORS = Counter(
    "ranking_errors",
    "Calls of any kind that got an error, by transport (rest, grpc) and code.",
    ["model", "transport", "code"],
)
TURNED_AWAY = Counter(
    "ranking_turned_away",
    "Requests to infer that found every place taken, before it was known who would answer them.",
    ["model"],
)
ANSWERS = Counter(
    "ranking_answers", "Requests to infer answered, by model version.", ["model", "version"]
)
WORKERS = Gauge("ranking_workers", "Processes that answer requests.", multiprocess_mode="livemax")
WORKER_RESTARTS = Counter(
    "ranking_worker_restarts", "Workers that ended unasked, and were replaced if not too often."
)
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FINE_BUCKETS = tuple(round(0.0005 * 1.25**power, 6) for power in range(39))
"""Seconds, 0.5 ms to 2.4 s: a percentile that a rollout compares is known to a quarter at worst."""
REQUEST_SECONDS = Histogram(
    "ranking_admitted_seconds",
    "Time of a request to infer from its head to its answer or error.",
    ["model"],
    buckets=_BUCKETS,
)
STAGE_SECONDS = Histogram(
    "ranking_stage_seconds",
    "Time of a stage: receive the body, features (check, read), score (with the inputs), respond.",
    ["model", "stage"],
    buckets=_BUCKETS,
)
VERSION = Gauge("ranking_model_version", "1 for the version of the champion.", ["model", "version"])
SHARE = Gauge(
    "ranking_version_share",
    "Percent of the requests that a loaded version has in a role: champion, canary, shadow.",
    ["model", "role", "version"],
)
IN_FLIGHT = Gauge(
    "ranking_requests_in_flight",
    "Requests to infer that have a place: there whole, not answered.",
    ["model"],
    multiprocess_mode="livesum",
)
LOADS = Counter(
    "ranking_loads", "Loads of the champion, by outcome: swapped, failed.", ["model", "outcome"]
)
SECONDS = Histogram(
    "ranking_request_seconds",
    "Time to answer a request to infer, from the decoded request to the answer.",
    ["model"],
    buckets=_FINE_BUCKETS,
)
MEAN_SCORE_BUCKETS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
)
MEAN_SCORE = Histogram(
    "ranking_mean_score",
    "Mean score of a request's candidates; one value a request, so that values are independent.",
    ["model"],
    buckets=MEAN_SCORE_BUCKETS,
)

VERSION_REQUESTS = Counter(
    "ranking_version_requests",
    "Requests that a version was to answer, by outcome: complete, degraded, failed.",
    ["model", "version", "outcome"],
)
VERSION_SECONDS = Histogram(
    "ranking_version_seconds",
    "Time in which a version scored a request: without the wait for a thread, but where it failed.",
    ["model", "version"],
    buckets=_FINE_BUCKETS,
)
VERSION_MEAN_SCORE = Histogram(
    "ranking_version_mean_score",
    "As ranking_mean_score, by the version that scored.",
    ["model", "version"],
    buckets=MEAN_SCORE_BUCKETS,
)
PAIR_SCORE_RATIO = Histogram(
    "ranking_pair_score_ratio",
    "Mean score of a canary's answer over the champion's for the same request; 2 where above.",
    ["model", "version"],
    buckets=(0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.2, 1.3, 1.5, 1.75),
)
PAIR_RANK_DISTANCE = Histogram(
    "ranking_pair_rank_distance",
    "1 minus Spearman's rank correlation of both scores of a request: 0 equal, 1 chance.",
    ["model", "version"],
    # Not the correlation itself: a histogram with negative bounds has no sum.
    buckets=(0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5),
)
PAIRS = Counter(
    "ranking_pairs",
    "Answers of a canary that the champion was to score too: scored, dropped, failed, hung.",
    ["model", "outcome"],
)
PAIRS_WAITING = Gauge(
    "ranking_pairs_waiting",
    "Answers of a canary that wait for the champion.",
    ["model"],
    multiprocess_mode="livesum",
)
PAIRS_HUNG = Gauge(
    "ranking_pairs_hung",
    "1 when the champion hung while it scored an answer of a canary, else 0.",
    ["model"],
    multiprocess_mode="livemax",
)
PAIR_SECONDS = Histogram(
    "ranking_pair_seconds",
    "Time of the champion for an answer of a canary.",
    ["model"],
    buckets=_BUCKETS,
)
SHADOW = Counter(
    "ranking_shadow_requests",
    "Requests mirrored to the challenger, by outcome: scored, dropped, failed, hung.",
    ["model", "outcome"],
)
SHADOW_WAITING = Gauge(
    "ranking_shadow_waiting",
    "Mirrored requests that wait for the challenger.",
    ["model"],
    multiprocess_mode="livesum",
)
SHADOW_HUNG = Gauge(
    "ranking_shadow_hung",
    "1 where the challenger did not come back and is given up, else 0.",
    ["model"],
    multiprocess_mode="livemax",
)
SHADOW_SECONDS = Histogram(
    "ranking_shadow_seconds", "Time of the challenger for a request.", ["model"], buckets=_BUCKETS
)
SHADOW_DIFFERENCE = Histogram(
    "ranking_shadow_difference",
    "Mean absolute difference between the challenger's scores of a request and the answer's.",
    ["model"],
    buckets=(0.0001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
)
SHADOW_CORRELATION = Histogram(
    "ranking_shadow_rank_correlation",
    "Spearman's rank correlation between both, of requests with two candidates or more.",
    ["model"],
    buckets=(-0.5, 0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999),
)
LOGGED = Counter(
    "ranking_logged_answers",
    "Answers chosen for the request log, by outcome: written, dropped, failed.",
    ["model", "outcome"],
)

STORE_READS = Counter(
    "ranking_store_reads",
    "Reads of the online store for requests: done, failed, late (out of its time), "
    "skipped (after several that failed).",
    ["model", "outcome"],
)
FLAGGED = Counter(
    "ranking_flagged_answers",
    "Answers without the store (store_unavailable), or from old items (items_stale).",
    ["model", "flag"],
)
BATCH_REQUESTS = Histogram(
    "ranking_batch_requests",
    "Requests that were scored together.",
    ["model"],
    buckets=(1, 2, 3, 4, 6, 8, 12, 16, 32, 64),
)
READ_REQUESTS = Histogram(
    "ranking_read_requests",
    "Requests whose rows were read from the store together.",
    ["model"],
    buckets=(1, 2, 3, 4, 6, 8, 12, 16, 32, 64),
)
DROPPED = Counter(
    "ranking_dropped_requests",
    "Requests whose time was up, or whose caller left, before a thread began with them.",
    ["model"],
)
CONNECTIONS = Gauge("ranking_connections", "Connections over REST.", multiprocess_mode="livesum")
ABANDONED = Counter(
    "ranking_abandoned_requests",
    "Requests to infer whose time was up or whose caller left before the answer.",
    ["model"],
)
ITEMS_AGE = Gauge(
    "ranking_items_age_seconds",
    "Since the items in memory were last found equal to the store's; NaN where there are none.",
    ["model"],
)
ITEMS_ROWS = Gauge("ranking_items_rows", "Items in memory.", ["model"])
ITEMS_BYTES = Gauge("ranking_items_bytes", "Memory of the items, raw and encoded.", ["model"])
ITEMS_FAILING = Gauge(
    "ranking_items_failing",
    "1 where the last look at the store's items failed, else 0.",
    ["model"],
    multiprocess_mode="livemax",
)
ITEM_REFRESHES = Counter(
    "ranking_item_refreshes",
    "Loads of items into memory: swapped (all), renewed (what was written), failed, too_many "
    "(they are read for each request).",
    ["model", "outcome"],
)


@dataclasses.dataclass(frozen=True)
class Copies:
    """The series of requests that a second model scores after the first has answered."""

    requests: Counter
    waiting: Gauge
    seconds: Histogram
    hung: Gauge


SHADOW_COPIES = Copies(SHADOW, SHADOW_WAITING, SHADOW_SECONDS, SHADOW_HUNG)
PAIR_COPIES = Copies(PAIRS, PAIRS_WAITING, PAIR_SECONDS, PAIRS_HUNG)

_OUTCOMES = (
    (REQUESTS, ("complete", "degraded", "rejected", "failed")),
    (LOADS, ("swapped", "failed")),
    (LOGGED, ("written", "dropped", "failed")),
    (STORE_READS, ("done", "failed", "late", "skipped")),
    (FLAGGED, ("store_unavailable", "items_stale")),
    (ITEM_REFRESHES, ("swapped", "renewed", "failed", "too_many")),
    (SHADOW, ("scored", "dropped", "failed", "hung")),
    (PAIRS, ("scored", "dropped", "failed", "hung")),
)
_WITHOUT_OUTCOME = (
    *(TURNED_AWAY, REQUEST_SECONDS, IN_FLIGHT, SECONDS, MEAN_SCORE, DROPPED, ABANDONED),
    *(PAIRS_WAITING, PAIRS_HUNG, PAIR_SECONDS, BATCH_REQUESTS, READ_REQUESTS),
    *(SHADOW_WAITING, SHADOW_HUNG, SHADOW_SECONDS, SHADOW_DIFFERENCE, SHADOW_CORRELATION),
    *(ITEMS_ROWS, ITEMS_BYTES, ITEMS_FAILING),
)


def begin(model: str) -> None:
    """Have a model's series from now on, at zero: what appears with its first count has no rate.

    Args:
        model: Its name.
    """
    for counter, outcomes in _OUTCOMES:
        for outcome in outcomes:
            counter.labels(model, outcome)
    for metric in _WITHOUT_OUTCOME:
        metric.labels(model)
    ITEMS_AGE.labels(model).set(float("nan"))


for _outcome in ("rejected", "failed"):
    REQUESTS.labels("", _outcome)
TURNED_AWAY.labels("")
