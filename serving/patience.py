"""How long a request waits for the online store: its budget, and after some failures not at all."""

import asyncio
import concurrent.futures
import contextvars
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from serving import counters

FAILURES = 3
"""One after the other; then the store is left alone for a while."""
PAUSE_SECONDS = 1.0
_THREADS = 8
"""Reads at one time. A store that is well answers in a millisecond, and more threads would only
wait for each other."""

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class StorePatience:
    """Runs reads in threads of their own, each within its time; used from one event loop only.

    A read that is late goes on in its thread until the client's own time-out ends it. After some
    failures reads are skipped, and one in a second is let through to see whether the store is back:
    a dead store costs one request a second its budget, and all others nothing.
    """

    def __init__(self, budget_seconds: float) -> None:
        """Args: the most that a request waits."""
        self._budget = budget_seconds
        self._failures = 0
        self._asked_at = float("-inf")
        self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS, "store")

    async def read(self, work: Callable[[], Result]) -> Result | None:
        """The result of a read; None where there is none in time."""
        loop = asyncio.get_running_loop()
        if self._failures >= FAILURES and loop.time() - self._asked_at < PAUSE_SECONDS:
            counters.STORE_READS.labels("skipped").inc()
            return None
        self._asked_at = loop.time()
        begun: list[float] = []

        def timed() -> Result:
            begun.append(loop.time())
            return work()

        future = loop.run_in_executor(self._pool, contextvars.copy_context().run, timed)
        if not await self._is_done(future, begun):
            future.cancel()
            future.add_done_callback(_look_at)
            self._failed("late", None, is_of_store=bool(begun))
            return None
        error = future.exception()
        if error is not None:
            self._failed("failed", error)
            return None
        if self._failures >= FAILURES:
            logger.warning("store: answers again")
        self._failures = 0
        counters.STORE_READS.labels("done").inc()
        return future.result()

    async def _is_done(self, future: "asyncio.Future[Any]", begun: list[float]) -> bool:
        """Whether a read ends within its budget, which begins when the read does.

        On a busy machine a thread may begin late, which is no fault of the store; but a read that
        has not begun after its whole budget waits once more, and only while others succeed.
        """
        loop = asyncio.get_running_loop()
        left, has_waited = self._budget, False
        while left > 0:
            done, _ = await asyncio.wait({future}, timeout=left)
            if done:
                return True
            if begun:
                left = begun[0] + self._budget - loop.time()
            else:
                left = 0.0 if has_waited or self._failures >= FAILURES else self._budget
                has_waited = True
        return False

    def _failed(
        self, outcome: str, error: BaseException | None, *, is_of_store: bool = True
    ) -> None:
        counters.STORE_READS.labels(outcome).inc()
        self._failures += is_of_store
        if self._failures == FAILURES and is_of_store:
            logger.warning("store: %s (%s); asked once a second from now on", outcome, error)


def _look_at(future: "asyncio.Future[Any]") -> None:
    """Or asyncio would report the failure of a read that no one waits for any more."""
    if not future.cancelled():
        future.exception()
