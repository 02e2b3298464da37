"""``/openapi.json``: the operations, written with the inputs and outputs of one data set's schema.

KServe's own description has neither our bodies nor our errors. A body that this description forbids
gets an error. One that it allows may get one too, for what JSON Schema cannot say: that shapes
count their values, that moments are ISO 8601, that an input is there once.
"""

from http import HTTPStatus

from features.schema import Schema
from serving.transport import openapi_schemas
from serving.transport.openapi_schemas import JSON, Json
from serving.transport.operations import OPEN_PATHS, OPERATIONS, Operation

_WHY = {
    HTTPStatus.BAD_REQUEST: "A header, the body or something in it is not as it must be",
    HTTPStatus.UNAUTHORIZED: "The token is missing or not right",
    HTTPStatus.NOT_FOUND: "No such model or version",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time",
    HTTPStatus.CONFLICT: "Rejected, or failed: what was loaded stays loaded",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than the limit",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The content is of another type, or compressed",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The server's own fault; its log has the traceback",
    HTTPStatus.NOT_IMPLEMENTED: "Not implemented",
    HTTPStatus.SERVICE_UNAVAILABLE: "No model is loaded, too many requests, or no answer in time",
}
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
    schema: Schema, *, has_token: bool, max_candidates: int, version: str | None
) -> dict[str, object]:
    """The description of the endpoint.

    Args:
        schema: What the model takes.
        has_token: Whether callers must show one.
        max_candidates: The most that one request may have.
        version: What is loaded, for the examples; None: nothing.
    """
    bodies = openapi_schemas.bodies(schema, max_candidates=max_candidates)
    answers = openapi_schemas.answers(schema)
    paths: Json = {}
    for operation in OPERATIONS:
        is_secured = has_token and operation.path not in OPEN_PATHS
        codes = sorted({*operation.codes, *((401,) if is_secured else ())})
        described: Json = {
            "operationId": operation.name,
            "summary": operation.summary,
            "parameters": _parameters(operation, version),
            "responses": {
                str(code): _response(HTTPStatus(code), answers[operation.answer]) for code in codes
            },
        }
        if operation.body:
            described["requestBody"] = bodies[operation.body]
        if is_secured:
            described["security"] = [{"token": []}]
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    components: Json = {"schemas": {"Error": _ERROR}}
    if has_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ranking endpoint",
            "version": "2",
            "description": f"Open Inference Protocol V2 and V1, for the data set {schema.name}.",
        },
        "paths": paths,
        "components": components,
    }


def _parameters(operation: Operation, version: str | None) -> list[Json]:
    parameters: list[Json] = []
    if "{model_name}" in operation.path:
        parameters.append({"name": "model_name", "schema": {"enum": ["ranker"]}})
    if "{model_version}" in operation.path:
        example = {"example": version} if version else {}
        parameters.append({"name": "model_version", "schema": {"type": "string"}, **example})
    return [{**parameter, "in": "path", "required": True} for parameter in parameters]


def _response(status: HTTPStatus, answer: Json) -> Json:
    if status is HTTPStatus.OK:
        return {"description": "Answered", **answer}
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
    return {"description": _WHY[status], "content": content, **headers}
