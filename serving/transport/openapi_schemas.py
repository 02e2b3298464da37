"""Bodies and answers of the REST operations in JSON Schema, for one data set."""

from collections.abc import Sequence
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
_OBJECT: Json = {"type": "object"}
_SCORE: Json = {"type": "number", "minimum": 0, "maximum": 1}
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
    no_parameters = _optional({**_OBJECT, "maxProperties": 0})
    infer = _body(_infer(schema, max_candidates), _infer_example(schema))
    infer["content"][BINARY] = binary
    return {
        "infer": infer,
        "instances": _body(_instances(schema, max_candidates), _instances_example(schema)),
        "index_filter": _body(_object({}, {"ready": _optional(_FLAG)}), {"ready": True}, False),
        "load": _body(_object({}, {"parameters": no_parameters}), {}, False),
    }


def answers(schema: Schema, names: Sequence[str]) -> dict[str, Json]:
    """The good answers, by the name that operations have for them.

    Args:
        schema: Of the model.
        names: Of all models of the server.
    """
    name: Json = {"const": schema.name}
    is_true = {"const": True}
    tensor = _object(
        {"name": _TEXT, "datatype": _TEXT, "shape": _list({"type": "integer", "minimum": -1})}
    )
    tensors = {"inputs": _list(tensor), "outputs": _list(tensor)}
    part = _optional(_object({"version": _TEXT, "percent": {"type": "number"}}))
    versions = {"champion": _optional(_TEXT), "canary": part, "shadow": part}
    named = {**_TEXT, "format": "uuid", "description": "Name it in the impressions of this answer"}
    flags = _object({"degraded": _FLAG, "answer_id": named}, {"missing_context": _TEXT})
    flags["description"] = "Flags of the whole request, and the answer's id"
    model = {"model_name": name, "model_version": _TEXT, "parameters": flags}
    outputs = _list({"anyOf": [_output(described) for described in output_types(schema)]})
    described = {
        "object": _OBJECT,
        "models": _object({"models": _list({"enum": list(names)})}),
        "ready": _object({"name": name, "ready": is_true}),
        "is_ready": _object({"ready": is_true}, {"models": _object(dict.fromkeys(names, _FLAG))}),
        "live": _object({"live": is_true}),
        "server": _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
        "metadata": _object({"name": name, "platform": _TEXT, "versions": _list(_TEXT), **tensors}),
        "predictions": _object({"predictions": _list(_SCORE), **model}),
        "scores": _object({"id": _TEXT, "outputs": outputs, **model}),
        "index": _list(_object(dict.fromkeys(("name", "version", "state", "reason"), _TEXT))),
        "versions": _object({"name": name, **versions}),
        "loaded": _object({"name": name, "load": is_true}),
    }
    found: dict[str, Json] = {
        name: {"content": {JSON: {"schema": answer}}} for name, answer in described.items()
    }
    found["metrics"] = {"content": {"text/plain": {"schema": _TEXT}}}
    found["scores"]["content"][BINARY] = {"schema": {"type": "string", "format": "binary"}}
    length = {"description": "Bytes of the JSON", "required": False, "schema": _TEXT}
    found["scores"]["headers"] = {JSON_LENGTH_HEADER: length}
    return found


def _infer(schema: Schema, max_candidates: int) -> Json:
    tensors = [
        _tensor(column, max_values=1 if described["shape"] == [1] else max_candidates)
        for column, described in zip(
            input_columns(schema).values(), input_types(schema), strict=True
        )
    ]
    binary = _optional(_object({}, {"binary_data": _optional(_FLAG)}))
    names = [described["name"] for described in output_types(schema)]
    return _object(
        {"inputs": {**_list({"anyOf": tensors}), "minItems": 1}},
        {
            "id": _optional({**_TEXT, "maxLength": MAX_TEXT}),
            "parameters": _optional(_object({}, {"binary_data_output": _optional(_FLAG)})),
            "outputs": _optional(_list(_object({"name": {"enum": names}}, {"parameters": binary}))),
        },
    )


def _tensor(column: Column, *, max_values: int) -> Json:
    size = {"type": "integer", "minimum": 1, "maximum": max_values}
    values = {**_list(_LIMITS[column.dtype]), "minItems": 1, "maxItems": max_values}
    return _object(
        {
            "name": {"const": column.name},
            "datatype": {"enum": list(accepted_datatypes(column))},
            "shape": {**_list(size), "minItems": 1, "maxItems": 1},
            "data": values,
        },
        {"parameters": _optional(_OBJECT)},
        description=column.doc,
    )


def _instances(schema: Schema, max_candidates: int) -> Json:
    columns = {
        name: {**_LIMITS[column.dtype], "description": _meaning(column)}
        for name, column in input_columns(schema).items()
    }
    required = {column.name: columns[column.name] for _, column in schema.entities()}
    instance = _object(required, columns, additionalProperties=False)
    return _object({"instances": {**_list(instance), "minItems": 1, "maxItems": max_candidates}})


def _meaning(column: Column) -> str:
    if column.neutral is None:
        return column.doc
    return f"{column.doc} Need not be sent: {column.neutral!r} is used whatever is sent."


def _brought(schema: Schema) -> dict[str, Column]:
    """The columns that a good request brings."""
    columns = input_columns(schema)
    return {name: column for name, column in columns.items() if column.neutral is None}


def _output(described: Json) -> Json:
    values = _SCORE if described["datatype"] in FLOATS else {"enum": _STATUSES}
    return _object(
        {
            "name": {"const": described["name"]},
            "datatype": {"const": described["datatype"]},
            "shape": {**_list({"type": "integer"}), "minItems": 1, "maxItems": 1},
        },
        {"data": _list(values), "parameters": _OBJECT},
    )


def _infer_example(schema: Schema) -> Json:
    inputs = [
        {
            "name": name,
            "shape": [2 if column is schema.item else 1],
            "datatype": BYTES if column is REQUEST_TIME else accepted_datatypes(column)[0],
            "data": [_EXAMPLES[column.dtype]] * (2 if column is schema.item else 1),
        }
        for name, column in _brought(schema).items()
    ]
    return {"inputs": inputs, "outputs": [{"name": "score"}]}


def _instances_example(schema: Schema) -> Json:
    columns = _brought(schema)
    instance = {name: _EXAMPLES[column.dtype] for name, column in columns.items()}
    return {"instances": [instance, instance]}


def _body(schema: Json, example: Json, is_required: bool = True) -> Json:
    content = {JSON: {"schema": schema, "examples": {"good": {"value": example}}}}
    return {"required": is_required, "content": content}


def _object(required: Json, optional: Json | None = None, **more: Any) -> Json:
    properties = {**required, **(optional or {})}
    return {**_OBJECT, "properties": properties, "required": list(required), **more}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _optional(schema: Json) -> Json:
    """The schema, or null, which counts as absent."""
    return {**schema, "type": [schema["type"], "null"]}
