"""Bodies and answers of the REST operations in JSON Schema, for one data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from features.encoding.encode import RowStatus
from features.schema import REQUEST_TIME, Column, Dtype, Schema
from serving.protocol.fields import BYTES, FLOATS, LARGEST_FLOAT, MAX_TEXT
from serving.protocol.inference_request import JSON_LENGTH_HEADER
from serving.protocol.ranking_request import (
    accepted_datatypes,
    input_columns,
    input_types,
    last_moment,
    output_types,
)

Json = dict[str, Any]

JSON = "application/json"
BINARY = "application/octet-stream"

_TEXT: Json = {"type": "string"}
_NAME: Json = {"const": "ranker"}
_FLAG: Json = {"type": "boolean"}
_INT64 = np.iinfo(np.int64)
_LIMITS: dict[Dtype, Json] = {
    Dtype.INT64: {"type": "integer", "minimum": int(_INT64.min), "maximum": int(_INT64.max)},
    Dtype.FLOAT64: {"type": "number", "minimum": -LARGEST_FLOAT, "maximum": LARGEST_FLOAT},
    Dtype.STRING: _TEXT,
    Dtype.TIMESTAMP: {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": last_moment()},
            {"type": "string", "description": "ISO 8601 with an offset"},
        ]
    },
}
_STATUSES = ["ok", *(s.name.lower() for s in RowStatus if s is not RowStatus.USABLE)]
_EXAMPLES: dict[Dtype, Any] = {
    Dtype.INT64: 1,
    Dtype.FLOAT64: 0.5,
    Dtype.STRING: "a",
    Dtype.TIMESTAMP: "2025-06-15T12:00:00Z",
}


def bodies(schema: Schema, *, max_candidates: int) -> dict[str, Json]:
    """The request bodies, by the name that operations have for them."""
    length = f"JSON, then tensors; the header {JSON_LENGTH_HEADER} has the bytes of the JSON"
    binary = {"schema": {"type": "string", "format": "binary", "description": length}}
    no_parameters = _optional({"type": "object", "maxProperties": 0})
    return {
        "infer": _body(_infer(schema, max_candidates), _infer_example(schema), {BINARY: binary}),
        "instances": _body(_instances(schema, max_candidates), _instances_example(schema)),
        "index_filter": _body(_object({"ready": _optional(_FLAG)}), {"ready": True}, {}, False),
        "load": _body(_object({"parameters": no_parameters}), {}, {}, False),
    }


def answers(schema: Schema) -> dict[str, Json]:
    """The good answers, by the name that operations have for them."""
    length = {"description": "Bytes of the JSON", "required": True, "schema": _TEXT}
    scores = _answer(_scores(schema))
    scores["content"][BINARY] = {"schema": {"type": "string", "format": "binary"}}
    scores["headers"] = {JSON_LENGTH_HEADER: {**length, "required": False}}
    index = _object(dict.fromkeys(("name", "version", "state", "reason"), _TEXT), all_required=True)
    is_true = {"const": True}
    server = {"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}
    part = _object({"version": _TEXT, "percent": {"type": "number"}}, all_required=True)
    weighted = dict.fromkeys(("canary", "shadow"), _optional(part))
    versions = {"name": _NAME, "champion": _optional(_TEXT), **weighted}
    return {
        "object": _answer({"type": "object"}),
        "metrics": {"content": {"text/plain": {"schema": _TEXT}}},
        "models": _answer(_object({"models": _list(_NAME)}, all_required=True)),
        "ready": _answer(_object({"name": _NAME, "ready": is_true}, all_required=True)),
        "is_ready": _answer(_object({"ready": is_true}, all_required=True)),
        "live": _answer(_object({"live": is_true}, all_required=True)),
        "server": _answer(_object(server, all_required=True)),
        "metadata": _answer(_metadata()),
        "predictions": _answer(_predictions()),
        "scores": scores,
        "index": _answer(_list(index)),
        "versions": _answer(_object(versions, all_required=True)),
        "loaded": _answer(_object({"name": _NAME, "load": is_true}, all_required=True)),
    }


def _infer(schema: Schema, max_candidates: int) -> Json:
    tensors = [
        _tensor(column, max_values=1 if described["shape"] == [1] else max_candidates)
        for column, described in zip(
            input_columns(schema).values(), input_types(schema), strict=True
        )
    ]
    output = _object(
        {
            "name": {"enum": [described["name"] for described in output_types(schema)]},
            "parameters": _optional(_object({"binary_data": _optional(_FLAG)})),
        },
        required=["name"],
    )
    binary_output = _object({"binary_data_output": _optional(_FLAG)})
    return _object(
        {
            "id": _optional({"type": "string", "maxLength": MAX_TEXT}),
            "parameters": _optional(binary_output),
            "inputs": {"type": "array", "minItems": 1, "items": {"anyOf": tensors}},
            "outputs": _optional(_list(output)),
        },
        required=["inputs"],
    )


def _tensor(column: Column, *, max_values: int) -> Json:
    size = {"type": "integer", "minimum": 1, "maximum": max_values}
    return _object(
        {
            "name": {"const": column.name},
            "datatype": {"enum": list(accepted_datatypes(column))},
            "shape": {"type": "array", "minItems": 1, "maxItems": 1, "items": size},
            "data": {
                "type": "array",
                "minItems": 1,
                "maxItems": max_values,
                "items": _LIMITS[column.dtype],
            },
            "parameters": _optional({"type": "object"}),
        },
        required=["name", "shape", "datatype", "data"],
        description=column.doc,
    )


def _instances(schema: Schema, max_candidates: int) -> Json:
    columns = input_columns(schema)
    instance = _object(
        {
            name: {**_LIMITS[column.dtype], "description": column.doc}
            for name, column in columns.items()
        },
        required=[column.name for _, column in schema.entities()],
        additionalProperties=False,
    )
    listed = {"type": "array", "minItems": 1, "maxItems": max_candidates, "items": instance}
    return _object({"instances": listed}, required=["instances"])


def _scores(schema: Schema) -> Json:
    tensors = [
        _object(
            {
                "name": {"const": described["name"]},
                "datatype": {"const": described["datatype"]},
                "shape": {**_list({"type": "integer"}), "minItems": 1, "maxItems": 1},
                "data": _list(
                    {"type": "number", "minimum": 0, "maximum": 1}
                    if described["datatype"] in FLOATS
                    else {"enum": _STATUSES}
                ),
                "parameters": {"type": "object"},
            },
            required=["name", "datatype", "shape"],
        )
        for described in output_types(schema)
    ]
    said = {"id": _TEXT, "model_name": _NAME, "model_version": _TEXT}
    return _object(
        {**said, "outputs": _list({"anyOf": tensors}), "parameters": _flags()}, all_required=True
    )


def _predictions() -> Json:
    scores = _list({"type": "number", "minimum": 0, "maximum": 1})
    said = {"model_name": _NAME, "model_version": _TEXT, "parameters": _flags()}
    return _object({"predictions": scores, **said}, all_required=True)


def _metadata() -> Json:
    shape = _list({"type": "integer", "minimum": -1})
    tensor = _object({"name": _TEXT, "datatype": _TEXT, "shape": shape}, all_required=True)
    tensors = {"inputs": _list(tensor), "outputs": _list(tensor)}
    return _object(
        {"name": _NAME, "platform": _TEXT, "versions": _list(_TEXT), **tensors},
        all_required=True,
    )


def _flags() -> Json:
    return _object(
        {"degraded": _FLAG, "missing_context": _TEXT},
        required=["degraded"],
        description="Flags of the whole request",
    )


def _infer_example(schema: Schema) -> Json:
    inputs = [
        {
            "name": name,
            "shape": [2 if column is schema.item else 1],
            "datatype": BYTES if column is REQUEST_TIME else accepted_datatypes(column)[0],
            "data": [_EXAMPLES[column.dtype]] * (2 if column is schema.item else 1),
        }
        for name, column in input_columns(schema).items()
    ]
    return {"inputs": inputs, "outputs": [{"name": "score"}]}


def _instances_example(schema: Schema) -> Json:
    columns = input_columns(schema)
    instance = {name: _EXAMPLES[column.dtype] for name, column in columns.items()}
    return {"instances": [instance, instance]}


def _body(
    schema: Json,
    example: Json,
    others: Mapping[str, Json] | None = None,
    is_required: bool = True,
) -> Json:
    content = {JSON: {"schema": schema, "examples": {"good": {"value": example}}}, **(others or {})}
    return {"required": is_required, "content": content}


def _answer(schema: Json) -> Json:
    return {"content": {JSON: {"schema": schema}}}


def _object(
    properties: Json,
    *,
    required: Sequence[str] = (),
    all_required: bool = False,
    **more: Any,
) -> Json:
    names = list(properties) if all_required else list(required)
    return {"type": "object", "properties": properties, "required": names, **more}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _optional(schema: Json) -> Json:
    """The schema, or null, which counts as absent."""
    return {**schema, "type": [schema["type"], "null"]}
