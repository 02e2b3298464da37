"""Prometheus counters of the endpoint; KServe serves them at /metrics beside its own."""

from prometheus_client import Counter, Gauge

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
IN_FLIGHT = Gauge(
    "ranking_requests_in_flight", "Requests to infer that are being read or answered."
)
LOADS = Counter("ranking_loads", "Loads of the champion, by outcome: swapped, failed.", ["outcome"])


LOGGED = Counter(
    "ranking_logged_answers",
    "Answers chosen for the request log, by outcome: written, dropped, failed.",
    ["outcome"],
)


def count(candidates: Candidates) -> None:
    """Count one answered request."""
    REQUESTS.labels("degraded" if candidates.is_degraded else "complete").inc()
    for table, rows in candidates.statuses.items():
        for status in RowStatus:
            num_rows = int((rows == status).sum())
            if num_rows:
                FEATURE_ROWS.labels(table, status.name.lower()).inc(num_rows)
    for column in candidates.missing_context:
        MISSING_CONTEXT.labels(column).inc()
