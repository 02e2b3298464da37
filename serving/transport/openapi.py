"""``/openapi.json``: the operations, those of a model with the inputs and outputs of its schema.

KServe's own description has neither our bodies nor our errors. A body that this description forbids
gets an error. One that it allows may get one too, for what JSON Schema cannot say: that shapes
count their values, that moments are ISO 8601, that an input is there once.
"""

from collections.abc import Sequence
from http import HTTPStatus

from features.schema import Schema
from serving.transport import openapi_schemas
from serving.transport.openapi_schemas import JSON, Json
from serving.transport.operations import OPEN_PATHS, OPERATIONS, Operation

_WHY = {
    HTTPStatus.BAD_REQUEST: "A header, the body or something in it is not as it must be",
    HTTPStatus.UNAUTHORIZED: "The token is missing or not right",
    HTTPStatus.NOT_FOUND: "No such version, or model",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time",
    HTTPStatus.CONFLICT: "Rejected, or failed: what was loaded stays loaded",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than the limit",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The content is of another type, or compressed",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The server's own fault; its log has the traceback",
    HTTPStatus.NOT_IMPLEMENTED: "Not implemented",
    HTTPStatus.SERVICE_UNAVAILABLE: "No model is loaded, too many requests, or no answer in time",
}
_MODEL = "{model_name}"
_ERROR: Json = {
    "type": "object",
    "description": "field: value; limit",
    "required": ["error"],
    "properties": {"error": {"type": "string", "pattern": "^.+: .*; .+"}},
    "additionalProperties": False,
    "examples": [{"error": "item_id: 'missing'; a required input"}],
}
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {
        "WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}
    },
    HTTPStatus.SERVICE_UNAVAILABLE: {
        "Retry-After": {
            "description": "Seconds",
            "required": True,
            "schema": {"type": "string", "pattern": "^[0-9]+$"},
        }
    },
}


def document(
    models: Sequence[tuple[Schema, str | None]], *, has_token: bool, max_candidates: int
) -> dict[str, object]:
    """The description of the endpoint.

    Args:
        models: What each takes, and its version, for the examples; None: nothing is loaded.
        has_token: Whether callers must show one.
        max_candidates: The most that one request may have.
    """
    names = [schema.name for schema, _ in models]
    paths: Json = {}
    for schema, version in models:
        bodies = openapi_schemas.bodies(schema, max_candidates=max_candidates)
        answers = openapi_schemas.answers(schema, names)
        for operation in OPERATIONS:
            path = operation.path.replace(_MODEL, schema.name)
            described = _operation(operation, answers[operation.answer], has_token=has_token)
            if operation.body:
                described["requestBody"] = bodies[operation.body]
            if path != operation.path:
                described |= {"operationId": f"{operation.name}_{schema.name}"}
                described |= {"parameters": _parameters(operation, version), "tags": [schema.name]}
            paths.setdefault(path, {})[operation.method.lower()] = described
    components: Json = {"schemas": {"Error": _ERROR}}
    if has_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ranking endpoint",
            "version": "2",
            "description": "Open Inference Protocol V2 and V1; a model has the name of its data "
            f"set: {', '.join(names)}.",
        },
        "paths": paths,
        "components": components,
    }


def _operation(operation: Operation, answer: Json, *, has_token: bool) -> Json:
    is_secured = has_token and operation.path not in OPEN_PATHS
    codes = sorted({*operation.codes, *((401,) if is_secured else ())})
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {str(code): _response(HTTPStatus(code), answer) for code in codes},
    }
    return {**described, "security": [{"token": []}]} if is_secured else described


def _parameters(operation: Operation, version: str | None) -> list[Json]:
    if "{model_version}" not in operation.path:
        return []
    example = {"example": version} if version else {}
    where = {"name": "model_version", "in": "path", "required": True}
    return [{**where, "schema": {"type": "string"}, **example}]


def _response(status: HTTPStatus, answer: Json) -> Json:
    if status is HTTPStatus.OK:
        return {"description": "Answered", **answer}
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
    return {"description": _WHY[status], "content": content, **headers}
