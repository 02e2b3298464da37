"""How long a request waits for the online store: its budget, and after some failures not at all."""

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from serving import counters

FAILURES = 3
"""One after the other; then the store is left alone for a while."""
PAUSE_SECONDS = 1.0
_THREADS = 32

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
        future = loop.run_in_executor(self._pool, work)
        done, _ = await asyncio.wait({future}, timeout=self._budget)
        if not done:
            future.add_done_callback(_look_at)
            self._failed("late", None)
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

    def _failed(self, outcome: str, error: BaseException | None) -> None:
        counters.STORE_READS.labels(outcome).inc()
        self._failures += 1
        if self._failures == FAILURES:
            logger.warning("store: %s (%s); asked once a second from now on", outcome, error)


def _look_at(future: "asyncio.Future[Any]") -> None:
    """Or asyncio would report the failure of a read that no one waits for any more."""
    if not future.cancelled():
        future.exception()
