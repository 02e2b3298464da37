"""Every REST operation of the endpoint and every status that it can answer with.

One table: routes are registered from it, ``/openapi.json`` is written from it, and the page on the
endpoint is held against it.
"""

import dataclasses
import re
from http import HTTPStatus

_MODEL = "/v2/models/{model_name}"
_VERSION = f"{_MODEL}/versions/{{model_version}}"
_REPOSITORY = "/v2/repository"
_V1_MODEL = "/v1/models/{model_name}"

OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
"""Answered without a token: a health check has none."""

_READ = (400, 408, 413)
"""What reading a body can come to."""
_INFER = (200, *_READ, 404, 415, 500, 503)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    name: str
    """Unique; of ours also the name of the method of ``Routes`` that answers."""
    summary: str
    codes: tuple[int, ...]
    """Every status that can occur, without the 401 of a server that asks for a token."""
    is_ours: bool = True
    """Whether we answer, or KServe does."""
    body: str = ""
    """Name of the body's description; empty: a body is not read."""
    answer: str = "object"
    """Name of the description of a good answer."""

    @property
    def is_open(self) -> bool:
        """Whether it is answered without a token."""
        return self.path in OPEN_PATHS

    def matches(self, path: str) -> bool:
        """Whether a path, as it was requested, is one of this operation's."""
        # A name holds no colon: "ranker:predict" is a command of ranker, not a model.
        named = re.escape(self.path).replace(r"\{model_name\}", "[^/:]+")
        pattern = named.replace(r"\{model_version\}", "[^/]+")
        return re.fullmatch(pattern, path) is not None

    def statuses(self, *, has_token: bool) -> list[HTTPStatus]:
        """The statuses in order, for a server with a token or without."""
        asks = has_token and not self.is_open
        return sorted(HTTPStatus(code) for code in {*self.codes, *((401,) if asks else ())})


OPERATIONS = (
    Operation(
        method="GET",
        path="/",
        name="alive",
        summary="Whether the process answers",
        codes=(200,),
        is_ours=False,
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="Metrics for Prometheus",
        codes=(200,),
        answer="metrics",
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        name="openapi",
        summary="This document",
        codes=(200,),
        is_ours=False,
    ),
    Operation(
        method="GET",
        path="/v1/models",
        name="models_v1",
        summary="Names of the models",
        codes=(200,),
        is_ours=False,
        answer="models",
    ),
    Operation(
        method="GET",
        path=_V1_MODEL,
        name="ready_v1",
        summary="Whether the model can answer",
        codes=(200, 404, 503),
        answer="ready",
    ),
    Operation(
        method="POST",
        path=f"{_V1_MODEL}:predict",
        name="predict",
        summary="Rank, with one object a candidate (protocol V1)",
        codes=_INFER,
        body="instances",
        answer="predictions",
    ),
    Operation(
        method="POST",
        path=f"{_V1_MODEL}:explain",
        name="explain",
        summary="Not implemented: no score is explained",
        codes=(404, 501),
    ),
    Operation(
        method="GET",
        path="/v2",
        name="server_metadata",
        summary="Name, version and extensions of the server",
        codes=(200,),
        is_ours=False,
        answer="server",
    ),
    Operation(
        method="GET",
        path="/v2/health/live",
        name="live",
        summary="Whether the process answers",
        codes=(200,),
        is_ours=False,
        answer="live",
    ),
    Operation(
        method="GET",
        path="/v2/health/ready",
        name="server_ready",
        summary="Whether a model can answer",
        codes=(200, 503),
        answer="is_ready",
    ),
    Operation(
        method="GET",
        path="/v2/models",
        name="models",
        summary="Names of the models",
        codes=(200,),
        is_ours=False,
        answer="models",
    ),
    Operation(
        method="GET",
        path=_MODEL,
        name="metadata",
        summary="Inputs, outputs and versions of the model",
        codes=(200, 404),
        answer="metadata",
    ),
    Operation(
        method="GET",
        path=f"{_MODEL}/ready",
        name="ready",
        summary="Whether the model can answer",
        codes=(200, 404, 503),
        answer="ready",
    ),
    Operation(
        method="POST",
        path=f"{_MODEL}/infer",
        name="infer",
        summary="Rank (protocol V2)",
        codes=_INFER,
        body="infer",
        answer="scores",
    ),
    Operation(
        method="GET",
        path=_VERSION,
        name="version_metadata",
        summary="The same, of a version that answers",
        codes=(200, 404, 503),
        answer="metadata",
    ),
    Operation(
        method="GET",
        path=f"{_VERSION}/ready",
        name="version_ready",
        summary="Whether that version is one that answers",
        codes=(200, 404, 503),
        answer="ready",
    ),
    Operation(
        method="POST",
        path=f"{_VERSION}/infer",
        name="version_infer",
        summary="Rank by that version and no other",
        codes=_INFER,
        body="infer",
        answer="scores",
    ),
    Operation(
        method="GET",
        path=f"{_REPOSITORY}/index",
        name="index",
        summary="What the repository holds",
        codes=(200,),
        answer="index",
    ),
    Operation(
        method="POST",
        path=f"{_REPOSITORY}/index",
        name="index_of",
        summary="What the repository holds, or only what is ready",
        codes=(200, *_READ),
        body="index_filter",
        answer="index",
    ),
    Operation(
        method="POST",
        path=f"{_REPOSITORY}/models/{{model_name}}/load",
        name="load",
        summary="Load the champion of this moment",
        codes=(200, *_READ, 404, 409),
        body="load",
        answer="loaded",
    ),
    Operation(
        method="POST",
        path=f"{_REPOSITORY}/models/{{model_name}}/unload",
        name="unload",
        summary="Refused: the only model stays loaded",
        codes=(404, 409),
    ),
    Operation(
        method="GET",
        path=f"{_REPOSITORY}/models/{{model_name}}/versions",
        name="versions",
        summary="Champion, canary and shadow: versions and shares",
        codes=(200, 404),
        answer="versions",
    ),
    Operation(
        method="POST",
        path=f"{_REPOSITORY}/models/{{model_name}}/versions",
        name="renew_versions",
        summary="Let canary and shadow be who the registry says now",
        codes=(200, 404, 409, 503),
        answer="versions",
    ),
)


def allowed_methods(path: str) -> list[str]:
    """The methods of a path as it was requested; none where there is no such path."""
    return sorted(operation.method for operation in OPERATIONS if operation.matches(path))


def operation_at(method: str, path: str) -> Operation | None:
    """The operation of a request, if there is one."""
    found = (o for o in OPERATIONS if o.method == method and o.matches(path))
    return next(found, None)
