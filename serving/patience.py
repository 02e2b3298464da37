"""How long a request waits for the online store: its budget, and after some failures not at all."""

import asyncio
import contextvars
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from serving import counters, tracing
from serving.batches import Batches

FAILURES = 3
"""Reads that fail one after the other; then the store is left alone for a while."""
PAUSE_SECONDS = 1.0
MAX_ROWS = 1_000
"""Most rows that are read together for several requests."""
logger = logging.getLogger(__name__)

Asked = TypeVar("Asked")
Rows = TypeVar("Rows")
Found = TypeVar("Found")


@dataclasses.dataclass(slots=True)
class _Read(Generic[Asked]):
    asked: Asked
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


class StorePatience(Generic[Asked, Rows, Found]):
    """Runs reads in a thread of their own, each within its time; used from one event loop only.

    One at a time: a store that is well answers in a millisecond, and more threads would wait for
    each other. What is asked for meanwhile is read together, in one round trip.

    A read that is late goes on in its thread until the client's own time-out ends it. After some
    failures reads are skipped, and one in a second is let through to see whether the store is back:
    a dead store costs one request a second its budget, and all others nothing.
    """

    def __init__(
        self,
        budget_seconds: float,
        read: Callable[[Sequence[Asked]], Sequence[Rows]],
        *,
        finish: Callable[[Asked, Rows], Found],
        num_rows: Callable[[Asked], int] = lambda asked: 1,
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
        self._reading_since: float | None = None
        self._reads: Batches[_Read[Asked], Found] = Batches(
            self._begin,
            name="store",
            max_rows=MAX_ROWS,
            num_threads=1,
            too_late=lambda read: TimeoutError(),
            tell=counters.read_together,
            again_alone=False,
        )

    async def read(self, asked: Asked) -> Found | None:
        """What a request asks for; None where it is not there in time."""
        now = time.monotonic()
        if self._failures >= FAILURES and now - self._asked_at < PAUSE_SECONDS:
            counters.STORE_READS.labels("skipped").inc()
            return None
        self._asked_at = now
        context = contextvars.copy_context()
        read = _Read(asked, self._num_rows(asked), context)
        future = self._reads.submit(read)
        if not await self._is_done(future, read):
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
        counters.STORE_READS.labels("done").inc()
        return future.result()

    def _begin(self, reads: Sequence[_Read[Asked]]) -> Iterator[Found | BaseException]:
        self._reading_since = now = time.monotonic()
        for read in reads:
            read.begun = now
        try:
            with tracing.shared([read.context for read in reads]):
                rows = self._read([read.asked for read in reads])
        finally:
            self._reading_since = None
        for read in reads:
            read.has_answer = True
        for read, its in zip(reads, rows, strict=True):
            yield self._finished(read.asked, its)

    def _finished(self, asked: Asked, rows: Rows) -> Found | BaseException:
        try:
            return self._finish(asked, rows)
        except Exception as error:
            # No fault of the store, nor of the requests beside it: this one's caller is told.
            logger.exception("a request's inputs cannot be put together")
            return error

    async def _is_done(self, future: "asyncio.Future[Any]", read: _Read[Asked]) -> bool:
        """Whether the store answers within a read's budget, which begins when the read does.

        On a busy machine a read may begin late, and what it has read may be put together late, both
        of which are no fault of the store. But one that has not begun in its whole budget is given
        up where the store keeps the one before it waiting for as long.
        """
        left = self._budget
        while left > 0:
            done, _ = await asyncio.wait({future}, timeout=left)
            if done:
                return True
            since = read.begun if read.begun is not None else self._reading_since
            left = self._budget
            if since is not None and not read.has_answer:
                left += since - time.monotonic()
        return False

    def _failed(self, outcome: str, error: BaseException | None, begun: float | None) -> None:
        counters.STORE_READS.labels(outcome).inc()
        if begun is None or begun == self._failed_read:
            # Not the store's failure, or one that another request of the same read has told.
            return
        self._failed_read = begun
        self._failures += 1
        if self._failures == FAILURES:
            logger.warning("store: %s (%s); asked once a second from now on", outcome, error)
