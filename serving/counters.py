"""Prometheus counters of the endpoint; KServe serves them at /metrics beside its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import numpy as np
import numpy.typing as npt
from prometheus_client import Counter, Histogram

from features.encoding import RowStatus
from serving.transformer import Candidates

REQUESTS = Counter(
    "ranking_requests", "Requests, by outcome: complete, degraded, refused, failed.", ["outcome"]
)
FEATURE_ROWS = Counter(
    "ranking_feature_rows",
    "Feature rows read for requests, by table and status.",
    ["table", "status"],
)
MISSING_CONTEXT = Counter(
    "ranking_missing_context", "Requests without a usable value of a context column.", ["column"]
)
LOADS = Counter("ranking_loads", "Loads of the champion, by outcome: swapped, failed.", ["outcome"])
SECONDS = Histogram(
    "ranking_request_seconds",
    "Time to answer a request to infer, from the decoded request to the answer.",
    buckets=(0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.4, 0.8, 2.0),
)
MEAN_SCORE = Histogram(
    "ranking_mean_score",
    "Mean score of a request's candidates; one value a request, so that values are independent.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
)


@contextmanager
def timed() -> Iterator[None]:
    """Count the seconds of a request that is answered."""
    started = time.perf_counter()
    yield
    SECONDS.observe(time.perf_counter() - started)


def count_error(status: int) -> None:
    """Count a request that was not answered: the caller's fault, or ours from 500 on."""
    is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    REQUESTS.labels("failed" if is_ours else "refused").inc()


def count(candidates: Candidates, scores: npt.NDArray[np.float32]) -> None:
    """Count one answered request."""
    MEAN_SCORE.observe(float(scores.mean()))
    REQUESTS.labels("degraded" if candidates.is_degraded else "complete").inc()
    for table, rows in candidates.statuses.items():
        for status in RowStatus:
            num_rows = int((rows == status).sum())
            if num_rows:
                FEATURE_ROWS.labels(table, status.name.lower()).inc(num_rows)
    for column in candidates.missing_context:
        MISSING_CONTEXT.labels(column).inc()
