"""The gRPC side: KServe's service with our reading of requests, and a status for every error."""

import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import grpc
from google.protobuf.unknown_fields import UnknownFieldSet
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from serving.admission import Admission, check_token
from serving.inference.ranking import RankingResponse
from serving.inference.served_models import ServedModels
from serving.observability import request_metrics, tracing
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import Message, from_bytes, from_grpc, model_in
from serving.settings import MAX_BODY_BYTES, Settings, Tls

_CODES = {
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
}
"""Any other status is INVALID_ARGUMENT."""
_TRITON_MODEL, _TRITON_PARAMETERS = 2, 3
"""Fields of Triton's requests to the repository, which tritonclient sends."""
_TRACED = ("ModelInfer", "RepositoryModel")
_INFER = "/ModelInfer"
MAX_OTHER_BYTES = 64 * 1024
"""Of a message of any other call: it is decoded before any limit on their number."""
CALLS_PER_PLACE = 4
"""Calls over gRPC at one time for each request to infer that may be inside: those whose message is
still to come, health and metadata. More are RESOURCE_EXHAUSTED at once."""
_OPEN_METHODS = ("/ServerLive", "/ServerReady")
"""Answered without a token."""

logger = logging.getLogger(__name__)


class RankingServicer(InferenceServicer):
    """KServe's service; each method says what differs."""

    def __init__(self, dataplane: DataPlane, *, models: ServedModels) -> None:
        """Args: KServe's data plane, and the models."""
        self.admission = models.admission
        super().__init__(dataplane, ModelRepositoryExtension(models))
        self._dataplane = dataplane
        self._models = models

    async def ModelInfer(self, request: None, context: Any) -> Any:  # noqa: N802 - the service's name
        """Rank; KServe's decoding trusts shapes and sizes, and comes before any limit."""
        arrived_at, deadline = time.monotonic(), self.admission.deadline(context.time_remaining())
        self.admission.check_room()
        with tracing.span("receive"):
            content = await self.admission.receive(functools.partial(_content, context), deadline)
        ranker = self._models.ranker(model_in(content))
        request_metrics.has_taken(ranker.name, "receive", time.monotonic() - arrived_at)
        message = Message(
            read=content,
            decode=from_grpc,
            encode=RankingResponse.to_grpc,
            caller_seconds=context.time_remaining(),
            arrived_at=arrived_at,
        )
        return await ranker.rank(message)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's name
        """Metadata; KServe leaves the versions out, and answers for any."""
        metadata = await self._dataplane.model_metadata(request.name)
        if request.version:
            self._models.ranker(request.name).check_version(request.version)
        return messages.ModelMetadataResponse(**metadata)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's name
        """Whether the model, or that version of it, can answer; KServe answers for any version."""
        ranker = self._models.ranker(request.name)
        try:
            ranker.check_version(request.version)
        except RequestError:
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=True)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's name
        """Load; KServe subscripts None after it."""
        name = _repository_name(request)
        await self._models.load(name)
        return messages.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's name
        """Fail: a model stays loaded."""
        self._models.unload(_repository_name(request))


class StatusServer:
    """Takes the service's handlers to a server as ones that ask for the token.

    Every failure, even of reading a message, is a status with a reason. To gRPC each call is one
    whose requests are a stream, which is the same in HTTP/2: a message is then read when we ask for
    it, and may take as long as we say. An interceptor would make a handler for each call.
    """

    def __init__(self, server: grpc.aio.Server, token: str | None, admission: Admission) -> None:
        """Args: the server, the token that callers must show, and who says how long they take."""
        self._server = server
        self._token = token
        self._admission = admission

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Nothing: the same handlers follow by their names."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Answer these methods of a service."""
        answering = {
            name: grpc.stream_unary_rpc_method_handler(self._answering(f"/{service}/{name}", one))
            for name, one in handlers.items()
        }
        handler = grpc.method_handlers_generic_handler(service, answering)
        self._server.add_generic_rpc_handlers((handler,))

    def _answering(self, method: str, handler: Any) -> Callable[..., Awaitable[Any]]:
        token = None if method.endswith(_OPEN_METHODS) else self._token
        behaviour = functools.partial(self._read_and_answer, handler)
        if method.endswith(_INFER):
            # Who bounds how many requests there are reads them.
            behaviour = functools.partial(handler.unary_unary, None)
        return functools.partial(_answer, behaviour, method, token)

    async def _read_and_answer(self, handler: Any, context: Any) -> bytes:
        """The answer's bytes."""
        deadline = self._admission.deadline(context.time_remaining())
        content = await self._admission.receive(functools.partial(_content, context), deadline)
        if len(content) > MAX_OTHER_BYTES:
            raise RequestError("message", f"{len(content)} bytes", f"at most {MAX_OTHER_BYTES}")
        message = from_bytes(handler.request_deserializer, content)
        answered = await handler.unary_unary(message, context)
        serialized: bytes = handler.response_serializer(answered)
        return serialized


def create_server(
    servicer: RankingServicer, *, settings: Settings, address: str, is_shared: bool
) -> grpc.aio.Server:
    """A gRPC server with the service, bound to an address: encrypted where there are files.

    ``is_shared``: whether other processes answer at the same address.
    """
    limits = settings.limits
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limits.max_body_bytes),
            ("grpc.max_send_message_length", MAX_BODY_BYTES),
            ("grpc.max_connection_age_ms", int(limits.max_connection_seconds * 1e3)),
            ("grpc.max_connection_age_grace_ms", int(limits.max_seconds * 1e3)),
            # Two servers that know nothing of each other would take turns in answering.
            ("grpc.so_reuseport", int(is_shared)),
        ],
        maximum_concurrent_rpcs=CALLS_PER_PLACE * limits.max_concurrent,
    )
    add_GRPCInferenceServiceServicer_to_server(
        servicer, StatusServer(server, settings.token, servicer.admission)
    )
    credentials = _credentials(settings.tls)
    if credentials is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, credentials)
    return server


def _repository_name(request: Any) -> str:
    """The model of a request to the repository: KServe's first field, or Triton's second.

    In Triton's message the first field is a repository's name and the third has parameters, which
    no load takes: the registry says what is loaded.
    """
    others = {field.field_number: field.data for field in UnknownFieldSet(request)}
    if _TRITON_PARAMETERS in others and isinstance(request, messages.RepositoryModelLoadRequest):
        raise RequestError("parameters", "present", "none: the registry says what is loaded")
    if request.model_name or _TRITON_MODEL not in others:
        return str(request.model_name)
    name = others[_TRITON_MODEL]
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _credentials(tls: Tls) -> Any:
    if tls.certificate is None or tls.key is None:
        return None
    return grpc.ssl_server_credentials(
        [(tls.key.read_bytes(), tls.certificate.read_bytes())],
        root_certificates=tls.authority.read_bytes() if tls.authority else None,
        require_client_auth=tls.authority is not None,
    )


def _traced(method: str, metadata: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
    """The span of a call that works; none of health and metadata."""
    service, _, name = method.strip("/").partition("/")
    if not tracing.is_on() or not name.startswith(_TRACED):
        return contextlib.nullcontext()
    texts = {key: value for key, value in metadata.items() if isinstance(value, str)}
    return tracing.request(
        f"{service}/{name}", texts, rpc__system="grpc", rpc__service=service, rpc__method=name
    )


async def _content(context: Any) -> bytes:
    """The bytes of a call's message, once they are all there."""
    content = await context.read()
    if content is grpc.aio.EOF:
        raise RequestError("message", "absent", "one message")
    return bytes(content)


async def _answer(
    behaviour: Callable[..., Awaitable[Any]],
    method: str,
    token: str | None,
    messages: Any,
    context: Any,
) -> Any:
    metadata = dict(context.invocation_metadata() or ())
    request_metrics.asks_for("")
    with _traced(method, metadata):
        try:
            check_token(token, metadata.get("authorization"))
            answer = await behaviour(context)
        except RequestError as error:
            await _fail(context, method, error.status, str(error))
        except Exception as error:
            tracing.failed(error)
            tracing.answered_grpc("INTERNAL", grpc.StatusCode.INTERNAL.value[0], "server: failed")
            request_metrics.count_error("grpc", "INTERNAL", status=HTTPStatus.INTERNAL_SERVER_ERROR)
            logger.exception("%s failed", method)
            await context.abort(grpc.StatusCode.INTERNAL, "server: failed; its log says why")
        else:
            tracing.answered_grpc("OK", 0)
            return answer


async def _fail(context: Any, method: str, status: HTTPStatus, reason: str) -> None:
    code = _CODES.get(status, grpc.StatusCode.INVALID_ARGUMENT)
    request_metrics.count_error("grpc", code.name, status=status)
    tracing.answered_grpc(code.name, code.value[0], reason)
    logger.warning("rejected: %s: %s %s", method, code.name, reason)
    await context.abort(code, reason)
