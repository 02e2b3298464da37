"""The REST side: our own answers where KServe has none or wrong ones.

They are added to KServe's public FastAPI app. A route registered first wins, so these stand before
KServe's when its server adds its own.
"""

import asyncio
import functools
from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request, Response
from kserve.protocol.dataplane import DataPlane
from prometheus_client import REGISTRY, exposition
from prometheus_client.registry import Collector

from serving.admission import check_token
from serving.inference.ranking import RankingResponse
from serving.inference.served_models import ServedModels
from serving.protocol import fields
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import JSON_LENGTH_HEADER, Message, from_rest
from serving.protocol.v1 import from_v1
from serving.settings import Settings
from serving.transport.openapi import document
from serving.transport.operations import OPERATIONS, allowed_methods

JSON = "application/json"
CONTENT_TYPES = (JSON, "application/octet-stream")


class Routes:
    """The endpoints that differ from KServe's; each answers the operation of its name."""

    def __init__(
        self,
        *,
        dataplane: DataPlane,
        models: ServedModels,
        settings: Settings,
        collector: Collector = REGISTRY,
    ) -> None:
        """Nothing is registered yet.

        Args:
            dataplane: KServe's data plane.
            models: The models.
            settings: The settings.
            collector: Who has the metrics.
        """
        self._dataplane = dataplane
        self._models = models
        self._settings = settings
        self._collector = collector

    def register(self, app: FastAPI) -> None:
        """Add the endpoints to an app, and have it describe all of them and nothing else."""
        for operation in OPERATIONS:
            if operation.is_ours:
                answer = getattr(self, operation.name)
                methods = [operation.method]
                app.add_api_route(operation.path, answer, methods=methods, response_model=None)
        # A path with a slash too many is no path; elsewhere it would be answered 307.
        app.router.redirect_slashes = False
        app.openapi = self.openapi  # type: ignore[method-assign]

    def openapi(self) -> dict[str, object]:
        """The description of the endpoint as it is now."""
        return document(
            [(ranker.schema, ranker.version) for ranker in self._models.rankers],
            has_token=self._settings.token is not None,
            max_candidates=self._settings.limits.max_candidates,
        )

    async def infer(self, request: Request, model_name: str) -> Response:
        """Rank; the body is JSON, or JSON followed by binary tensors."""
        return await self.version_infer(request, model_name, "")

    async def version_infer(
        self, request: Request, model_name: str, model_version: str
    ) -> Response:
        """Rank by that version."""
        ranker = self._models.ranker(model_name)
        _check_content(request, CONTENT_TYPES)
        length = request.headers.get(JSON_LENGTH_HEADER)
        decode = functools.partial(from_rest, json_length=length, model_version=model_version)
        message = Message(
            read=request.body,
            decode=decode,
            encode=RankingResponse.to_rest,
            model_version=model_version,
            caller_left=request.scope.get("caller_left"),
        )
        content, json_length = await ranker.rank(message)
        if json_length is None:
            return Response(content, media_type=JSON)
        headers = {JSON_LENGTH_HEADER: str(json_length)}
        return Response(content, headers=headers, media_type=CONTENT_TYPES[1])

    async def predict(self, request: Request, model_name: str) -> Response:
        """Rank; the body has one object a candidate."""
        ranker = self._models.ranker(model_name)
        _check_content(request, (JSON,))
        message = Message(
            read=request.body,
            decode=functools.partial(from_v1, schema=ranker.schema),
            encode=RankingResponse.to_v1,
            model_version="",
            caller_left=request.scope.get("caller_left"),
        )
        return Response(await ranker.rank(message), media_type=JSON)

    async def explain(self, model_name: str) -> Response:
        """No scores are explained, in any protocol."""
        self._models.ranker(model_name)
        status = HTTPStatus.NOT_IMPLEMENTED
        raise RequestError("command", "explain", "scores are not explained", status=status)

    async def metadata(self, model_name: str) -> Response:
        """Inputs, outputs, and the version that is loaded, if any."""
        return _json(await self._dataplane.model_metadata(model_name))

    async def version_metadata(self, model_name: str, model_version: str) -> Response:
        """The same, insisting on a version."""
        metadata = await self._dataplane.model_metadata(model_name)
        self._models.ranker(model_name).check_version(model_version)
        return _json(metadata)

    async def metrics(self, request: Request) -> Response:
        """All metrics; their text takes milliseconds, which no request waits for."""
        encoder, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
        content = await asyncio.to_thread(encoder, self._collector)
        return Response(content, headers={"content-type": content_type})

    async def server_ready(self, request: Request) -> Response:
        """Whether a model can answer; open to all, so only who shows the token is told which."""
        if not await self._dataplane.ready():
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise RequestError("server", "not ready", "a model that is loaded", status=unavailable)
        try:
            check_token(self._settings.token, request.headers.get("authorization"))
        except RequestError:
            return _json({"ready": True})
        ready = {name: version is not None for name, version in self._models.versions.items()}
        return _json({"ready": True, "models": ready})

    async def ready(self, model_name: str) -> Response:
        """Whether the model can answer, and if not why."""
        return await self.version_ready(model_name, "")

    async def ready_v1(self, request: Request, model_name: str) -> Response:
        """The same; a name with a colon is an action, which has a method of its own."""
        if ":" in model_name and (allowed := allowed_methods(request.url.path)):
            not_allowed = HTTPStatus.METHOD_NOT_ALLOWED
            raise RequestError("method", request.method, " or ".join(allowed), status=not_allowed)
        return await self.version_ready(model_name, "")

    async def version_ready(self, model_name: str, model_version: str) -> Response:
        """Whether that version is the one that answers."""
        self._models.ranker(model_name).check_version(model_version)
        return _json({"name": model_name, "ready": True})

    async def index(self) -> Response:
        """What the repository holds."""
        return _json(self._models.index())

    async def index_of(self, request: Request) -> Response:
        """The same, or with ``{"ready": true}`` only what can answer."""
        message = await self._message(request)
        only_ready = fields.flag(message, "ready", "body")
        listed = self._models.index()
        return _json([one for one in listed if not only_ready or one["state"] == "READY"])

    async def load(self, request: Request, model_name: str) -> Response:
        """Load the champion; RequestError for another model or configuration in the body."""
        self._models.ranker(model_name)
        message = await self._message(request)
        for name, value in fields.mapping(message.get("parameters"), "parameters").items():
            limit = "none: the registry says what is loaded"
            raise RequestError("parameters", {name: value}, limit)
        await self._models.load(model_name)
        return _json({"name": model_name, "load": True})

    async def unload(self, model_name: str) -> Response:
        """RequestError (409): a model stays loaded."""
        self._models.unload(model_name)

    async def versions(self, model_name: str) -> Response:
        """Champion, canary and shadow: versions and shares."""
        return _json({"name": model_name, **self._models.ranker(model_name).versions.to_dict()})

    async def renew_versions(self, model_name: str) -> Response:
        """Let canary and shadow be who the registry says now.

        The caller names no version, so none can have a file opened that the registry does not name.
        """
        return _json({"name": model_name, **await self._models.follow(model_name)})

    async def _message(self, request: Request) -> dict[str, object]:
        """The JSON object in a body, which may be empty."""
        admission = self._models.admission
        body = await admission.receive(request.body, admission.deadline())
        return fields.message(body) if body else {}


def _check_content(request: Request, allowed: tuple[str, ...]) -> None:
    unsupported = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    content_type = request.headers.get("content-type", JSON)
    if content_type.partition(";")[0].strip().lower() not in allowed:
        raise RequestError("content-type", content_type, " or ".join(allowed), status=unsupported)
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise RequestError("content-encoding", encoding, "not compressed", status=unsupported)


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type=JSON)
