"""Prometheus metrics of the endpoint; KServe serves them at /metrics beside its own."""

from prometheus_client import Counter, Gauge, Histogram

from features.encoding import RowStatus
from serving.transformer import Candidates

REQUESTS = Counter(
    "ranking_requests", "Requests to infer, by outcome: complete, degraded, refused.", ["outcome"]
)
FEATURE_ROWS = Counter(
    "ranking_feature_rows",
    "Feature rows read for requests, by table and status.",
    ["table", "status"],
)
MISSING_CONTEXT = Counter(
    "ranking_missing_context", "Requests without a usable value of a context column.", ["column"]
)
REFUSALS = Counter(
    "ranking_refusals",
    "Refused calls of any kind, by transport (rest, grpc) and code.",
    ["transport", "code"],
)
ANSWERS = Counter("ranking_answers", "Requests to infer answered, by model version.", ["version"])
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
REQUEST_SECONDS = Histogram(
    "ranking_admitted_seconds",
    "Time of a request to infer from its head to its answer or refusal.",
    buckets=_BUCKETS,
)
STAGE_SECONDS = Histogram(
    "ranking_stage_seconds",
    "Time of a stage: receive the body, features (check, read, encode), score.",
    ["stage"],
    buckets=_BUCKETS,
)
VERSION = Gauge("ranking_model_version", "1 for the version that is loaded.", ["version"])
IN_FLIGHT = Gauge(
    "ranking_requests_in_flight", "Requests to infer that are being read or answered."
)
LOADS = Counter("ranking_loads", "Loads of the champion, by outcome: swapped, failed.", ["outcome"])


LOGGED = Counter(
    "ranking_logged_answers",
    "Answers chosen for the request log, by outcome: written, dropped, failed.",
    ["outcome"],
)

# There from the start, at zero: what appears with its first count has no rate at that moment.
for _counter, _outcomes in (
    (REQUESTS, ("complete", "degraded", "refused")),
    (LOADS, ("swapped", "failed")),
    (LOGGED, ("written", "dropped", "failed")),
):
    for _outcome in _outcomes:
        _counter.labels(_outcome)


def refuse(transport: str, code: str) -> None:
    """Count one refused call."""
    REQUESTS.labels("refused").inc()
    REFUSALS.labels(transport, code).inc()


def load(version: str) -> None:
    """Tell that a version is the one that is loaded from now on."""
    VERSION.clear()
    VERSION.labels(version).set(1)
    LOADS.labels("swapped").inc()


def count(candidates: Candidates, version: str) -> None:
    """Count one request that a version answered."""
    ANSWERS.labels(version).inc()
    REQUESTS.labels("degraded" if candidates.is_degraded else "complete").inc()
    for table, rows in candidates.statuses.items():
        for status in RowStatus:
            num_rows = int((rows == status).sum())
            if num_rows:
                FEATURE_ROWS.labels(table, status.name.lower()).inc(num_rows)
    for column in candidates.missing_context:
        MISSING_CONTEXT.labels(column).inc()
