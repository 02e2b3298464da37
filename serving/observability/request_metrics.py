"""What is counted and timed of a request: its stages, its scoring, its answer or its error."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus

import numpy as np
import numpy.typing as npt

from features.encoding.encode import RowStatus
from serving.observability import tracing
from serving.observability.metrics import (
    ANSWERS,
    BATCH_REQUESTS,
    DROPPED,
    ERRORS,
    FEATURE_ROWS,
    FLAGGED,
    MEAN_SCORE,
    MISSING_CONTEXT,
    PAIR_RANK_DISTANCE,
    PAIR_SCORE_RATIO,
    READ_REQUESTS,
    REQUESTS,
    SECONDS,
    STAGE_SECONDS,
    VERSION_MEAN_SCORE,
    VERSION_REQUESTS,
    VERSION_SECONDS,
)
from serving.protocol.candidates import Candidates


def scored_together(num_scored: int, num_late: int) -> None:
    """Count a batch, and the requests that came too late for it."""
    if num_scored:
        BATCH_REQUESTS.observe(num_scored)
    DROPPED.inc(num_late)


def read_together(num_read: int, num_late: int) -> None:
    """Count a read of the store; none of those that wait for one ever comes too late."""
    READ_REQUESTS.observe(num_read)


def stage(name: str) -> AbstractContextManager[object]:
    """Count the seconds of a stage of a request, and make its span where there are spans."""
    timer: AbstractContextManager[object] = STAGE_SECONDS.labels(name).time()
    return _timed_span(timer, name) if tracing.is_on() else timer


@contextmanager
def _timed_span(timer: AbstractContextManager[object], name: str) -> Iterator[None]:
    with timer, tracing.span(name):
        yield


@contextmanager
def timed() -> Iterator[None]:
    """Count the seconds of a request that is answered."""
    started = time.perf_counter()
    yield
    SECONDS.observe(time.perf_counter() - started)


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


@dataclasses.dataclass
class Scored:
    """How long a request was scored, once that is known."""

    seconds: float | None = None


@contextmanager
def scoring(version: str) -> Iterator[Scored]:
    """Count the seconds of a version's scoring, whether it succeeds or not, and its failure.

    They are those that the caller writes into what it is given: versions share the wait for a
    thread, which would hide the slower one. What was never scored counts with all of its time.
    """
    started, scored = time.perf_counter(), Scored()
    try:
        with charged(version):
            yield scored
    finally:
        seconds = scored.seconds
        took = time.perf_counter() - started if seconds is None else seconds
        VERSION_SECONDS.labels(version).observe(took)


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


def count(candidates: Candidates, version: str, scores: npt.NDArray[np.float32]) -> None:
    """Count one request that a version answered, and say so in its span."""
    tracing.describe(model_version=version, candidates=len(scores), degraded=candidates.is_degraded)
    MEAN_SCORE.observe(float(scores.mean()))
    VERSION_MEAN_SCORE.labels(version).observe(float(scores.mean()))
    ANSWERS.labels(version).inc()
    outcome = "degraded" if candidates.is_degraded else "complete"
    REQUESTS.labels(outcome).inc()
    VERSION_REQUESTS.labels(version, outcome).inc()
    for flag in candidates.flags:
        FLAGGED.labels(flag).inc()
    for table, rows in candidates.statuses.items():
        for status, num_rows in enumerate(np.bincount(rows, minlength=len(RowStatus)).tolist()):
            if num_rows:
                FEATURE_ROWS.labels(table, RowStatus(status).name.lower()).inc(num_rows)
    for column in candidates.missing_context:
        MISSING_CONTEXT.labels(column).inc()
