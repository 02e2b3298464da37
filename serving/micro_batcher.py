"""Jobs that wait while others are worked on, and are then worked on together.

An idle thread starts at once: no job waits for company. So are features read and candidates scored,
each in threads of its own or both in one thread, one after the other.
"""

import collections
import concurrent.futures
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from prometheus_client import Histogram

from serving.observability import tracing

logger = logging.getLogger(__name__)

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class Submitted(concurrent.futures.Future[Answer], Generic[Job, Answer]):
    """The answer to a job that is still to come; cancelled in time, the job is not begun."""

    begun: float | None = None
    """The moment, of ``time.monotonic``, at which a thread began with it."""
    prepared: float | None = None
    """The moment, of ``time.perf_counter``, at which it had been prepared; None: not yet."""

    def __init__(self, job: Job, *, num_rows: int, group: object) -> None:
        """Args: as ``MicroBatcher.submit`` has them."""
        super().__init__()
        self.job = job
        self.num_rows = num_rows
        self.group = group
        self.context = contextvars.copy_context()
        """Of the request, for its spans."""


class MicroBatcher(Generic[Job, Answer]):
    """Threads that take jobs in their order, as many at once as there is room for."""

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Sequence[Answer | BaseException]],
        *,
        name: str,
        max_rows: int,
        num_threads: int,
        sizes: Histogram,
        again_alone: bool = True,
        prepare: Callable[[Sequence[Job]], Sequence[Job]] | None = None,
    ) -> None:
        """Hold what a batch is given to.

        Args:
            work: Does a batch; for each job an answer, or what is raised to who waits for it.
            name: Of the threads.
            max_rows: Most rows of a batch; a single job may have more.
            num_threads: Batches at one time.
            sizes: Where the numbers of jobs of the batches are counted.
            again_alone: Whether each job of a batch that failed is tried alone: one of them may be
                to blame, and the others must not pay for it.
            prepare: What the same thread does first, one thread at a time: makes of a batch's jobs
                those that ``work`` takes, or raises to all who wait for them. Until it has, a job
                can be cancelled.
        """
        self._work = work
        self._name = name
        self._max_rows = max_rows
        self._most_threads = num_threads
        self._sizes = sizes
        self._again_alone = again_alone
        self._prepare = prepare
        self._changed = threading.Condition()
        self._waiting: collections.deque[Submitted[Job, Answer]] = collections.deque()
        self._num_threads = 0
        self._num_idle = 0
        self._seconds_ended = 0.0
        self._begun: dict[int, float] = {}
        """When each thread that works now began with its batch."""

    @property
    def seconds_busy(self) -> float:
        """How long the threads have worked, or prepared where they do, until now, in all."""
        with self._changed:
            now = time.monotonic()
            return self._seconds_ended + sum(now - begun for begun in self._begun.values())

    def submit(
        self, job: Job, *, num_rows: int = 1, group: object = None
    ) -> Submitted[Job, Answer]:
        """Put a job in the queue.

        Args:
            job: What ``work`` takes.
            num_rows: Its candidates, or its rows to read.
            group: Only jobs of one and the same group come together.
        """
        submitted: Submitted[Job, Answer] = Submitted(job, num_rows=num_rows, group=group)
        with self._changed:
            self._waiting.append(submitted)
            # An idle thread that was woken for another job counts as idle until it runs.
            if self._num_idle < len(self._waiting) and self._num_threads < self._most_threads:
                self._start_thread()
            self._changed.notify()
        submitted.add_done_callback(self._forget)
        return submitted

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

    def _forget(self, done: concurrent.futures.Future[Answer]) -> None:
        """Take what was cancelled out of the queue, also while all threads hang."""
        if done.cancelled():
            with self._changed, contextlib.suppress(ValueError):
                self._waiting.remove(done)  # type: ignore[arg-type]

    def _work_on(self) -> None:
        while True:
            self._work_once()

    def _work_once(self) -> None:
        """Wait for a batch and do it; an idle thread keeps nothing of it."""
        number = threading.get_ident()
        with self._changed:
            self._num_idle += 1
            self._changed.wait_for(self._can_begin)
            self._num_idle -= 1
            taken = self._take()
            self._begun[number] = time.monotonic()
            for one in taken:
                one.begun = self._begun[number]
        if self._prepare is None:
            self._do(_begun(taken))
            self._end(number)
        elif self._is_prepared(taken, self._prepare):
            self._do(_begun(taken))

    def _is_prepared(
        self,
        batch: Sequence[Submitted[Job, Answer]],
        prepare: Callable[[Sequence[Job]], Sequence[Job]],
    ) -> bool:
        """Whether a batch could be prepared; all who wait for it have the reason where not."""
        try:
            for one, job in zip(batch, prepare([one.job for one in batch]), strict=True):
                one.job, one.prepared = job, time.perf_counter()
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            for one in _begun(batch):
                one.set_exception(error)
            return False
        finally:
            self._end(threading.get_ident())
        return True

    def _can_begin(self) -> bool:
        return bool(self._waiting) and not (self._prepare and self._begun)

    def _end(self, number: int) -> None:
        with self._changed:
            self._seconds_ended += time.monotonic() - self._begun.pop(number)
            if self._prepare:
                self._changed.notify()

    def _take(self) -> list[Submitted[Job, Answer]]:
        """The first that waits, and those behind it for as long as they fit."""
        batch = [self._waiting.popleft()]
        num_rows = batch[0].num_rows
        while self._waiting:
            one = self._waiting[0]
            num_rows += one.num_rows
            if one.group is not batch[0].group or num_rows > self._max_rows:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _do(self, batch: list[Submitted[Job, Answer]]) -> None:
        if not batch:
            return
        self._sizes.observe(len(batch))
        try:
            with tracing.shared([one.context for one in batch]):
                answers = self._work([one.job for one in batch])
            for one, answer in zip(batch, answers, strict=True):
                if isinstance(answer, BaseException):
                    one.set_exception(answer)
                else:
                    one.set_result(answer)
        except Exception as error:
            left = [one for one in batch if not one.done()]
            if len(batch) == 1 or not self._again_alone:
                for one in left:
                    one.set_exception(error)
                return
            logger.exception("%s: %d requests together failed", self._name, len(batch))
            for one in left:
                self._do([one])


def _begun(batch: Sequence[Submitted[Job, Answer]]) -> list[Submitted[Job, Answer]]:
    """Those that were not cancelled, and cannot be any more."""
    return [one for one in batch if one.set_running_or_notify_cancel()]
