"""How long a request waits for the online store: its budget, and after some failures not at all."""

import asyncio
import contextlib
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
Step = TypeVar("Step")
Answer = TypeVar("Answer")


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
        if not self.may_ask():
            return None
        lane = self._small if num_rows <= SMALL_ROWS else self._large
        return await self.answer(lane.submit(job, num_rows=num_rows), lane)

    def may_ask(self) -> bool:
        """Whether the store is to be asked now; who is told so asks."""
        now = time.monotonic()
        if self._failures >= FAILURES and now - self._asked_at < PAUSE_SECONDS:
            metrics.STORE_READS.labels(self._model, "skipped").inc()
            return False
        self._asked_at = now
        return True

    async def answer(
        self, read: Submitted[Step, Answer], lane: MicroBatcher[Step, Answer]
    ) -> Answer | None:
        """What a job becomes that reads, and may do more once it is prepared; None: not in time.

        Raises what the job raises after it was prepared: that is not the store's fault.

        Args:
            read: The job.
            lane: Where it was submitted.
        """
        try:
            is_done = await self._is_done(read, lane)
        finally:
            # One that has not begun never does, where it is late or its caller is gone.
            read.cancel()
        if not is_done:
            self._failed("late", None, read.begun)
            return None
        if read.prepared is None and (error := read.exception()):
            self._failed("failed", error, read.begun)
            return None
        if self._failures >= FAILURES:
            logger.warning("store: answers again")
        self._failures = 0
        metrics.series(metrics.STORE_READS, self._model, "done").inc()
        return read.result()

    async def _is_done(
        self, read: Submitted[Step, Answer], lane: MicroBatcher[Step, Answer]
    ) -> bool:
        """Whether the store answers within a read's budget, which begins when the read does.

        On a busy machine a read may begin late, which is no fault of the store. But one that waits
        is given up when the store has taken a whole budget for those before it.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        asked_at, num_cancelling = lane.seconds_busy, task.cancelling()
        future = asyncio.wrap_future(read)
        timer = loop.call_later(self._budget, lambda: look())

        def look() -> None:
            nonlocal timer
            if read.begun is None:
                left = self._budget - (lane.seconds_busy - asked_at)
            else:
                left = self._budget - (time.monotonic() - read.begun)
            if read.prepared is None and left > 0:
                timer = loop.call_later(left, look)
            elif read.prepared is None:
                future.cancel()

        try:
            # Whatever it raises, the caller of this looks at.
            with contextlib.suppress(Exception):
                await future
        except asyncio.CancelledError:
            if task.cancelling() > num_cancelling:
                raise
            return False
        finally:
            timer.cancel()
        return True

    def _failed(self, outcome: str, error: BaseException | None, begun: float | None) -> None:
        metrics.STORE_READS.labels(self._model, outcome).inc()
        if begun is None or begun == self._failed_read:
            # Not the store's failure, or one that another request of the same read has logged.
            return
        self._failed_read = begun
        self._failures += 1
        if self._failures == FAILURES:
            logger.warning("store: %s (%s); asked once a second from now on", outcome, error)
