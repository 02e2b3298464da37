"""What stands around every REST route: the token, the bound on bodies, one form of error.

ASGI middleware over KServe's app.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.requests import ClientDisconnect

from serving.admission import check_token
from serving.observability import request_metrics, tracing
from serving.protocol.errors import RequestError, shown
from serving.protocol.fields import MAX_TEXT
from serving.settings import Settings
from serving.transport.operations import OPEN_PATHS, allowed_methods, operation_at

_HEADERS = {
    HTTPStatus.UNAUTHORIZED: (b"www-authenticate", b"Bearer"),
    HTTPStatus.SERVICE_UNAVAILABLE: (b"retry-after", b"1"),
}

BODIES_AT_ONCE = 16
"""Bodies of the largest size that may be in memory at one time, or as many bytes of smaller."""
logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Gateway:
    """ASGI middleware: asks for the token, bounds every body, gives errors one form of body."""

    def __init__(self, app: App, *, settings: Settings) -> None:
        """Args: the app inside; the token and the limits."""
        self._app = app
        self._settings = settings
        self._incoming = _Incoming(BODIES_AT_ONCE * settings.limits.max_body_bytes)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass one request on and its answer back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A connection's requests may be answered in one and the same context.
        request_metrics.asks_for("")
        with _traced(scope, dict(scope["headers"])):
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        answer, headers = _Answer(scope, send), dict(scope["headers"])
        try:
            if scope["path"] not in OPEN_PATHS:
                check_token(self._settings.token, headers.get(b"authorization"))
            declared = headers.get(b"content-length", b"0")
            max_bytes = self._settings.limits.max_body_bytes
            with _Bounded(receive, declared, max_bytes, incoming=self._incoming) as bounded:
                await self._app(scope, bounded, answer.send)
        except RequestError as error:
            await answer.fail(error.status, str(error))
        except asyncio.CancelledError:
            # The server ends, and has waited for this one as long as it may.
            status = HTTPStatus.SERVICE_UNAVAILABLE
            await answer.fail(status, "server: stopping; ask another one, or later")
        except ClientDisconnect:
            logger.info("%s %s: the caller left", scope["method"], _where(scope))
        except Exception as error:
            tracing.failed(error)
            logger.exception("%s %s failed", scope["method"], _where(scope))
            await answer.fail(HTTPStatus.INTERNAL_SERVER_ERROR, "server: failed; its log says why")


def _where(scope: Message) -> str:
    """The path for one line of a log: a decoded one may hold line ends, and be of any length."""
    path: str = scope["path"]
    return path if path.isprintable() and len(path) <= MAX_TEXT else shown(path)


def _traced(scope: Message, headers: dict[bytes, bytes]) -> contextlib.AbstractContextManager[None]:
    """The span of a request that works: none for health checks and metrics."""
    if not tracing.is_on() or scope["method"] != "POST":
        return contextlib.nullcontext()
    operation = operation_at(scope["method"], scope["path"])
    if operation is None:
        return contextlib.nullcontext()
    texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
    return tracing.request(
        f"{operation.method} {operation.path}",
        texts,
        http__request__method=operation.method,
        http__route=operation.path,
    )


class _Incoming:
    """Bytes of all bodies that are in memory: who sends slowly has no place yet, but has those."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0

    def change(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        if num_bytes > 0 and self._num_bytes > self._max_bytes:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            limit = f"at most {self._max_bytes} of all requests; try again"
            raise RequestError("bodies", f"{self._num_bytes} bytes", limit, status=status)


class _Bounded:
    """A request's body that may not grow past the limit, whatever its headers claim.

    Checked when it is read: a route that reads no body answers whatever the caller claims to send.
    """

    def __init__(
        self, receive: Receive, declared: bytes, max_bytes: int, *, incoming: _Incoming
    ) -> None:
        self._receive = receive
        self._incoming = incoming
        self._num_declared = int(declared) if declared.isdigit() else 0
        self._num_bytes = 0
        self._max_bytes = max_bytes

    def __enter__(self) -> "_Bounded":
        return self

    def __exit__(self, *caught: object) -> None:
        self._incoming.change(-self._num_bytes)

    async def __call__(self) -> Message:
        self._check(self._num_declared)
        message = await self._receive()
        num_bytes = len(message.get("body", b""))
        self._num_bytes += num_bytes
        self._incoming.change(num_bytes)
        self._check(self._num_bytes)
        return message

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            limit = f"at most {self._max_bytes}"
            raise RequestError("body", f"{num_bytes} bytes", limit, status=status)


class _Answer:
    """Passes answers through and holds errors back until their body is in the one form."""

    def __init__(self, scope: Message, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._is_started = False
        self._held_status = 0
        self._held_body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
            self._held_status = message["status"]
        elif not self._held_status:
            if not self._is_started:
                tracing.answered(message["status"])
            self._is_started = True
            await self._send(message)
        elif message["type"] == "http.response.body":
            self._held_body += message.get("body", b"")
            if not message.get("more_body", False):
                await self.fail(self._held_status, self._reason())

    async def fail(self, status: int, reason: str) -> None:
        if self._is_started:
            raise RuntimeError(f"{self._scope['path']}: answer begun; cannot become: {reason}")
        tracing.answered(status, reason)
        request_metrics.count_error("rest", str(int(status)), status=status)
        where = _where(self._scope)
        logger.warning("rejected: %s %s: %d %s", self._scope["method"], where, status, reason)
        body = orjson.dumps({"error": reason})
        length = str(len(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            # The app names the methods of the first route of the path; a path may have several.
            methods = ", ".join(allowed_methods(self._scope["path"]))
            headers.append((b"allow", methods.encode()))
        headers += [_HEADERS[HTTPStatus(status)]] if status in _HEADERS else []
        await self._send({"type": "http.response.start", "status": int(status), "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _reason(self) -> str:
        """What the body inside said, by whichever name."""
        try:
            content = orjson.loads(self._held_body)
        except orjson.JSONDecodeError:
            content = self._held_body.decode(errors="replace")
        if isinstance(content, dict) and isinstance(content.get("error"), str):
            return str(content["error"])
        detail = content.get("detail", content) if isinstance(content, dict) else content
        return f"path: {shown(self._scope['path'])}; {detail}"
