"""The workers of a supervisor: they start, change versions together, are replaced, and end."""

import asyncio
import collections
import dataclasses
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus

from prometheus_client.multiprocess import mark_process_dead

from serving.observability import metrics
from serving.processes import messages
from serving.processes.channel import Channel
from serving.processes.shared_memory import SharedMoment, SharedObject
from serving.protocol.errors import RequestError

MODULE = "serving.processes.worker"
PREPARE_SECONDS = 120.0
"""How long a worker may take to map what the supervisor has loaded, its own start included."""
_OWN_END_SECONDS = 1.0
"""From a worker's last word until it is killed."""
COMMIT_SECONDS = 60.0
"""How long it may take to serve what it has prepared, a warm-up request included."""
MAX_CRASHES, CRASHES_SECONDS = 5, 300.0
"""Workers that may end unasked within so much time; after one more the endpoint ends."""
STOP_SECONDS = 20.0
"""For the end of a worker behind the time in which it answers what has begun."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Versions that all workers are to serve, and the memory in which they are."""

    message: messages.Prepare
    images: Sequence[SharedObject]

    @property
    def descriptors(self) -> list[int]:
        """Of the images, in the message's order."""
        return [image.descriptor for image in self.images]


@dataclasses.dataclass(eq=False)
class _Member:
    process: "subprocess.Popen[bytes]"
    channel: Channel
    is_listening: bool = False


class Workers:
    """All workers; used from one event loop."""

    def __init__(
        self,
        begin: messages.Begin,
        models: Mapping[str, tuple[SharedObject, SharedMoment]],
        *,
        number: int,
        on_change: Callable[[messages.OfModel], Awaitable[None]],
    ) -> None:
        """None is started yet.

        Args:
            begin: What each is to begin with.
            models: The schema of each model, and since when its items equal the store's.
            number: How many there are to be.
            on_change: Does what a worker asks for: ``Load`` or ``Follow``.
        """
        self._begin = begin
        self._number = number
        self._models = models
        self._on_change = on_change
        self._members: list[_Member] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._items: dict[str, SharedObject | None] = {}
        self._serving: dict[str, Plan] = {}
        self._pending: dict[str, Plan] = {}
        self._crashes: collections.deque[float] = collections.deque(maxlen=MAX_CRASHES)
        self._is_complete = False
        self._is_stopping = False
        self.failed = asyncio.Event()
        """Set when workers have ended unasked too often."""

    def start(self) -> None:
        """Start all; each answers once it has versions and items."""
        for _ in range(self._number):
            self._start_one()

    def hold_items(self, model: str, items: SharedObject | None) -> None:
        """Have all workers use these items of a model; None: they read them for each request."""
        self._items[model] = items
        for member in self._members:
            self._send_items(member, model)

    async def prepare(self, plan: Plan) -> None:
        """Have all workers load versions.

        Raises:
            RequestError: One of them cannot (409); all go on with what they have.
        """
        self._pending[plan.message.model] = plan
        errors = await self._ask_all(plan.message, plan.descriptors, seconds=PREPARE_SECONDS)
        if errors:
            self.release(plan.message.model)
            why = f"all serve {plan.message.generation}: {errors[0][1]}"
            raise RequestError("workers", len(errors), why, status=HTTPStatus.CONFLICT)

    async def commit(self, model: str) -> None:
        """Have all workers serve what they have prepared of a model.

        At the end none of them serves anything else: who does not change in time is replaced.
        """
        plan = self._serving[model] = self._pending.pop(model)
        commit = messages.Commit(model, plan.message.generation)
        for member, error in await self._ask_all(commit, seconds=COMMIT_SECONDS):
            logger.error("worker %d: killed: %s", member.process.pid, error)
            member.process.kill()

    def release(self, model: str) -> None:
        """Have all workers drop what they have prepared of a model."""
        self._pending.pop(model, None)
        for member in self._members:
            member.channel.send(messages.Release(model))

    async def stop(self, drain_seconds: float) -> None:
        """End all, once what has begun is answered; who takes longer is killed."""
        self._is_stopping = True
        for member in self._members:
            if member.is_listening:
                member.channel.send(messages.Stop())
            else:
                member.process.kill()
        deadline = time.monotonic() + drain_seconds + STOP_SECONDS
        while self._members or self._ending:
            if time.monotonic() > deadline:
                self.kill()
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """End all at once."""
        for member in self._members:
            member.process.kill()

    async def _ask_all(
        self, message: object, descriptors: Sequence[int] = (), *, seconds: float
    ) -> list[tuple[_Member, str]]:
        """Ask all workers for something; who fails or is late, and why, of those that live."""
        asked = {member: member.channel.send(message, descriptors) for member in self._members}
        if asked:
            await asyncio.wait(asked.values(), timeout=seconds)
        late = f"{type(message).__name__}: not done within {seconds:g} seconds"
        return [
            (member, str(future.exception()) if future.done() else late)
            for member, future in asked.items()
            if member in self._members and (not future.done() or future.exception())
        ]

    def _start_one(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                # The stdout of a command has one JSON object.
                stdout=sys.stderr.fileno(),
                pass_fds=[theirs.fileno()],
                # Signals of a terminal are for the supervisor.
                start_new_session=True,
            )
        messages.send(ours, self._begin)
        for name, shared in self._models.items():
            messages.send(ours, messages.Model(name), [one.descriptor for one in shared])
        channel = Channel(
            ours,
            answer=lambda message, _: self._answer(member, message),
            on_end=lambda: self._on_end(member),
        )
        member = _Member(process, channel)
        self._members.append(member)
        channel.start()
        for name in self._items:
            self._send_items(member, name)
        # In this order: it begins with what the others serve, and may then change with them.
        for plan in self._serving.values():
            self._begin_with(member, plan)
        for plan in self._pending.values():
            channel.send(plan.message, plan.descriptors)
        if self._is_complete:
            channel.send(messages.Complete())

    def _begin_with(self, member: _Member, plan: Plan) -> None:
        """Without versions a worker has no use."""
        prepared = member.channel.send(plan.message, plan.descriptors)
        commit = messages.Commit(plan.message.model, plan.message.generation)
        committed = member.channel.send(commit)
        for answer in (prepared, committed):
            answer.add_done_callback(
                lambda done: member.process.kill() if done.exception() else None
            )

    def _send_items(self, member: _Member, model: str) -> None:
        items = self._items[model]
        descriptors = [] if items is None else [items.descriptor]
        member.channel.send(messages.HoldItems(model), descriptors)

    async def _answer(self, member: _Member, message: object) -> None:
        if isinstance(message, messages.OfModel):
            await self._on_change(message)
            return
        member.is_listening = True
        self._show()
        if not self._is_complete and sum(one.is_listening for one in self._members) == self._number:
            self._is_complete = True
            for one in self._members:
                one.channel.send(messages.Complete())

    def _on_end(self, member: _Member) -> None:
        self._members.remove(member)
        self._show()
        ending = asyncio.get_running_loop().create_task(self._bury(member))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        if self._is_stopping:
            return
        metrics.WORKER_RESTARTS.inc()
        now = time.monotonic()
        if len(self._crashes) == MAX_CRASHES and now - self._crashes[0] < CRASHES_SECONDS:
            self.failed.set()
        else:
            self._crashes.append(now)
            self._start_one()

    async def _bury(self, member: _Member) -> None:
        """Take a worker off the process table, and its gauges out of the metrics."""
        process = member.process
        if not self._is_stopping:
            try:
                code = await asyncio.to_thread(process.wait, _OWN_END_SECONDS)
                how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                logger.error("worker %d: ended unasked: %s", process.pid, how)
            except subprocess.TimeoutExpired:
                logger.warning("worker %d: closed its channel, and is killed", process.pid)
            process.kill()
        await asyncio.to_thread(process.wait)
        mark_process_dead(process.pid)

    def _show(self) -> None:
        metrics.WORKERS.set(sum(member.is_listening for member in self._members))
