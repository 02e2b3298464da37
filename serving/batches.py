"""Requests that wait while others are scored, and are then scored together.

An idle worker starts at once: no request waits for company. All requests of a batch are answered by
one version of the model.
"""

import asyncio
import collections
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from serving import counters
from serving.settings import Scoring


class Sized(Protocol):
    """A request as far as it matters here."""

    @property
    def num_rows(self) -> int:
        """Its candidates."""
        ...

    @property
    def group(self) -> object:
        """Only requests of one and the same group are scored together."""
        ...

    @property
    def deadline(self) -> float:
        """The moment, of ``time.monotonic``, from which no one waits for it any more."""
        ...


logger = logging.getLogger(__name__)

Job = TypeVar("Job", bound=Sized)
Answer = TypeVar("Answer")


@dataclasses.dataclass(frozen=True)
class _Waiting(Generic[Job, Answer]):
    job: Job
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Answer]"


class Batches(Generic[Job, Answer]):
    """Threads that take requests in their order, as many at once as there is room for."""

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Sequence[Answer | BaseException]],
        *,
        too_late: Callable[[Job], BaseException],
        settings: Scoring,
    ) -> None:
        """Hold what a batch is given to.

        Args:
            work: Scores a batch; for each request an answer, or what is raised to its caller.
            too_late: What is raised to the caller of a request whose time is up.
            settings: Rows of a batch, and how many batches at one time.
        """
        self._work = work
        self._too_late = too_late
        self._settings = settings
        self._changed = threading.Condition()
        self._waiting: collections.deque[_Waiting[Job, Answer]] = collections.deque()
        self._num_threads = 0
        self._num_idle = 0

    async def run(self, job: Job) -> Answer:
        """The answer to a request; raises what ``work`` has for it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        with self._changed:
            self._waiting.append(_Waiting(job, loop, future))
            if not self._num_idle and self._num_threads < self._settings.num_workers:
                self._num_threads += 1
                name = f"score-{self._num_threads}"
                threading.Thread(target=self._score_on, name=name, daemon=True).start()
            self._changed.notify()
        return await future

    def _score_on(self) -> None:
        while True:
            with self._changed:
                self._num_idle += 1
                self._changed.wait_for(lambda: self._waiting)
                self._num_idle -= 1
                batch = self._take()
            late = [waiting for waiting in batch if waiting.job.deadline < time.monotonic()]
            for waiting in late:
                counters.DROPPED.inc()
                _give(waiting, self._too_late(waiting.job))
            batch = [waiting for waiting in batch if waiting not in late]
            if batch:
                counters.BATCH_REQUESTS.observe(len(batch))
                for waiting, answer in zip(batch, self._answers(batch), strict=True):
                    _give(waiting, answer)

    def _take(self) -> list[_Waiting[Job, Answer]]:
        """The first that waits, and those behind it for as long as they fit."""
        batch = [self._waiting.popleft()]
        num_rows = batch[0].job.num_rows
        while self._waiting:
            job = self._waiting[0].job
            num_rows += job.num_rows
            if job.group is not batch[0].job.group or num_rows > self._settings.batch_rows:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _answers(self, batch: list[_Waiting[Job, Answer]]) -> Sequence[Answer | BaseException]:
        try:
            return self._work([waiting.job for waiting in batch])
        except Exception as error:
            logger.exception("scoring %d requests together failed", len(batch))
            if len(batch) == 1:
                return [error]
            # One of them may be to blame, and the others must not pay for it.
            return [self._answers([waiting])[0] for waiting in batch]


def _give(waiting: "_Waiting[Job, Answer]", answer: Answer | BaseException) -> None:
    waiting.loop.call_soon_threadsafe(_set, waiting.future, answer)


def _set(future: "asyncio.Future[Answer]", answer: Answer | BaseException) -> None:
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
