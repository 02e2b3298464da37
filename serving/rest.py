"""The REST side: our own answers where KServe has none or wrong ones, and a gateway around all.

Both are added to KServe's public FastAPI app. A route registered first wins, so these stand before
KServe's when its server adds its own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, cast

import orjson
from fastapi import FastAPI, Request, Response
from kserve.protocol.dataplane import DataPlane
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving import counters
from serving.admission import Admission, check_token
from serving.calls import JSON_LENGTH_HEADER, from_rest
from serving.predictor import NAME, Ranker
from serving.refusal import RefusedError
from serving.repository import ChampionRepository
from serving.settings import Settings

CONTENT_TYPES = ("application/json", "application/octet-stream")
OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
"""Answered without a token: whoever asks whether a server is well has none."""
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: (b"www-authenticate", b"Bearer"),
    HTTPStatus.SERVICE_UNAVAILABLE: (b"retry-after", b"1"),
}

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Routes:
    """The endpoints that differ from KServe's."""

    def __init__(
        self,
        *,
        dataplane: DataPlane,
        ranker: Ranker,
        repository: ChampionRepository,
        admission: Admission,
    ) -> None:
        """Args: KServe's data plane, the model, the repository that loads it, who may enter."""
        self._admission = admission
        self._dataplane = dataplane
        self._ranker = ranker
        self._repository = repository

    def register(self, app: FastAPI) -> None:
        """Add the endpoints to an app."""
        model = "/v2/models/{model_name}"
        for path in (f"{model}/infer", f"{model}/versions/{{model_version}}/infer"):
            app.add_api_route(path, self.infer, methods=["POST"], response_model=None)
        version = f"{model}/versions/{{model_version}}"
        app.add_api_route(version, self.metadata, methods=["GET"], response_model=None)
        app.add_api_route(f"{version}/ready", self.ready, methods=["GET"], response_model=None)
        index = "/v2/repository/index"
        app.add_api_route(index, self.index, methods=["GET", "POST"], response_model=None)
        v1 = "/v1/models/{model_name}"
        app.add_api_route(f"{v1}:predict", self.refuse_v1, methods=["POST"], response_model=None)
        app.add_api_route(f"{v1}:explain", self.explain, methods=["POST"], response_model=None)

    async def infer(self, request: Request, model_name: str, model_version: str = "") -> Response:
        """Rank; the body is JSON, or JSON followed by binary tensors."""
        self._dataplane.get_model_from_registry(model_name)
        self._ranker.check_version(model_version)
        _check_content(request)
        length = request.headers.get(JSON_LENGTH_HEADER)

        async def work(body: bytes) -> tuple[Any, int | None]:
            # In a thread: reading a large body takes longer than others can wait.
            call = await asyncio.to_thread(
                from_rest, body, json_length=length, model_version=model_version
            )
            answer, _ = await self._dataplane.infer(model_name=model_name, request=call)
            return cast(tuple[Any, int | None], answer.to_rest())

        content, json_length = await self._admission.run(read=request.body, work=work)
        if json_length is None:
            return _json(content)
        headers = {JSON_LENGTH_HEADER: str(json_length)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    async def metadata(self, model_name: str, model_version: str) -> Response:
        """Metadata of the version that is loaded."""
        metadata = await self._dataplane.model_metadata(model_name)
        self._ranker.check_version(model_version)
        return _json(metadata)

    async def ready(self, model_name: str, model_version: str) -> Response:
        """Whether that version is the one that answers."""
        self._dataplane.get_model_from_registry(model_name)
        self._ranker.check_version(model_version)
        return _json({"name": model_name, "ready": True})

    async def index(self) -> Response:
        """What the repository holds."""
        return _json(self._repository.index())

    async def refuse_v1(self, model_name: str) -> Response:
        """The first protocol has no names or types for several inputs."""
        self._dataplane.get_model_from_registry(model_name)
        raise RefusedError("protocol", "v1", f"POST /v2/models/{NAME}/infer")

    async def explain(self, model_name: str) -> Response:
        """No scores are explained, in any protocol."""
        self._dataplane.get_model_from_registry(model_name)
        status = HTTPStatus.NOT_IMPLEMENTED
        raise RefusedError("verb", "explain", "scores are not explained", status=status)


class Gateway:
    """ASGI middleware: asks for the token, bounds every body, gives errors one form of body."""

    def __init__(self, app: App, *, settings: Settings) -> None:
        """Args: the app inside; the token and the limits."""
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass one request on and its answer back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        try:
            headers = dict(scope["headers"])
            if scope["path"] not in OPEN_PATHS:
                check_token(self._settings.token, headers.get(b"authorization"))
            declared = headers.get(b"content-length", b"0")
            bounded = _Bounded(receive, declared, self._settings.limits.max_body_bytes)
            await self._app(scope, bounded, answer.send)
        except RefusedError as refused:
            await answer.fail(refused.status, str(refused))
        except ClientDisconnect:
            logger.info("%s %s: the caller left", scope["method"], scope["path"])
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await answer.fail(HTTPStatus.INTERNAL_SERVER_ERROR, "server: failed; its log says why")


class _Bounded:
    """A request's body that may not grow past the limit, whatever its headers claim."""

    def __init__(self, receive: Receive, declared: bytes, max_bytes: int) -> None:
        self._receive = receive
        self._num_bytes = 0
        self._max_bytes = max_bytes
        if declared.isdigit():
            self._check(int(declared))

    async def __call__(self) -> Message:
        message = await self._receive()
        self._num_bytes += len(message.get("body", b""))
        self._check(self._num_bytes)
        return message

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            limit = f"at most {self._max_bytes}"
            raise RefusedError("body", f"{num_bytes} bytes", limit, status=status)


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
            self._is_started = True
            await self._send(message)
        elif message["type"] == "http.response.body":
            self._held_body += message.get("body", b"")
            if not message.get("more_body", False):
                await self.fail(self._held_status, self._reason())

    async def fail(self, status: int, reason: str) -> None:
        if self._is_started:
            raise RuntimeError(f"{self._scope['path']}: answer begun; cannot become: {reason}")
        counters.refuse("rest", str(int(status)), status=status)
        logger.warning(
            "refused: %s %s: %d %s", self._scope["method"], self._scope["path"], status, reason
        )
        body = orjson.dumps({"error": reason})
        length = str(len(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
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
        return f"path: {self._scope['path']!r}; {detail}"


class JsonErrorProtocol(HttpToolsProtocol):
    """What is no HTTP at all is refused below any app, in plain text; here in the one form."""

    def send_400_response(self, msg: str) -> None:
        """Answer 400 and close."""
        body = orjson.dumps({"error": f"http: {msg}; a well-formed HTTP/1.1 request"})
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def _check_content(request: Request) -> None:
    unsupported = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    content_type = request.headers.get("content-type", CONTENT_TYPES[0])
    if content_type.partition(";")[0].strip().lower() not in CONTENT_TYPES:
        raise RefusedError(
            "content-type", content_type, " or ".join(CONTENT_TYPES), status=unsupported
        )
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise RefusedError("content-encoding", encoding, "not compressed", status=unsupported)


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
