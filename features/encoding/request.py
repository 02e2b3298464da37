"""The inputs of a ranking request from parts that were encoded before.

A feature table is encoded once, when its rows are read, by the functions that ``encode`` is made
of. A request takes rows of it: the result is what ``encode`` gives for the raw rows, to the bit.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from features.encoding.affinities import affinities
from features.encoding.encode import Ids, RequestInputs, encode_ids, encode_past
from features.encoding.encoded_table import Part
from features.encoding.primitives import Columns, IntArray, encode_numbers
from features.schema import DENSE_KINDS, Role, Schema

_NO_TIME: IntArray = np.zeros(0, dtype=np.int64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequestColumns:
    """What a request brings along: N candidates of U users at one moment."""

    each: Columns
    """The item's id and the context columns, N values each."""
    users: Columns
    """The user's id, U values; empty where the schema has no user."""
    user: IntArray
    """(N,) whose candidate each is, from 0 to U - 1."""
    num_users: int
    request_time: int
    """Epoch microseconds."""


def assemble(schema: Schema, request: RequestColumns, parts: Mapping[str, Part]) -> RequestInputs:
    """Put a request and its feature rows together.

    Args:
        schema: The data set's schema.
        request: The request's own columns.
        parts: By table name: U rows of a user's table, N of an item's.
    """
    size = len(request.user)
    moments = np.full(request.num_users, request.request_time, dtype=np.int64)
    shared = encode_ids(schema, schema.shared_sparse_inputs, request.users, request_time=moments)
    each = encode_ids(schema, schema.each_sparse_inputs, request.each, request_time=_NO_TIME)
    context = [column for column in schema.context if column.kind in DENSE_KINDS]
    width = len(schema.dense_inputs())
    dense = np.empty((size, width), dtype=np.float32)
    moment = np.array([request.request_time], dtype=np.int64)
    dense[:, : len(context)] = encode_numbers(context, request.each, size=size).at(moment)
    start = len(context)
    past: dict[str, Ids] = {}
    for index, table in enumerate(schema.tables, start=width - len(schema.tables)):
        part = parts[table.name]
        encoded = part.encoded
        numbers = encoded.numbers.take(part.rows).at(moment)
        is_missing = part.rows == encoded.null_index
        ids = {name: bags.take(part.rows) for name, bags in encoded.ids.items()}
        end = start + numbers.shape[1]
        if table.role is Role.USER:
            numbers, is_missing = numbers[request.user], is_missing[request.user]
            shared |= ids
            stored = {
                name: part.column(name) for one in part.table.affinities for name in one.stored
            }
            past |= encode_past(schema, part.table.affinities, stored)
        else:
            each |= ids
        dense[:, start:end], dense[:, index] = numbers, is_missing
        start = end
    dense[:, start : width - len(schema.tables)] = affinities(schema, past, each, request.user)
    return RequestInputs(dense=dense, shared=shared, each=each, user=request.user)
