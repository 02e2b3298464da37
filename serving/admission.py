"""Who may enter: the token, and how many requests to infer are in the server for how long."""

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import hmac
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from http import HTTPStatus
from typing import ParamSpec, TypeVar

from starlette.requests import ClientDisconnect

from serving.observability import metrics
from serving.protocol.errors import RequestError
from serving.settings import Limits

Content = TypeVar("Content")
Answer = TypeVar("Answer")
Given = ParamSpec("Given")


@dataclasses.dataclass(frozen=True)
class Deadline:
    """Until when a request may take."""

    seconds: float
    """From its arrival."""
    is_callers: bool = False
    """Whether its caller said so, and not the server's limit."""
    arrived_at: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float:
        """Not below 0."""
        return max(0.0, self.arrived_at + self.seconds - time.monotonic())


class Admission:
    """Bounds requests to infer over all transports and models: their number, and the time of each.

    The places are the process's: what they bound is its memory and its cores. Half of them are kept
    for the models, an equal part for each, so that one that gets more than it can answer turns its
    own callers away, and not those of the others; the other half goes to whoever comes first.

    Used from one event loop only.
    """

    def __init__(self, limits: Limits, models: Sequence[str] = ("",)) -> None:
        """No place is taken.

        Args:
            limits: The limits.
            models: Names of the models.
        """
        self._limits = limits
        self._inside: collections.Counter[str] = collections.Counter()
        self._kept = limits.max_concurrent // (2 * len(models)) if len(models) > 1 else 0
        self._models = tuple(models)
        self.threads = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="message")
        """For messages that are too large for the event loop."""

    @property
    def num_inside(self) -> int:
        """Requests that have a place."""
        return self._inside.total()

    def deadline(
        self, caller_seconds: float | None = None, *, arrived_at: float | None = None
    ) -> Deadline:
        """Of a request.

        Args:
            caller_seconds: How long its caller waits from now on, where it has said so.
            arrived_at: When it arrived, of ``time.monotonic``; None: now.
        """
        now = time.monotonic()
        arrived_at = now if arrived_at is None else arrived_at
        seconds, most = self._limits.max_seconds, self._limits.max_seconds
        if caller_seconds is not None:
            seconds = caller_seconds + now - arrived_at
        if seconds >= most:
            return Deadline(most, arrived_at=arrived_at)
        return Deadline(seconds, is_callers=True, arrived_at=arrived_at)

    async def receive(self, read: Callable[[], Awaitable[Content]], deadline: Deadline) -> Content:
        """A request's body, which must arrive in time; RequestError (408) where it does not."""
        try:
            async with asyncio.timeout(deadline.seconds_left):
                return await read()
        except TimeoutError as error:
            raise _late("body", deadline, HTTPStatus.REQUEST_TIMEOUT) from error

    def check_room(self, model: str = "") -> None:
        """RequestError (503) where no place is left for a request.

        Args:
            model: Which it asks for; empty: that is not known yet, and any place will do.
        """
        kept = self._kept and sum(
            max(0, self._kept - self._inside[other])
            for other in self._models
            if model and other != model
        )
        most = self._limits.max_concurrent - kept
        if self.num_inside >= most:
            metrics.TURNED_AWAY.labels(model).inc()
            raise RequestError(
                "requests",
                self.num_inside,
                f"fewer than {most} at one time; try again",
                status=HTTPStatus.SERVICE_UNAVAILABLE,
            )

    def enter(
        self,
        deadline: Deadline,
        caller_left: "asyncio.Future[None] | None" = None,
        *,
        model: str = "",
    ) -> "Place":
        """A place for the time of an ``async with``; as ``Place`` has it."""
        return Place(self, deadline, caller_left, model=model)

    def take(self, model: str) -> None:
        """Count a place as taken; RequestError (503) where there is none."""
        self.check_room(model)
        self._inside[model] += 1
        metrics.series(metrics.IN_FLIGHT, model).inc()

    def give_back(self, model: str) -> None:
        """Count it as free."""
        self._inside[model] -= 1
        metrics.series(metrics.IN_FLIGHT, model).dec()


class Place:
    """A request's place, from the moment that the request is there whole.

    Who sends slowly takes none. In its block the request is cancelled when its time is up or its
    caller has left: RequestError (503, 504 where the caller said the time) or ClientDisconnect.
    What has not begun then never does. What a thread is at keeps the place until it has ended, for
    a thread cannot be stopped: otherwise there would be no bound on the work.
    """

    def __init__(
        self,
        admission: Admission,
        deadline: Deadline,
        caller_left: "asyncio.Future[None] | None",
        *,
        model: str,
    ) -> None:
        """Nothing is taken yet.

        Args:
            admission: Who counts the places.
            deadline: Until when it may take.
            caller_left: Is done when the caller has left.
            model: For which it is.
        """
        self._admission = admission
        self._model = model
        self._deadline = deadline
        self._caller_left = caller_left
        self._num_users = 0
        """The request itself in its block, and each thread that works on after that."""
        self._is_open = False
        self._end: Exception | None = None

    async def __aenter__(self) -> "Place":
        """Take it; RequestError (503) where there is none."""
        self._admission.take(self._model)
        self._num_users, self._is_open = 1, True
        self._loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._task, self._num_cancelling = task, task.cancelling()
        self._timer = self._loop.call_later(self._deadline.seconds_left, self._on_late)
        if self._caller_left is not None:
            self._caller_left.add_done_callback(self._on_left)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Give it back, unless a thread still works on the request."""
        self._is_open = False
        self._timer.cancel()
        if self._caller_left is not None:
            self._caller_left.remove_done_callback(self._on_left)
        self._give_back()
        if kind is asyncio.CancelledError:
            metrics.ABANDONED.labels(self._model).inc()
            if self._end is not None and self._task.uncancel() <= self._num_cancelling:
                raise self._end from error

    async def run(
        self,
        is_large: bool,
        work: Callable[Given, Answer],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Answer:
        """Do work at once, or in a thread where it is large: the event loop has others to serve.

        A thread would take as long to begin as small work takes.
        """
        if not is_large:
            return work(*args, **kwargs)
        return await self.wait_for(self._admission.threads.submit(work, *args, **kwargs))

    async def wait_for(self, work: "concurrent.futures.Future[Answer]") -> Answer:
        """What a thread makes; as ``keeping`` has it."""
        with self.keeping(work):
            return await asyncio.wrap_future(work)

    @contextlib.contextmanager
    def keeping(self, work: "concurrent.futures.Future[Answer]") -> Iterator[None]:
        """While a thread's work is waited for, which does not begin where the request ends."""
        try:
            yield
        except asyncio.CancelledError:
            if not work.cancel():
                self._num_users += 1
                work.add_done_callback(self._on_thread_ended)
            elif getattr(work, "begun", None) is None:
                metrics.DROPPED.labels(self._model).inc()
            raise

    def _on_late(self) -> None:
        self._cancel(_late("answer", self._deadline, HTTPStatus.SERVICE_UNAVAILABLE))

    def _on_left(self, _: "asyncio.Future[None]") -> None:
        self._cancel(ClientDisconnect())

    def _cancel(self, end: Exception) -> None:
        if self._is_open and self._end is None:
            self._end = end
            self._task.cancel()

    def _on_thread_ended(self, _: "concurrent.futures.Future[Answer]") -> None:
        # A loop that has ended has no one who waits for a place.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._give_back)

    def _give_back(self) -> None:
        self._num_users -= 1
        if not self._num_users:
            self._admission.give_back(self._model)


def _late(what: str, deadline: Deadline, status: HTTPStatus) -> RequestError:
    limit = f"within {deadline.seconds:g} seconds"
    if deadline.is_callers:
        status, limit = HTTPStatus.GATEWAY_TIMEOUT, f"{limit}, as the caller asked"
    return RequestError(what, "not there", limit, status=status)


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
