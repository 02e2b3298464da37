"""Every REST operation of the endpoint and every status that it can answer with.

One table: routes are registered from it, ``/openapi.json`` is written from it, and the page on the
endpoint is held against it.
"""

import dataclasses
import functools
import re

_MODEL = "/v2/models/{model_name}"
_VERSION = f"{_MODEL}/versions/{{model_version}}"
_REPOSITORY = "/v2/repository"
_STORED = f"{_REPOSITORY}/models/{{model_name}}"
_V1_MODEL = "/v1/models/{model_name}"

OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
"""Answered without a token: a health check has none."""

_READ = (400, 408, 413)
"""What reading a body can come to."""
_INFER = (200, *_READ, 404, 415, 500, 503)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One method of one path.

    Args:
        method: Of HTTP.
        path: With the names of its parameters.
        name: Unique; of ours also the name of the method of ``Routes`` that answers.
        summary: What it is for.
        codes: Every status that can occur, without the 401 of a server that asks for a token.
        body: Name of the body's description; empty: a body is not read.
        answer: Name of the description of a good answer.
        is_ours: Whether we answer, or KServe does.
    """

    method: str
    path: str
    name: str
    summary: str
    codes: tuple[int, ...] = (200,)
    _: dataclasses.KW_ONLY
    body: str = ""
    answer: str = "object"
    is_ours: bool = True

    def matches(self, path: str) -> bool:
        """Whether a path, as it was requested, is one of this operation's."""
        # A name holds no colon: "shop:predict" is a command of the model shop, not a model.
        named = re.escape(self.path).replace(r"\{model_name\}", "[^/:]+")
        pattern = named.replace(r"\{model_version\}", "[^/]+")
        return re.fullmatch(pattern, path) is not None


_get, _post = (functools.partial(Operation, method) for method in ("GET", "POST"))
OPERATIONS = (
    _get("/", "alive", "Whether the process answers", is_ours=False),
    _get("/metrics", "metrics", "Metrics for Prometheus", answer="metrics"),
    _get("/openapi.json", "openapi", "This document", is_ours=False),
    _get("/v1/models", "models_v1", "Names of the models", answer="models", is_ours=False),
    _get(_V1_MODEL, "ready_v1", "Whether the model can answer", (200, 404, 503), answer="ready"),
    _post(
        f"{_V1_MODEL}:predict",
        "predict",
        "Rank, with one object a candidate (protocol V1)",
        _INFER,
        body="instances",
        answer="predictions",
    ),
    _post(f"{_V1_MODEL}:explain", "explain", "Not implemented: no score is explained", (404, 501)),
    _get(
        "/v2",
        "server_metadata",
        "Name, version and extensions of the server",
        answer="server",
        is_ours=False,
    ),
    _get("/v2/health/live", "live", "Whether the process answers", answer="live", is_ours=False),
    _get(
        "/v2/health/ready",
        "server_ready",
        "Whether a model can answer; to callers with the token, which",
        (200, 503),
        answer="is_ready",
    ),
    _get("/v2/models", "models", "Names of the models", answer="models", is_ours=False),
    _get(
        _MODEL,
        "metadata",
        "Inputs, outputs and versions of the model",
        (200, 404),
        answer="metadata",
    ),
    _get(
        f"{_MODEL}/ready", "ready", "Whether the model can answer", (200, 404, 503), answer="ready"
    ),
    _post(f"{_MODEL}/infer", "infer", "Rank (protocol V2)", _INFER, body="infer", answer="scores"),
    _get(
        _VERSION,
        "version_metadata",
        "The same, of a version that answers",
        (200, 404, 503),
        answer="metadata",
    ),
    _get(
        f"{_VERSION}/ready",
        "version_ready",
        "Whether that version is one that answers",
        (200, 404, 503),
        answer="ready",
    ),
    _post(
        f"{_VERSION}/infer",
        "version_infer",
        "Rank by that version and no other",
        _INFER,
        body="infer",
        answer="scores",
    ),
    _get(
        f"{_REPOSITORY}/index",
        "index",
        "The versions that are loaded, of all models",
        answer="index",
    ),
    _post(
        f"{_REPOSITORY}/index",
        "index_of",
        "The same, or only what is ready",
        (200, *_READ),
        body="index_filter",
        answer="index",
    ),
    _post(
        f"{_STORED}/load",
        "load",
        "Load the champion of this moment",
        (200, *_READ, 404, 409),
        body="load",
        answer="loaded",
    ),
    _post(f"{_STORED}/unload", "unload", "Rejected: a model stays loaded", (404, 409)),
    _get(
        f"{_STORED}/versions",
        "versions",
        "Champion, canary and shadow: versions and shares",
        (200, 404),
        answer="versions",
    ),
    _post(
        f"{_STORED}/versions",
        "renew_versions",
        "Let canary and shadow be who the registry says now",
        (200, 404, 409, 503),
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
