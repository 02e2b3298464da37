"""HTTP/1.1 below the app: what uvicorn's protocol leaves open, closed.

It answers what is no HTTP in plain text, keeps a head of any size in memory and waits for it for
ever, takes any number of connections, loses the body of a request that offers another protocol, and
hands WebSockets past the token.
"""

import asyncio
import logging
import re
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.observability import metrics, request_metrics
from serving.settings import Limits

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers together, give or take what one read of the socket brings."""
HEAD_SECONDS = 10.0
"""Most time from a connection, or from the first byte of a later request, to the end of a head."""
_SPARE_SECONDS = 1.0
"""For the answer 408, which the app gives when a body is late, before the connection ends."""
logger = logging.getLogger(__name__)
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _is_in_head = True
    """Whether the next byte belongs to a request's line or headers."""
    _num_head_bytes = 0
    _num_messages = 0
    _awaited: tuple[int, bool] | None = None
    """What the timer is for: the number of a message, and whether it is its head."""
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *, limits: Limits, **options: Any) -> None:
        """Args: the limits, and what uvicorn gives."""
        super().__init__(**options)
        self._limits = limits
        self._old_from = self.loop.time() + limits.max_connection_seconds
        self._caller_left = self.loop.create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin, unless there are too many connections already."""
        super().connection_made(transport)
        metrics.CONNECTIONS.inc()
        most = self._limits.max_connections
        if len(self.connections) > most:
            limit = f"connections: {len(self.connections)}; at most {most}; try again"
            self._end(HTTPStatus.SERVICE_UNAVAILABLE, limit)
        else:
            self._wait_for((self._num_messages, True))

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        metrics.CONNECTIONS.dec()
        self._wait_for(None)
        self._caller_left.set_result(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came; a head that grows past the limit ends the connection."""
        if self._is_in_head:
            data = _without_upgrade(data)
            self._num_head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._num_head_bytes > MAX_HEAD_BYTES:
            limit = f"head: over {MAX_HEAD_BYTES} bytes; at most that"
            self._end(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, limit)
        is_between = self._is_in_head and not self._num_head_bytes
        self._wait_for(None if is_between else (self._num_messages, self._is_in_head))

    def on_message_begin(self) -> None:
        """A request begins; what answers it can see when its caller leaves."""
        super().on_message_begin()
        self.scope["caller_left"] = self._caller_left

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._is_in_head, self._num_head_bytes = False, 0
        super().on_headers_complete()
        if self.loop.time() > self._old_from:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._is_in_head = True
        self._num_messages += 1
        super().on_message_complete()

    def _wait_for(self, awaited: tuple[int, bool] | None) -> None:
        """Bound the time until a part of a message is there; None: nothing has begun."""
        if awaited == self._awaited:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._awaited, self._timer = awaited, None
        if awaited is not None and not self.transport.is_closing():
            _, is_head = awaited
            seconds = self._limits.max_seconds
            seconds = min(HEAD_SECONDS, seconds) if is_head else seconds + _SPARE_SECONDS
            self._timer = self.loop.call_later(seconds, self._late, is_head, seconds)

    def _late(self, is_head: bool, seconds: float) -> None:
        if is_head and self._num_head_bytes:
            self._end(HTTPStatus.REQUEST_TIMEOUT, f"head: not there; within {seconds:g} seconds")
        else:
            # There is no request, or the app has answered already.
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 and close."""
        self._end(HTTPStatus.BAD_REQUEST, f"http: {msg}; a well-formed HTTP/1.1 request")

    def _end(self, status: HTTPStatus, reason: str) -> None:
        if self.transport.is_closing():
            return
        request_metrics.count_error("rest", str(status.value), status=status)
        logger.warning("rejected: no request: %d %s", status, reason)
        body = orjson.dumps({"error": reason})
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """The same, but for offers of another protocol, which a server may ignore and this one does.

    The parser would stop behind the head and drop the body: HTTP clients of Java offer h2c with
    every first request. An offer that is cut by the end of what came is not seen: an error.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-ignored-upgrade:", head) + end + body
