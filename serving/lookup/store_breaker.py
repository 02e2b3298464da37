"""How long a request waits for the online store: its budget, and after some failures not at all."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from serving.micro_batcher import MicroBatcher, Submitted
from serving.observability import metrics

FAILURES = 3
"""Reads that fail one after the other; then the store is left alone for a while."""
PAUSE_SECONDS = 1.0
MAX_ROWS = 1_000
"""Most rows that are read together for several requests."""
SMALL_ROWS = 100
"""Reads of no more rows, such as one user's, are not held up by larger ones."""
logger = logging.getLogger(__name__)

Job = TypeVar("Job")
Rows = TypeVar("Rows")


class StoreCircuitBreaker(Generic[Job, Rows]):
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
        read: Callable[[Sequence[Job]], Sequence[Rows]],
        *,
        model: str,
    ) -> None:
        """Nothing is read yet.

        Args:
            budget_seconds: The most that a request waits for the store.
            read: What reads for several at once.
            model: Whose requests they are.
        """
        self._model = model
        self._budget = budget_seconds
        self._failures = 0
        self._failed_read: float | None = None
        """When the last read that failed began."""
        self._asked_at = float("-inf")
        self._small, self._large = (
            MicroBatcher(
                read,
                name=f"store-{size}",
                max_rows=MAX_ROWS,
                num_threads=1,
                sizes=metrics.READ_REQUESTS.labels(model),
                again_alone=False,
            )
            for size in ("small", "large")
        )

    async def read(self, job: Job, *, num_rows: int = 1) -> Rows | None:
        """What a job asks for; None where it is not there in time."""
        now = time.monotonic()
        if self._failures >= FAILURES and now - self._asked_at < PAUSE_SECONDS:
            metrics.STORE_READS.labels(self._model, "skipped").inc()
            return None
        self._asked_at = now
        lane = self._small if num_rows <= SMALL_ROWS else self._large
        read = lane.submit(job, num_rows=num_rows)
        try:
            is_done = await self._is_done(read, lane)
        finally:
            # One that has not begun never does, where it is late or its caller is gone.
            read.cancel()
        if not is_done:
            self._failed("late", None, read.begun)
            return None
        if error := read.exception():
            self._failed("failed", error, read.begun)
            return None
        if self._failures >= FAILURES:
            logger.warning("store: answers again")
        self._failures = 0
        metrics.STORE_READS.labels(self._model, "done").inc()
        return read.result()

    async def _is_done(self, read: Submitted[Job, Rows], lane: MicroBatcher[Job, Rows]) -> bool:
        """Whether the store answers within a read's budget, which begins when the read does.

        On a busy machine a read may begin late, which is no fault of the store. But one that waits
        is given up when the store has taken a whole budget for those before it.
        """
        asked_at, future = lane.seconds_busy, asyncio.wrap_future(read)
        left = self._budget
        try:
            while left > 0:
                done, _ = await asyncio.wait({future}, timeout=left)
                if done:
                    return True
                if read.begun is None:
                    left = self._budget - (lane.seconds_busy - asked_at)
                else:
                    left = self._budget - (time.monotonic() - read.begun)
            return False
        finally:
            # Looked at, or cancelled: asyncio would report a failure that no one has looked at.
            if not future.cancel():
                future.exception()

    def _failed(self, outcome: str, error: BaseException | None, begun: float | None) -> None:
        metrics.STORE_READS.labels(self._model, outcome).inc()
        if begun is None or begun == self._failed_read:
            # Not the store's failure, or one that another request of the same read has logged.
            return
        self._failed_read = begun
        self._failures += 1
        if self._failures == FAILURES:
            logger.warning("store: %s (%s); asked once a second from now on", outcome, error)
