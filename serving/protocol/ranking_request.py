"""The contract of one data set with callers: inputs, outputs, and what a call must hold.

A projection of the schema. An id, or a context value, outside the schema's limits is no error: it
is unknown to the model, so it becomes null, which is row 0 of its embedding table. A context column
with a neutral value always has that one: a request need not bring it.
"""

import dataclasses
import datetime
import functools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.primitives import IntArray
from features.encoding.request import RequestColumns
from features.schema import REQUEST_TIME, Column, Dtype, Role, Schema
from serving.protocol.errors import RequestError
from serving.protocol.fields import BYTES, FLOATS, INTEGERS, Tensor, Values
from serving.protocol.inference_request import InferenceCall

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
class RankingRequest(RequestColumns):
    """What to rank: N candidates of one or several users, their context, and the moment."""

    user_ids: list[int] | list[str]
    """The U users as they were sent, each once; empty where the schema has no user."""
    has_many_users: bool
    """Whether a user was sent for each candidate, and not one for all."""
    item_ids: Values
    """As they were sent."""
    missing_context: tuple[str, ...]
    """Context columns of which a value was absent or outside the schema's limits."""
    is_time_given: bool
    """Whether the call says for which moment; else it is for now."""

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.item_ids)

    @property
    def columns(self) -> dict[str, pa.Array]:
        """The request's share of the raw columns, N rows each: ids, context and request time."""
        rows = pa.array(self.user)
        users = {name: values.take(rows) for name, values in self.users.items()}
        moments: IntArray = np.full(len(self), self.request_time, dtype=np.int64)
        stamps = pa.array(moments).cast(pa.timestamp("us", tz="UTC"))
        return {**self.each, **users, REQUEST_TIME.name: stamps}


def parse(schema: Schema, call: InferenceCall, *, now: datetime.datetime) -> RankingRequest:
    """The request that a call makes of a model of this schema.

    Raises:
        RequestError: An input is missing, is unknown, or has the wrong type or size.
    """
    expected = input_columns(schema)
    unknown = [name for name in call.tensors if name not in expected]
    if unknown:
        raise RequestError("inputs", unknown[0], f"one of {', '.join(expected)}")
    _check_outputs(schema, call)
    for name, tensor in call.tensors.items():
        _check_datatype(expected[name], tensor)
    items = _required(schema.item, call)
    size = len(items.values)
    each = {schema.item.name: _column(schema.item, items, size)}
    for column in schema.context:
        each[column.name] = _context(column, call.tensors.get(column.name), size)
    users: dict[str, pa.Array] = {}
    user_ids: list[Any] = []
    num_values = 1
    if schema.user is None:
        user = np.zeros(size, dtype=np.int64)
    else:
        sent = _required(schema.user, call)
        num_values = _check_count(schema.user, len(sent.values), size)
        user_ids, user = _distinct(sent, size)
        distinct = Tensor(sent.name, sent.datatype, _like(sent, user_ids))
        users[schema.user.name] = _column(schema.user, distinct, len(user_ids))
    return RankingRequest(
        user_ids=user_ids,
        user=user,
        num_users=max(1, len(user_ids)),
        has_many_users=num_values > 1,
        item_ids=items.values,
        request_time=_request_time(call, now),
        each=each,
        users=users,
        missing_context=tuple(c.name for c in schema.context if each[c.name].null_count),
        is_time_given=REQUEST_TIME.name in call.tensors,
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
    return [
        {
            "name": name,
            "datatype": _DATATYPES[column.dtype][0],
            "shape": [1 if column is REQUEST_TIME else -1],
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
        types.append({"name": USER_STATUS, "datatype": BYTES, "shape": [-1]})
    return types


def status_output(role: Role) -> str:
    """The output that flags the feature rows of one side of the impression."""
    return USER_STATUS if role is Role.USER else ITEM_STATUS


def _check_outputs(schema: Schema, call: InferenceCall) -> None:
    names = [described["name"] for described in output_types(schema)]
    for name in call.outputs:
        if name not in names:
            raise RequestError("outputs", name, f"one of {', '.join(names)}")


def _check_datatype(column: Column, tensor: Tensor) -> None:
    accepted = _DATATYPES[column.dtype][1]
    if tensor.datatype not in accepted:
        raise RequestError(
            f"{column.name}.datatype", tensor.datatype, f"one of {', '.join(accepted)}"
        )


def _required(column: Column, call: InferenceCall) -> Tensor:
    if column.name not in call.tensors:
        raise RequestError(column.name, "missing", "a required input")
    return call.tensors[column.name]


def _plain(tensor: Tensor) -> list[Any]:
    return tensor.values if isinstance(tensor.values, list) else tensor.values.tolist()


def _distinct(tensor: Tensor, size: int) -> tuple[list[Any], IntArray]:
    """The values, each once, and for each of ``size`` candidates the place of its own."""
    values = _plain(tensor)
    if len(values) == 1:
        return values, np.zeros(size, dtype=np.int64)
    places: dict[Any, int] = {}
    rows = [places.setdefault(value, len(places)) for value in values]
    return list(places), np.array(rows, dtype=np.int64)


def _like(tensor: Tensor, values: list[Any]) -> Any:
    """Other values in the form of a tensor's."""
    return values if isinstance(tensor.values, list) else np.array(values, tensor.values.dtype)


def _check_count(column: Column, num_values: int, size: int) -> int:
    if num_values not in {1, size}:
        limit = f"[1] or [{size}], the number of candidates"
        raise RequestError(f"{column.name}.shape", [num_values], limit)
    return num_values


def _column(column: Column, tensor: Tensor | None, size: int) -> pa.Array:
    """N values of a column: null where absent or outside the limits, one value repeated."""
    arrow_type = _ARROW_TYPES[column.dtype]
    if tensor is None:
        return pa.nulls(size, arrow_type)
    num_values = _check_count(column, len(tensor.values), size)
    values = pa.array(tensor.values, arrow_type)
    if not _are_all_within(column, tensor.values):
        within = _is_within(column, values)
        values = pc.if_else(within, values, pa.scalar(None, arrow_type))
    return values if num_values == size else pa.repeat(values[0], size)


def _context(column: Column, tensor: Tensor | None, size: int) -> pa.Array:
    """As ``_column``; where the column has a neutral value N times that, whatever was sent."""
    sent = _column(column, tensor, size)
    return sent if column.neutral is None else pa.repeat(pa.scalar(column.neutral, sent.type), size)


def _are_all_within(column: Column, values: Values) -> bool:
    """Whether no value is beyond the column's limits, as is usual; an Arrow function costs more."""
    if column.vocabulary:
        return set(values) <= set(column.vocabulary)
    if column.minimum is None and column.maximum is None:
        return True
    least = -np.inf if column.minimum is None else column.minimum
    most = np.inf if column.maximum is None else column.maximum
    numbers = np.asarray(values)
    return bool(least <= numbers.min() and numbers.max() <= most)


def _is_within(column: Column, values: pa.Array) -> pa.Array:
    """Which values are within the column's limits, of which it has one or more."""
    checks = []
    if column.minimum is not None:
        checks.append(pc.greater_equal(values, column.minimum))
    if column.maximum is not None:
        checks.append(pc.less_equal(values, column.maximum))
    if column.vocabulary:
        checks.append(pc.is_in(values, value_set=pa.array(column.vocabulary, pa.string())))
    return functools.reduce(pc.and_, checks)


def _request_time(call: InferenceCall, now: datetime.datetime) -> int:
    tensor = call.tensors.get(REQUEST_TIME.name)
    if tensor is None:
        return _microseconds(now)
    if len(tensor.values) != 1:
        raise RequestError(f"{tensor.name}.shape", [len(tensor.values)], "[1]")
    value = _plain(tensor)[0]
    moment = _iso_microseconds(value) if isinstance(value, str) else int(value)
    if not 0 <= moment <= _LAST_MOMENT:
        raise RequestError(REQUEST_TIME.name, value, "a moment of the years 1970 to 9999")
    return moment


def _iso_microseconds(text: str) -> int:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestError(REQUEST_TIME.name, text, "epoch microseconds or ISO 8601") from error
    if moment.tzinfo is None:
        raise RequestError(REQUEST_TIME.name, text, "ISO 8601 with an offset, such as Z")
    return _microseconds(moment)


def _microseconds(moment: datetime.datetime) -> int:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (moment - epoch) // datetime.timedelta(microseconds=1)
