"""What is counted and timed of a request: its stages, its scoring, its answer or its error."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.encoding.encode import RowStatus
from serving.observability import tracing
from serving.observability.metrics import (
    ANSWERS,
    ERRORS,
    FEATURE_ROWS,
    FLAGGED,
    MEAN_SCORE,
    MISSING_CONTEXT,
    PAIR_RANK_DISTANCE,
    PAIR_SCORE_RATIO,
    REQUESTS,
    STAGE_SECONDS,
    VERSION_MEAN_SCORE,
    VERSION_REQUESTS,
)

if TYPE_CHECKING:
    from serving.lookup.transformer import Candidates

_STAGE_SECONDS = {
    name: STAGE_SECONDS.labels(name) for name in ("receive", "features", "score", "respond")
}


def stage(name: str) -> AbstractContextManager[object]:
    """Count the seconds of a stage of a request, and make its span where there are spans."""
    timer: AbstractContextManager[object] = _STAGE_SECONDS[name].time()
    return _timed_span(timer, name) if tracing.is_on() else timer


@contextmanager
def _timed_span(timer: AbstractContextManager[object], name: str) -> Iterator[None]:
    with timer, tracing.span(name):
        yield


@contextmanager
def charged(version: str) -> Iterator[None]:
    """Count against a version whatever keeps it from answering a request that passed every check.

    Overload, time-outs and callers who left count too: the other versions share what is
    not its own fault, and a rollout compares.
    """
    try:
        yield
    except BaseException:
        VERSION_REQUESTS.labels(version, "failed").inc()
        raise


def paired(version: str, *, score_ratio: float, rank_distance: float | None) -> None:
    """Count one answer of a canary that the champion has scored too."""
    PAIR_SCORE_RATIO.labels(version).observe(score_ratio)
    if rank_distance is not None:
        PAIR_RANK_DISTANCE.labels(version).observe(rank_distance)


def count_error(transport: str, code: str, *, status: int) -> None:
    """Count one call that got an error: the server's fault (500), the call's, or too much load."""
    is_ours = status == HTTPStatus.INTERNAL_SERVER_ERROR
    REQUESTS.labels("failed" if is_ours else "rejected").inc()
    ERRORS.labels(transport, code).inc()


def count(candidates: "Candidates", version: str, scores: npt.NDArray[np.float32]) -> None:
    """Count one request that a version answered, and say so in its span."""
    tracing.describe(model_version=version, candidates=len(scores), degraded=candidates.is_degraded)
    mean = float(scores.mean())
    MEAN_SCORE.observe(mean)
    VERSION_MEAN_SCORE.labels(version).observe(mean)
    ANSWERS.labels(version).inc()
    outcome = "degraded" if candidates.is_degraded else "complete"
    REQUESTS.labels(outcome).inc()
    VERSION_REQUESTS.labels(version, outcome).inc()
    for flag in candidates.flags:
        FLAGGED.labels(flag).inc()
    for table, numbers in candidates.num_rows.items():
        for status, num_rows in zip(RowStatus, numbers, strict=True):
            if num_rows:
                FEATURE_ROWS.labels(table, status.name.lower()).inc(num_rows)
    for column in candidates.missing_context:
        MISSING_CONTEXT.labels(column).inc()
