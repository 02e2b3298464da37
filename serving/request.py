"""The wire contract of one data set: which inputs and outputs there are, and what a call must hold.

A projection of the schema. An id, or a context value, outside the schema's limits is no error: it
is unknown to the model, so it becomes null, which is row 0 of its embedding table.
"""

import dataclasses
import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.schema import REQUEST_TIME, Column, Dtype, Role, Schema
from serving.calls import InferenceCall
from serving.refusal import RefusedError
from serving.tensors import BYTES, FLOATS, INTEGERS, Tensor

SCORE = "score"
ITEM_STATUS = "item_status"
USER_STATUS = "user_status"

_DATATYPES = {
    Dtype.INT64: ("INT64", tuple(INTEGERS)),
    Dtype.FLOAT64: ("FP64", tuple(FLOATS)),
    Dtype.STRING: (BYTES, (BYTES,)),
    Dtype.TIMESTAMP: ("INT64", ("INT64", BYTES)),
}
"""What the metadata say, and what is accepted."""
_ARROW_TYPES = {Dtype.INT64: pa.int64(), Dtype.FLOAT64: pa.float64(), Dtype.STRING: pa.string()}
_LAST_MOMENT = 253_402_300_800_000_000 - 1
"""The last microsecond of the year 9999."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankingRequest:
    """What to rank: one user, N candidates, their context, and the moment."""

    user_id: int | str | None
    """As it was sent; None where the schema has no user."""
    item_ids: list[int] | list[str]
    request_time: int
    """Epoch microseconds."""
    columns: dict[str, pa.Array]
    """The request's share of the raw columns, N rows each: ids, context and request time."""
    missing_context: tuple[str, ...]
    """Context columns of which a value was absent or outside the schema's limits."""

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.item_ids)


def parse(schema: Schema, call: InferenceCall, *, now: datetime.datetime) -> RankingRequest:
    """The request that a call makes of a model of this schema.

    Raises:
        RefusedError: An input is missing, is unknown, or has the wrong type or size.
    """
    expected = input_columns(schema)
    unknown = [name for name in call.tensors if name not in expected]
    if unknown:
        raise RefusedError("inputs", unknown[0], f"one of {', '.join(expected)}")
    _check_outputs(schema, call)
    for name, tensor in call.tensors.items():
        _check_datatype(expected[name], tensor)
    items = _required(schema.item, call)
    size = len(items.values)
    columns = {schema.item.name: _column(schema.item, items, size)}
    user_id = None
    if schema.user is not None:
        user = _one(_required(schema.user, call))
        user_id = _plain(user)[0]
        columns[schema.user.name] = _column(schema.user, user, size)
    for column in schema.context:
        columns[column.name] = _column(column, call.tensors.get(column.name), size)
    request_time = _request_time(call, now)
    columns[REQUEST_TIME.name] = _moments(request_time, size)
    missing = [column.name for column in schema.context if columns[column.name].null_count]
    return RankingRequest(
        user_id=user_id,
        item_ids=_plain(items),
        request_time=request_time,
        columns=columns,
        missing_context=tuple(missing),
    )


def input_columns(schema: Schema) -> dict[str, Column]:
    """The columns that a call may hold, by name: ids, context, request time."""
    entities = (column for _, column in schema.entities())
    columns = {column.name: column for column in (*entities, *schema.context, REQUEST_TIME)}
    for column in columns.values():
        if column.dtype not in _DATATYPES:
            raise ValueError(f"column {column.name}: type {column.dtype}; a request has no lists")
    return columns


def accepted_datatypes(column: Column) -> tuple[str, ...]:
    """The datatypes in which a tensor of this column may come."""
    return _DATATYPES[column.dtype][1]


def last_moment() -> int:
    """The latest time of a request, in epoch microseconds."""
    return _LAST_MOMENT


def input_types(schema: Schema) -> list[dict[str, Any]]:
    """Name, type and shape of every input, for the model's metadata; -1 is any number of values."""
    one_value = {REQUEST_TIME.name, schema.user.name if schema.user else ""}
    return [
        {
            "name": name,
            "datatype": _DATATYPES[column.dtype][0],
            "shape": [1 if name in one_value else -1],
        }
        for name, column in input_columns(schema).items()
    ]


def output_types(schema: Schema) -> list[dict[str, Any]]:
    """Name, type and shape of every output, for the model's metadata."""
    types = [
        {"name": SCORE, "datatype": "FP32", "shape": [-1]},
        {"name": ITEM_STATUS, "datatype": BYTES, "shape": [-1]},
    ]
    if schema.user is not None:
        types.append({"name": USER_STATUS, "datatype": BYTES, "shape": [1]})
    return types


def status_output(role: Role) -> str:
    """The output that flags the feature rows of one side of the impression."""
    return USER_STATUS if role is Role.USER else ITEM_STATUS


def _check_outputs(schema: Schema, call: InferenceCall) -> None:
    names = [described["name"] for described in output_types(schema)]
    for name in call.outputs:
        if name not in names:
            raise RefusedError("outputs", name, f"one of {', '.join(names)}")


def _check_datatype(column: Column, tensor: Tensor) -> None:
    accepted = _DATATYPES[column.dtype][1]
    if tensor.datatype not in accepted:
        raise RefusedError(
            f"{column.name}.datatype", tensor.datatype, f"one of {', '.join(accepted)}"
        )


def _required(column: Column, call: InferenceCall) -> Tensor:
    if column.name not in call.tensors:
        raise RefusedError(column.name, "missing", "a required input")
    return call.tensors[column.name]


def _one(tensor: Tensor) -> Tensor:
    if len(tensor.values) != 1:
        raise RefusedError(f"{tensor.name}.shape", [len(tensor.values)], "[1]")
    return tensor


def _plain(tensor: Tensor) -> list[Any]:
    return tensor.values if isinstance(tensor.values, list) else tensor.values.tolist()


def _column(column: Column, tensor: Tensor | None, size: int) -> pa.Array:
    """N values of a column: null where absent or outside the limits, one value repeated."""
    arrow_type = _ARROW_TYPES[column.dtype]
    if tensor is None:
        return pa.nulls(size, arrow_type)
    num_values = len(tensor.values)
    if num_values not in {1, size}:
        limit = f"[1] or [{size}], the number of candidates"
        raise RefusedError(f"{column.name}.shape", [num_values], limit)
    values = pa.array(tensor.values, arrow_type)
    values = pc.if_else(_is_within(column, values), values, pa.scalar(None, arrow_type))
    return values if num_values == size else values.take(pa.array(np.zeros(size, np.int64)))


def _is_within(column: Column, values: pa.Array) -> pa.Array:
    within = pa.array(np.ones(len(values), dtype=bool))
    if column.minimum is not None:
        within = pc.and_(within, pc.greater_equal(values, column.minimum))
    if column.maximum is not None:
        within = pc.and_(within, pc.less_equal(values, column.maximum))
    if column.vocabulary:
        within = pc.and_(
            within, pc.is_in(values, value_set=pa.array(column.vocabulary, pa.string()))
        )
    return within


def _request_time(call: InferenceCall, now: datetime.datetime) -> int:
    tensor = call.tensors.get(REQUEST_TIME.name)
    if tensor is None:
        return _microseconds(now)
    value = _plain(_one(tensor))[0]
    moment = _iso_microseconds(value) if isinstance(value, str) else int(value)
    if not 0 <= moment <= _LAST_MOMENT:
        raise RefusedError(REQUEST_TIME.name, value, "a moment of the years 1970 to 9999")
    return moment


def _iso_microseconds(text: str) -> int:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise RefusedError(REQUEST_TIME.name, text, "epoch microseconds or ISO 8601") from error
    if moment.tzinfo is None:
        raise RefusedError(REQUEST_TIME.name, text, "ISO 8601 with an offset, such as Z")
    return _microseconds(moment)


def _microseconds(moment: datetime.datetime) -> int:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (moment - epoch) // datetime.timedelta(microseconds=1)


def _moments(request_time: int, size: int) -> pa.Array:
    moments: npt.NDArray[np.int64] = np.full(size, request_time, dtype=np.int64)
    return pa.array(moments).cast(pa.timestamp("us", tz="UTC"))
