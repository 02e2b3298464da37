"""Requests that wait while others are worked on, and are then worked on together.

An idle thread starts at once: no request waits for company. So are features read and candidates
scored; all requests of a batch are scored by one version of the model.
"""

import asyncio
import collections
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A request as far as it matters here."""

    @property
    def num_rows(self) -> int:
        """Its candidates, or its rows to read."""
        ...

    @property
    def group(self) -> object:
        """Only requests of one and the same group come together."""
        ...

    @property
    def deadline(self) -> float:
        """The moment, of ``time.monotonic``, from which no one waits for it any more."""
        ...


logger = logging.getLogger(__name__)

Job = TypeVar("Job", bound=Sized)
Answer = TypeVar("Answer")


@dataclasses.dataclass(eq=False, slots=True)
class _Waiting(Generic[Job, Answer]):
    job: Job
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Answer]"
    has_begun: bool = False


class MicroBatcher(Generic[Job, Answer]):
    """Threads that take requests in their order, as many at once as there is room for."""

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Iterable[Answer | BaseException]],
        *,
        name: str,
        max_rows: int,
        num_threads: int,
        too_late: Callable[[Job], BaseException] = lambda job: TimeoutError(),
        on_batch: Callable[[int, int], None] = lambda num_done, num_late: None,
        again_alone: bool = True,
    ) -> None:
        """Hold what a batch is given to.

        Args:
            work: Does a batch; for each request an answer, or what is raised to its caller. One is
                given to its caller before the next is asked for.
            name: Of the threads.
            max_rows: Most rows of a batch; a single request may have more.
            num_threads: Batches at one time.
            too_late: What is raised to the caller of a request whose time is up.
            on_batch: Called for each batch with the numbers of its requests and of those that came
                too late.
            again_alone: Whether each request of a batch that failed is tried alone: one of them may
                be to blame, and the others must not pay for it.
        """
        self._work = work
        self._name = name
        self._max_rows = max_rows
        self._most_threads = num_threads
        self._too_late = too_late
        self._on_batch = on_batch
        self._again_alone = again_alone
        self._changed = threading.Condition()
        self._waiting: collections.deque[_Waiting[Job, Answer]] = collections.deque()
        self._num_threads = 0
        self._num_idle = 0

    def submit(self, job: Job) -> "asyncio.Future[Answer]":
        """The answer to a request, or what ``work`` has for it; cancelled, it is not begun."""
        return self._submitted(job).future

    async def run(self, job: Job) -> Answer:
        """As ``submit``; cancelled, it ends only when no thread is at the request.

        One that waits is taken out of the queue at once.
        """
        waiting = self._submitted(job)
        try:
            return await asyncio.shield(waiting.future)
        except asyncio.CancelledError:
            if not self._is_withdrawn(waiting):
                await asyncio.wait({waiting.future})
                # Looked at, or asyncio would report a failure that no one waits for.
                waiting.future.exception()
            raise

    def _submitted(self, job: Job) -> _Waiting[Job, Answer]:
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Job, Answer] = _Waiting(job, loop, loop.create_future())
        with self._changed:
            self._waiting.append(waiting)
            # An idle thread that was woken for another request counts as idle until it runs.
            if self._num_idle < len(self._waiting) and self._num_threads < self._most_threads:
                self._start_thread()
            self._changed.notify()
        return waiting

    def _start_thread(self) -> None:
        name = f"{self._name}-{self._num_threads + 1}"
        try:
            threading.Thread(target=self._work_on, name=name, daemon=True).start()
        except RuntimeError:
            # The system has no more of them: those that are there do the work.
            if not self._num_threads:
                self._waiting.pop()
                raise
            logger.warning("%s: no thread more than %d", self._name, self._num_threads)
        else:
            self._num_threads += 1

    def _is_withdrawn(self, waiting: _Waiting[Job, Answer]) -> bool:
        """Whether a request is not begun, and will not be."""
        with self._changed:
            if waiting.has_begun:
                return False
            waiting.future.cancel()
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiting)
            return True

    def _work_on(self) -> None:
        while True:
            with self._changed:
                self._num_idle += 1
                self._changed.wait_for(lambda: self._waiting)
                self._num_idle -= 1
                taken = [waiting for waiting in self._take() if not waiting.future.done()]
                for waiting in taken:
                    waiting.has_begun = True
            batch = []
            now = time.monotonic()
            for waiting in taken:
                if waiting.job.deadline < now:
                    _give(waiting, self._too_late(waiting.job))
                else:
                    batch.append(waiting)
            if taken:
                self._on_batch(len(batch), len(taken) - len(batch))
            if batch:
                self._do(batch)

    def _do(self, batch: list[_Waiting[Job, Answer]]) -> None:
        try:
            for waiting, answer in zip(batch, self._answers(batch), strict=True):
                _give(waiting, answer)
        except Exception as error:
            # Such as too few answers. The thread goes on, and every caller gets something.
            logger.exception("%s: a batch of %d was not done", self._name, len(batch))
            for waiting in batch:
                _give(waiting, error)

    def _take(self) -> list[_Waiting[Job, Answer]]:
        """The first that waits, and those behind it for as long as they fit."""
        batch = [self._waiting.popleft()]
        num_rows = batch[0].job.num_rows
        while self._waiting:
            job = self._waiting[0].job
            num_rows += job.num_rows
            if job.group is not batch[0].job.group or num_rows > self._max_rows:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _answers(self, batch: list[_Waiting[Job, Answer]]) -> Iterator[Answer | BaseException]:
        """One for each request, as soon as it is there."""
        num_given = 0
        try:
            for answer in self._work([waiting.job for waiting in batch]):
                yield answer
                num_given += 1
        except Exception as error:
            left = batch[num_given:]
            if len(batch) == 1 or not self._again_alone:
                yield from [error] * len(left)
                return
            logger.exception("%s: %d requests together failed", self._name, len(batch))
            for waiting in left:
                yield from self._answers([waiting])


def _give(waiting: "_Waiting[Job, Answer]", answer: Answer | BaseException) -> None:
    # A loop that has ended has no one who waits.
    with contextlib.suppress(RuntimeError):
        waiting.loop.call_soon_threadsafe(_set, waiting.future, answer)


def _set(future: "asyncio.Future[Answer]", answer: Answer | BaseException) -> None:
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
