"""Questions and their answers between two processes, both ways, over one socket."""

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence

from serving.processes import messages
from serving.protocol.errors import RequestError

Answer = Callable[[object, Sequence[int]], Awaitable[None]]
"""Does what a message asks for; an exception is the answer. The descriptors are closed then."""

logger = logging.getLogger(__name__)


class ChannelError(RuntimeError):
    """The other side has ended, or has failed at what it was asked for."""


class Channel:
    """One end; used from one event loop. Answers are worked on at the same time."""

    def __init__(
        self, connection: socket.socket, *, answer: Answer, on_end: Callable[[], None]
    ) -> None:
        """Nothing is read yet.

        Args:
            connection: One of a pair (``SOCK_SEQPACKET``).
            answer: For each message of the other side.
            on_end: Called once, when the other side has ended.
        """
        self._connection = connection
        self._answer = answer
        self._on_end = on_end
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._is_open = True

    def start(self) -> None:
        """Read from now on."""
        self._connection.setblocking(False)
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self._read)

    def send(self, message: object, descriptors: Sequence[int] = ()) -> "asyncio.Future[None]":
        """Send a message now; what is to be awaited for the answer.

        Args:
            message: What is asked for.
            descriptors: Files that the other side gets too.

        Raises:
            RequestError: The other side has raised it (from the future).
            ChannelError: It has failed otherwise, or ended (from the future).
        """
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        # An answer that no one waits for is no error of the event loop.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            messages.send(self._connection, ("ask", number, message), descriptors)
        except OSError as error:
            future.set_exception(ChannelError(f"{type(message).__name__}: not sent: {error}"))
        else:
            self._asked[number] = future
            future.add_done_callback(lambda done: self._forget(number, done))
        return future

    def close(self) -> None:
        """End this side."""
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._connection.close()
            for future in list(self._asked.values()):
                if not future.done():
                    future.set_exception(ChannelError("the other side has ended"))
            for task in self._answering.values():
                task.cancel()
            self._on_end()

    def _forget(self, number: int, future: "asyncio.Future[None]") -> None:
        del self._asked[number]
        if future.cancelled() and self._is_open:
            self._reply("cancel", number)

    def _read(self) -> None:
        while self._is_open:
            try:
                content, descriptors = messages.receive(self._connection)
            except BlockingIOError:
                return
            except (EOFError, OSError):
                self.close()
                return
            self._take(content, descriptors)

    def _take(self, content: object, descriptors: list[int]) -> None:
        assert isinstance(content, tuple)
        kind, number, body = content
        if kind == "ask":
            task = asyncio.get_running_loop().create_task(self._work(number, body, descriptors))
            self._answering[number] = task
            task.add_done_callback(lambda _: self._answering.pop(number))
        elif kind == "cancel" and number in self._answering:
            self._answering[number].cancel()
        elif kind == "done" and number in self._asked:
            future = self._asked[number]
            if body is None:
                future.set_result(None)
            else:
                future.set_exception(body)

    async def _work(self, number: int, body: object, descriptors: list[int]) -> None:
        error: Exception | None = None
        try:
            await self._answer(body, descriptors)
        except RequestError as refused:
            error = refused
        except Exception as failed:
            logger.exception("%s failed", type(body).__name__)
            error = ChannelError(f"{type(failed).__name__}: {failed}")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if self._is_open:
            self._reply("done", number, error)

    def _reply(self, kind: str, number: int, body: object = None) -> None:
        try:
            messages.send(self._connection, (kind, number, body))
        except OSError:
            # The other side ends, or does not read: its reader, or who waits for it, sees that.
            logger.warning("%s: not sent", kind)
