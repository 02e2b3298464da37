"""Who may enter: the token, and how many requests to infer are in the server for how long."""

import asyncio
import dataclasses
import hmac
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import ParamSpec, TypeVar

from serving.observability import metrics, request_metrics
from serving.protocol.errors import RequestError
from serving.settings import Limits

Content = TypeVar("Content")
Answer = TypeVar("Answer")
Given = ParamSpec("Given")
INLINE_BYTES = 16_384
"""Messages of no more than these are read on the event loop, in well under a millisecond; the
thread that larger ones have, for others must not wait so long, would take as long to begin."""


@dataclasses.dataclass(frozen=True)
class Deadline:
    """Until when a request may take."""

    seconds: float
    """From its arrival."""
    is_callers: bool = False
    """Whether its caller said so, and not the server's limit."""
    moment: float = dataclasses.field(init=False)
    """Of ``time.monotonic``."""

    def __post_init__(self) -> None:
        """It counts from now."""
        object.__setattr__(self, "moment", time.monotonic() + self.seconds)

    @property
    def seconds_left(self) -> float:
        """Not below 0."""
        return max(0.0, self.moment - time.monotonic())


class Admission:
    """Bounds requests to infer over all transports: their number, and the time of each.

    Used from one event loop only.
    """

    def __init__(self, limits: Limits) -> None:
        """Args: the limits."""
        self._limits = limits
        self._num_inside = 0

    def deadline(self, caller_seconds: float | None = None) -> Deadline:
        """Of a request that arrives now.

        Args:
            caller_seconds: How long its caller waits, where it has said so.
        """
        most = self._limits.max_seconds
        if caller_seconds is None or caller_seconds >= most:
            return Deadline(most)
        return Deadline(caller_seconds, is_callers=True)

    async def run(
        self,
        *,
        read: Callable[[], Awaitable[Content]],
        work: Callable[[Content, float], Coroutine[object, None, Answer]],
        caller_seconds: float | None = None,
        until_left: Callable[[], Coroutine[object, None, None]] | None = None,
    ) -> Answer:
        """Read a request and answer it, within the limits.

        A request has a place from the moment that it is there whole: who sends slowly takes none.
        Work is cancelled when its time is up or its caller has left. What has not begun then never
        does. What a thread is at keeps its place until it has ended, for a thread cannot be
        stopped: otherwise there would be no bound on the work.

        Args:
            read: Receives it.
            work: Answers what was received until a moment of ``time.monotonic``.
            caller_seconds: How long its caller waits, where it has said so.
            until_left: Raises when the caller has left; None: this call is cancelled then.

        Raises:
            RequestError: All places are taken or the time is up (503), or the body did not arrive
                in time (408).
        """
        with metrics.REQUEST_SECONDS.time():
            deadline = self.deadline(caller_seconds)
            self._check_room()
            with request_metrics.stage("receive"):
                content = await self.receive(read, deadline)
            self._enter()
            task = asyncio.create_task(work(content, deadline.moment))
            task.add_done_callback(self._ended)
            return await self._answered(task, deadline, until_left)

    async def _answered(
        self,
        task: "asyncio.Task[Answer]",
        deadline: Deadline,
        until_left: Callable[[], Coroutine[object, None, None]] | None,
    ) -> Answer:
        watch = None if until_left is None else asyncio.create_task(until_left())
        waited_for: set[asyncio.Task[object]] = {task} if watch is None else {task, watch}
        if watch is not None:
            watch.add_done_callback(_look_at)
        try:
            await asyncio.wait(
                waited_for, timeout=deadline.seconds_left, return_when=asyncio.FIRST_COMPLETED
            )
            if task.done():
                return task.result()
            if watch is not None and watch.done():
                watch.result()
            raise _late("answer", deadline, HTTPStatus.SERVICE_UNAVAILABLE)
        finally:
            if watch is not None:
                watch.cancel()
            if not task.done():
                metrics.ABANDONED.inc()
                task.cancel()

    async def receive(self, read: Callable[[], Awaitable[Content]], deadline: Deadline) -> Content:
        """A request's body, which must arrive in time; RequestError (408) where it does not."""
        try:
            async with asyncio.timeout(deadline.seconds_left):
                return await read()
        except TimeoutError as error:
            raise _late("body", deadline, HTTPStatus.REQUEST_TIMEOUT) from error

    def _check_room(self) -> None:
        most = self._limits.max_concurrent
        if self._num_inside >= most:
            metrics.TURNED_AWAY.inc()
            raise RequestError(
                "requests",
                self._num_inside,
                f"fewer than {most} at one time; try again",
                status=HTTPStatus.SERVICE_UNAVAILABLE,
            )

    def _enter(self) -> None:
        self._check_room()
        self._num_inside += 1
        metrics.IN_FLIGHT.inc()

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._num_inside -= 1
        metrics.IN_FLIGHT.dec()
        _look_at(task)


def _look_at(task: asyncio.Task[object]) -> None:
    """So that asyncio does not report the failure of what no one waits for any more."""
    if not task.cancelled():
        task.exception()


def _late(what: str, deadline: Deadline, status: HTTPStatus) -> RequestError:
    limit = f"within {deadline.seconds:g} seconds"
    if deadline.is_callers:
        status, limit = HTTPStatus.GATEWAY_TIMEOUT, f"{limit}, as the caller asked"
    return RequestError(what, "not there", limit, status=status)


async def inline_or_thread(
    num_bytes: int, work: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs
) -> Answer:
    """Do work on a message of that size."""
    if num_bytes <= INLINE_BYTES:
        return work(*args, **kwargs)
    return await in_thread(work, *args, **kwargs)


async def in_thread(
    work: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs
) -> Answer:
    """As ``asyncio.to_thread``; cancelled, it ends when the thread has, or at once if not begun.

    So a request keeps its place for as long as a thread works on it.
    """
    has_begun = threading.Event()

    def begin() -> Answer:
        has_begun.set()
        return work(*args, **kwargs)

    task = asyncio.create_task(asyncio.to_thread(begin))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if has_begun.is_set():
            await asyncio.wait({task})
        task.cancel()
        raise


def check_token(expected: str | None, header: bytes | str | None) -> None:
    """RequestError (401) for a caller whose ``authorization`` is not ``Bearer`` and the token.

    The comparison takes as long for a nearly right token as for a wrong one. What was sent is not
    repeated: it may be a secret.
    """
    if expected is None:
        return
    sent = header.encode("utf-8", "replace") if isinstance(header, str) else header or b""
    scheme, _, token = sent.partition(b" ")
    is_right = hmac.compare_digest(token.strip(), expected.encode())
    if scheme.lower() != b"bearer" or not is_right:
        raise RequestError(
            "authorization",
            "absent" if not sent else "not right",
            "'Bearer ' and the server's token",
            status=HTTPStatus.UNAUTHORIZED,
        )
