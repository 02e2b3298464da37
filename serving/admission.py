"""Who may enter: the token, and how many requests to infer are in the server for how long."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar

from serving import counters
from serving.refusal import RefusedError
from serving.settings import Limits

Content = TypeVar("Content")
Answer = TypeVar("Answer")
Given = ParamSpec("Given")
INLINE_BYTES = 16_384
"""Messages of no more than these are read on the event loop, in well under a millisecond; the
thread that larger ones have, for others must not wait so long, would take as long to begin."""


class Admission:
    """Bounds requests to infer over all transports: their number, and the time of each.

    Used from one event loop only.
    """

    def __init__(self, limits: Limits) -> None:
        """Args: the limits."""
        self._limits = limits
        self._num_inside = 0

    async def run(
        self,
        *,
        read: Callable[[], Awaitable[Content]],
        work: Callable[[Content], Coroutine[Any, Any, Answer]],
    ) -> Answer:
        """Read a request and answer it, within the limits.

        Work that runs out of time keeps its place until it has really ended, for a thread cannot be
        stopped: otherwise there would be no bound on the threads.

        Raises:
            RefusedError: All places are taken or the time is up (503), or the body did not arrive
                in time (408).
        """
        self._enter()
        with counters.REQUEST_SECONDS.time():
            return await self._run(read, work)

    async def _run(
        self,
        read: Callable[[], Awaitable[Content]],
        work: Callable[[Content], Coroutine[Any, Any, Answer]],
    ) -> Answer:
        deadline = asyncio.get_running_loop().time() + self._limits.max_seconds
        try:
            with counters.stage("receive"):
                content = await self.receive(read)
        except BaseException:
            self._leave()
            raise
        task = asyncio.create_task(work(content))
        task.add_done_callback(self._ended)
        left = deadline - asyncio.get_running_loop().time()
        done, _ = await asyncio.wait({task}, timeout=max(0.0, left))
        if not done:
            raise self._late("answer", HTTPStatus.SERVICE_UNAVAILABLE)
        return task.result()

    async def receive(self, read: Callable[[], Awaitable[Content]]) -> Content:
        """A request's body, which must arrive in time; RefusedError (408) where it does not."""
        try:
            async with asyncio.timeout(self._limits.max_seconds):
                return await read()
        except TimeoutError as error:
            raise self._late("body", HTTPStatus.REQUEST_TIMEOUT) from error

    def _enter(self) -> None:
        most = self._limits.max_concurrent
        if self._num_inside >= most:
            counters.TURNED_AWAY.inc()
            raise RefusedError(
                "requests",
                self._num_inside,
                f"fewer than {most} at one time; try again",
                status=HTTPStatus.SERVICE_UNAVAILABLE,
            )
        self._num_inside += 1
        counters.IN_FLIGHT.inc()

    def _leave(self) -> None:
        self._num_inside -= 1
        counters.IN_FLIGHT.dec()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._leave()
        if not task.cancelled():
            # Looked at, or asyncio would report the failure of work that no one waits for any more.
            task.exception()

    def _late(self, what: str, status: HTTPStatus) -> RefusedError:
        return RefusedError(
            what, "not there", f"within {self._limits.max_seconds:g} seconds", status=status
        )


async def inline_or_thread(
    num_bytes: int, work: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs
) -> Answer:
    """Do work on a message of that size."""
    if num_bytes <= INLINE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


def check_token(expected: str | None, header: bytes | str | None) -> None:
    """Refuse (401) a caller whose ``authorization`` is not ``Bearer`` and the token.

    The comparison takes as long for a nearly right token as for a wrong one. What was sent is not
    repeated: it may be somebody's secret.
    """
    if expected is None:
        return
    sent = header.encode("utf-8", "replace") if isinstance(header, str) else header or b""
    scheme, _, token = sent.partition(b" ")
    is_right = hmac.compare_digest(token.strip(), expected.encode())
    if scheme.lower() != b"bearer" or not is_right:
        raise RefusedError(
            "authorization",
            "absent" if not sent else "not right",
            "'Bearer ' and the server's token",
            status=HTTPStatus.UNAUTHORIZED,
        )
