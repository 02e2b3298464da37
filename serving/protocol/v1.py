"""Protocol V1: a request with one JSON object a candidate becomes the call that V2 would make.

The first protocol has no names, types or shapes of tensors: an instance is a candidate, its keys
are columns of the schema, and what may be in them follows from the schema.
"""

import dataclasses
import math
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from features.schema import REQUEST_TIME, Column, Dtype, Schema
from serving.protocol import fields
from serving.protocol.errors import RequestError
from serving.protocol.fields import BYTES, LARGEST_FLOAT, Tensor, Values
from serving.protocol.inference_request import InferenceCall
from serving.protocol.ranking_request import SCORE, input_columns
from serving.settings import MAX_CANDIDATES


@dataclasses.dataclass(frozen=True)
class _Rule:
    """Exact types, for a JSON true is an int to Python and is none here; and bounds of numbers."""

    types: frozenset[type]
    limit: str
    lowest: float | None = None
    highest: float = math.inf

    def holds(self, value: Any) -> bool:
        is_typed = type(value) in self.types
        return is_typed and (self.lowest is None or self.lowest <= value <= self.highest)


_INT64 = np.iinfo(np.int64)
_INTEGER = _Rule(frozenset({int}), "an integer of 64 bits", int(_INT64.min), int(_INT64.max))
_FLOAT = _Rule(frozenset({int, float}), "a finite number in float32", -LARGEST_FLOAT, LARGEST_FLOAT)
_TEXT = _Rule(frozenset({str}), "a string")
_MOMENT = _Rule(frozenset({str}), "epoch microseconds or ISO 8601")


def from_v1(body: bytes, schema: Schema) -> InferenceCall:
    """The call in a V1 body, ``{"instances": [{"<column>": <value>, …}, …]}``.

    A column is in every instance or in none. The user is one value where all instances name the
    same one, and otherwise a value for each instance; the request time is one for all.

    Raises:
        RequestError: Names the instance, the column, its value and what it may be.
    """
    instances = _instances(fields.message(body))
    columns = input_columns(schema)
    present = set().union(*instances)
    unknown = [name for name in sorted(present) if name not in columns]
    if unknown:
        place = next(n for n, instance in enumerate(instances) if unknown[0] in instance)
        raise RequestError(f"instances[{place}]", unknown[0], f"one of {', '.join(columns)}")
    one_value = {REQUEST_TIME.name, schema.user.name if schema.user else ""}
    needed = {column.name for _, column in schema.entities()}
    tensors = {}
    for name, column in columns.items():
        if name in present or name in needed:
            tensors[name] = _tensor(column, instances, is_once=name in one_value)
    return InferenceCall(
        id=str(uuid.uuid4()), tensors=tensors, outputs={SCORE: False}, is_binary=False
    )


def _instances(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    instances = fields.listing(message.get("instances"), "instances")
    if not 1 <= len(instances) <= MAX_CANDIDATES:
        limit = f"1 to {MAX_CANDIDATES}, one for each candidate"
        raise RequestError("instances", f"{len(instances)} instances", limit)
    return [
        fields.mapping(instance, f"instances[{place}]", is_required=True)
        for place, instance in enumerate(instances)
    ]


def _tensor(column: Column, instances: list[dict[str, Any]], *, is_once: bool) -> Tensor:
    name = column.name
    missing = [place for place, instance in enumerate(instances) if name not in instance]
    if missing:
        limit = "in every instance" if len(missing) == len(instances) else "in all of them or none"
        raise RequestError(f"instances[{missing[0]}].{name}", "missing", limit)
    values = [instance[name] for instance in instances]
    if column.name == REQUEST_TIME.name:
        _check_equal(name, values)
    if is_once and _is_same(values):
        values = values[:1]
    return _typed(column, values)


def _is_same(values: list[Any]) -> bool:
    """Whether all are the first one, in value and in type: to Python true is 1."""
    return len(set(map(type, values))) == 1 and values.count(values[0]) == len(values)


def _check_equal(name: str, values: list[Any]) -> None:
    if not _is_same(values):
        place = next(n for n, value in enumerate(values) if not _is_same([values[0], value]))
        raise RequestError(
            f"instances[{place}].{name}", values[place], "the same moment in all instances"
        )


def _typed(column: Column, values: list[Any]) -> Tensor:
    name, dtype = column.name, column.dtype
    if dtype is Dtype.FLOAT64:
        _check(name, values, _FLOAT)
        return Tensor(name, "FP64", np.array(values, dtype=np.float64))
    if dtype is Dtype.INT64 or (dtype is Dtype.TIMESTAMP and type(values[0]) is int):
        _check(name, values, _INTEGER)
        return Tensor(name, "INT64", np.array(values, dtype=np.int64))
    _check(name, values, _TEXT if dtype is Dtype.STRING else _MOMENT)
    texts: Values = values
    return Tensor(name, BYTES, texts)


def _check(name: str, values: list[Any], rule: _Rule) -> None:
    """RequestError for the first value that breaks the rule; fast (in C) where none does."""
    if set(map(type, values)) <= rule.types and (
        rule.lowest is None or (rule.lowest <= min(values) and max(values) <= rule.highest)
    ):
        return
    for place, value in enumerate(values):
        if not rule.holds(value):
            raise RequestError(f"instances[{place}].{name}", value, rule.limit)
