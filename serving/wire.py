"""HTTP/1.1 below the app: what uvicorn's protocol leaves open, closed.

It answers what is no HTTP in plain text, keeps a head of any size in memory, loses the body of a
request that offers another protocol, and hands WebSockets past the token.
"""

import logging
import re
from http import HTTPStatus

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving import counters

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers together, give or take what one read of the socket brings."""
logger = logging.getLogger(__name__)
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _is_in_head = True
    """Whether the next byte belongs to a request's line or headers."""
    _num_head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read what came; a head that grows past the limit ends the connection."""
        if self._is_in_head:
            data = _without_upgrade(data)
            self._num_head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._num_head_bytes > MAX_HEAD_BYTES:
            limit = f"head: over {MAX_HEAD_BYTES} bytes; at most that"
            self._end(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, limit)

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._is_in_head, self._num_head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._is_in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 and close."""
        self._end(HTTPStatus.BAD_REQUEST, f"http: {msg}; a well-formed HTTP/1.1 request")

    def _end(self, status: HTTPStatus, reason: str) -> None:
        if self.transport.is_closing():
            return
        counters.refuse("rest", str(status.value), status=status)
        logger.warning("refused: no request: %d %s", status, reason)
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
    every first request. An offer that is cut by the end of what came is not seen, and refused.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-ignored-upgrade:", head) + end + body
