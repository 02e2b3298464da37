"""How long a request waits for the online store: its budget, and after some failures not at all."""

import asyncio
import contextlib
import contextvars
import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from serving.micro_batcher import MicroBatcher
from serving.observability import metrics, request_metrics, tracing

FAILURES = 3
"""Reads that fail one after the other; then the store is left alone for a while."""
PAUSE_SECONDS = 1.0
MAX_ROWS = 1_000
"""Most rows that are read together for several requests."""
SMALL_ROWS = 100
"""Reads of no more rows, such as one user's, are not held up by larger ones."""
logger = logging.getLogger(__name__)

Request = TypeVar("Request")
Rows = TypeVar("Rows")
Found = TypeVar("Found")


@dataclasses.dataclass(slots=True)
class _Read(Generic[Request]):
    request: Request
    num_rows: int
    context: contextvars.Context
    """Of the request, for its spans."""
    begun: float | None = None
    """The moment, of ``time.monotonic``."""
    has_answer: bool = False
    """Whether the store has done its part."""

    @property
    def group(self) -> None:
        return None

    @property
    def deadline(self) -> float:
        return math.inf


class _Clock:
    """How long the store has kept a reader waiting, in all."""

    def __init__(self) -> None:
        # One value, for two threads look at it.
        self._state: tuple[float, float | None] = (0.0, None)

    @property
    def seconds(self) -> float:
        before, since = self._state
        return before if since is None else before + time.monotonic() - since

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._state = (self.seconds, time.monotonic())
        try:
            yield
        finally:
            self._state = (self.seconds, None)


class StoreCircuitBreaker(Generic[Request, Rows, Found]):
    """Reads in threads of its own, each read within its time; used from one event loop only.

    One small and one large read at a time: a store that is well answers in a millisecond, and more
    threads would wait for each other. What is asked for meanwhile is read together, in one round
    trip.

    A read that is late goes on in its thread until the client's own time-out ends it. After some
    failures reads are skipped, and one in a second is let through to see whether the store is back:
    a dead store costs one request a second its budget, and all others nothing.
    """

    def __init__(
        self,
        budget_seconds: float,
        read: Callable[[Sequence[Request]], Sequence[Rows]],
        *,
        finish: Callable[[Request, Rows], Found],
        num_rows: Callable[[Request], int] = lambda request: 1,
    ) -> None:
        """Hold how to read.

        Args:
            budget_seconds: The most that a request waits for the store.
            read: Reads for several requests at once.
            finish: Makes of a request and its rows what it asks for; is not the store's time.
            num_rows: Rows to read for one.
        """
        self._budget = budget_seconds
        self._read = read
        self._finish = finish
        self._num_rows = num_rows
        self._failures = 0
        self._failed_read: float | None = None
        """When the last read that failed began."""
        self._asked_at = float("-inf")
        self._small, self._large = self._lane("small"), self._lane("large")

    def _lane(self, name: str) -> tuple[MicroBatcher[_Read[Request], Found], _Clock]:
        clock = _Clock()
        reads: MicroBatcher[_Read[Request], Found] = MicroBatcher(
            functools.partial(self._begin, clock),
            name=f"store-{name}",
            max_rows=MAX_ROWS,
            num_threads=1,
            on_batch=request_metrics.read_together,
            again_alone=False,
        )
        return reads, clock

    async def read(self, request: Request) -> Found | None:
        """What a request asks for; None where it is not there in time."""
        now = time.monotonic()
        if self._failures >= FAILURES and now - self._asked_at < PAUSE_SECONDS:
            metrics.STORE_READS.labels("skipped").inc()
            return None
        self._asked_at = now
        read = _Read(request, self._num_rows(request), contextvars.copy_context())
        reads, clock = self._small if read.num_rows <= SMALL_ROWS else self._large
        future = reads.submit(read)
        try:
            is_done = await self._is_done(future, read, clock)
        except asyncio.CancelledError:
            # The caller is gone: a read that has not begun never does.
            future.cancel()
            raise
        if not is_done:
            future.cancel()
            self._failed("late", None, read.begun)
            return None
        error = future.exception()
        if error is not None and not read.has_answer:
            self._failed("failed", error, read.begun)
            return None
        if self._failures >= FAILURES:
            logger.warning("store: answers again")
        self._failures = 0
        metrics.STORE_READS.labels("done").inc()
        return future.result()

    def _begin(
        self, clock: _Clock, reads: Sequence[_Read[Request]]
    ) -> Iterator[Found | BaseException]:
        now = time.monotonic()
        for read in reads:
            read.begun = now
        with clock.running(), tracing.shared([read.context for read in reads]):
            rows = self._read([read.request for read in reads])
        for read in reads:
            read.has_answer = True
        for read, its in zip(reads, rows, strict=True):
            yield self._finished(read.request, its)

    def _finished(self, request: Request, rows: Rows) -> Found | BaseException:
        try:
            return self._finish(request, rows)
        except Exception as error:
            # No fault of the store or of the other requests: this one's caller gets the error.
            logger.exception("a request's inputs cannot be put together")
            return error

    async def _is_done(
        self, future: "asyncio.Future[Any]", read: _Read[Request], clock: _Clock
    ) -> bool:
        """Whether the store answers within a read's budget, which begins when the read does.

        On a busy machine a read may begin late, and what it has read may be put together late, both
        of which are no fault of the store. But one that waits is given up when the store has taken
        a whole budget for those before it.
        """
        asked_at = clock.seconds
        left = self._budget
        while left > 0:
            done, _ = await asyncio.wait({future}, timeout=left)
            if done:
                return True
            left = self._budget
            if read.begun is None:
                left -= clock.seconds - asked_at
            elif not read.has_answer:
                left -= time.monotonic() - read.begun
        return False

    def _failed(self, outcome: str, error: BaseException | None, begun: float | None) -> None:
        metrics.STORE_READS.labels(outcome).inc()
        if begun is None or begun == self._failed_read:
            # Not the store's failure, or one that another request of the same read has logged.
            return
        self._failed_read = begun
        self._failures += 1
        if self._failures == FAILURES:
            logger.warning("store: %s (%s); asked once a second from now on", outcome, error)
