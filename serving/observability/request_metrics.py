"""What is counted and timed of a request: its stages, its scoring, its answer or its error."""

import contextvars
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.encoding.encode import RowStatus
from features.encoding.encoded_table import EncodedTable
from features.schema import Schema, TableKind
from serving.observability import freshness, tracing
from serving.observability.metrics import (
    ANSWERS,
    ERRORS,
    FEATURE_ROWS,
    FLAGGED,
    MEAN_SCORE,
    MISSING_CONTEXT,
    PAIR_RANK_DISTANCE,
    PAIR_SCORE_RATIO,
    REQUEST_SECONDS,
    REQUESTS,
    STAGE_SECONDS,
    VERSION_MEAN_SCORE,
    VERSION_REQUESTS,
    series,
)

if TYPE_CHECKING:
    from serving.lookup.transformer import Candidates

_STATUSES = tuple(status.name.lower() for status in RowStatus)
_MODEL: contextvars.ContextVar[str] = contextvars.ContextVar("model", default="")
"""Which model the call asks for that is being answered; empty until it is known."""


def asks_for(model: str) -> None:
    """Say which model the call asks for that is being answered; empty: that is not known yet.

    An error is counted where a transport turns it into an answer, which does not know the model.
    """
    _MODEL.set(model)
    if model:
        tracing.describe(model=model)


class Stage:
    """Counts the seconds of a block as those of a stage of a request."""

    def __init__(self, model: str, name: str) -> None:
        """Args: the model, and the stage's name."""
        self._seconds = series(STAGE_SECONDS, model, name)
        self._ended: float | None = None

    def __enter__(self) -> "Stage":
        """It begins."""
        self._began = time.perf_counter()
        return self

    def end(self, moment: float) -> None:
        """Say when it ended, of ``time.perf_counter``, where that is before the block's end."""
        self._ended = moment

    def __exit__(self, *_: object) -> None:
        """It has ended, if not before."""
        ended = time.perf_counter() if self._ended is None else self._ended
        self._seconds.observe(ended - self._began)


def stage(model: str, name: str) -> AbstractContextManager[Stage]:
    """Count the seconds of a stage of a request, and make its span where there are spans."""
    timer = Stage(model, name)
    return _timed_span(timer, name) if tracing.is_on() else timer


def has_taken(model: str, name: str, seconds: float) -> None:
    """Count a stage of a request that has ended."""
    series(STAGE_SECONDS, model, name).observe(seconds)


@contextmanager
def whole(model: str, arrived_at: float) -> Iterator[None]:
    """Count the seconds of a request from its arrival, of ``time.monotonic``, to its end."""
    try:
        yield
    finally:
        series(REQUEST_SECONDS, model).observe(time.monotonic() - arrived_at)


@contextmanager
def _timed_span(timer: Stage, name: str) -> Iterator[Stage]:
    with timer, tracing.span(name):
        yield timer


@contextmanager
def charged(model: str, version: str) -> Iterator[None]:
    """Count against a version whatever keeps it from answering a request that passed every check.

    Overload, time-outs and callers who left count too: the other versions share what is
    not its own fault, and a rollout compares.
    """
    try:
        yield
    except BaseException:
        series(VERSION_REQUESTS, model, version, "failed").inc()
        raise


def paired(model: str, version: str, *, score_ratio: float, rank_distance: float | None) -> None:
    """Count one answer of a canary that the champion has scored too."""
    PAIR_SCORE_RATIO.labels(model, version).observe(score_ratio)
    if rank_distance is not None:
        PAIR_RANK_DISTANCE.labels(model, version).observe(rank_distance)


def count_error(transport: str, code: str, *, status: int) -> None:
    """Count one call that got an error: the server's fault (500), the call's, or too much load."""
    is_ours = status == HTTPStatus.INTERNAL_SERVER_ERROR
    model = _MODEL.get()
    series(REQUESTS, model, "failed" if is_ours else "rejected").inc()
    ERRORS.labels(model, transport, code).inc()


def count(
    model: str, version: str, candidates: "Candidates", scores: npt.NDArray[np.float32]
) -> None:
    """Count one request that a version of a model answered, and say so in its span."""
    tracing.describe(model_version=version, candidates=len(scores), degraded=candidates.is_degraded)
    mean = float(np.add.reduce(scores)) / len(scores)
    series(MEAN_SCORE, model).observe(mean)
    series(VERSION_MEAN_SCORE, model, version).observe(mean)
    series(ANSWERS, model, version).inc()
    outcome = "degraded" if candidates.is_degraded else "complete"
    series(REQUESTS, model, outcome).inc()
    series(VERSION_REQUESTS, model, version, outcome).inc()
    for flag in candidates.flags:
        FLAGGED.labels(model, flag).inc()
    for table, numbers in candidates.num_rows.items():
        for status, num_rows in zip(_STATUSES, numbers, strict=True):
            if num_rows:
                series(FEATURE_ROWS, model, table, status).inc(num_rows)
    for column in candidates.missing_context:
        MISSING_CONTEXT.labels(model, column).inc()


def show_newest_row(schema: Schema, rows: EncodedTable, *, at_least: float = 0.0) -> float:
    """Say how new the newest of some rows is.

    Args:
        schema: Of the model.
        rows: Of a table. Attributes have no age, for they stay true until they change.
        at_least: What was said before, in seconds since 1970; an older row changes nothing.

    Returns:
        The event time of the newest row so far, in seconds since 1970; 0.0 without one.
    """
    newest = float(rows.moments.max(initial=0)) / 1e6
    if newest <= at_least or rows.table.kind is TableKind.ATTRIBUTES:
        return at_least
    if schema.last_day is None:
        freshness.NEWEST_ROW.labels(schema.name, rows.table.name).set(newest)
    return newest
