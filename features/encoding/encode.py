"""Raw columns become model inputs here, for the training data set and for the server alike.

NumPy and Arrow only. Whatever can be differentiated (log, standardisation, filling of missing
numbers) is left to the model, so that it is exported with it.
"""

import dataclasses
import enum
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.affinities import affinities_of_rows
from features.encoding.primitives import (
    MICROSECONDS_PER_SECOND,
    Columns,
    IntArray,
    column_of,
    embedding_rows,
    encode_numbers,
    epoch_microseconds,
    is_null,
    labelled_items,
    time_context,
)
from features.schema import REQUEST_TIME, Affinity, Column, FeatureTable, Schema


class RowStatus(enum.IntEnum):
    """Whether a feature row can be used for a request."""

    USABLE = 0
    UNKNOWN = 1
    """The store has no row for the entity."""
    EXPIRED = 2
    """The row is older than its table's time-to-live."""
    FUTURE = 3
    """The row may be counted on only after the request, which therefore must not see it."""


class InfiniteError(ValueError):
    """A number that is infinite as the float32 that models read; NaN and null are missing."""

    def __init__(self, column: str, row: int, value: float) -> None:
        """Args: the dense input, the row among those that were encoded, and the value."""
        super().__init__(
            f"column {column}: {value}; a finite number in float32, or null or NaN where missing"
        )
        self.row = row


@dataclasses.dataclass(frozen=True)
class Ids:
    """A batch of bags of embedding rows: row b has ``lengths[b]`` of ``values``, in order."""

    values: IntArray
    lengths: npt.NDArray[np.int32]

    @functools.cached_property
    def _has_one_each(self) -> bool:
        return len(self.values) == len(self.lengths) and bool((self.lengths == 1).all())

    @functools.cached_property
    def _starts(self) -> IntArray:
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    def take(self, rows: IntArray) -> "Ids":
        """The bags of some rows, in the order given."""
        lengths = self.lengths[rows]
        if self._has_one_each:
            return Ids(self.values[rows], lengths)
        starts = self._starts
        ends = np.cumsum(lengths, dtype=np.int64)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        return Ids(self.values[np.repeat(starts[rows], lengths) + within], lengths)

    @staticmethod
    def one_each(values: IntArray) -> "Ids":
        """Bags of one row each."""
        return Ids(values, np.ones(len(values), dtype=np.int32))

    @staticmethod
    def joined(parts: Sequence["Ids"]) -> "Ids":
        """The bags of several, one after the other."""
        return Ids(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.lengths for part in parts]),
        )


@dataclasses.dataclass(frozen=True)
class ModelInputs:
    """What a model reads for B rows.

    ``dense`` is (B, number of dense inputs) float32 in ``Schema.dense_inputs`` order, NaN where a
    number is missing (null or NaN) and never infinite; ``ids`` has one entry for each of
    ``Schema.sparse_inputs``, in that order.
    """

    dense: npt.NDArray[np.float32]
    ids: dict[str, Ids]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.dense)

    def take(self, rows: IntArray) -> "ModelInputs":
        """The inputs of some rows, in the order given."""
        return ModelInputs(
            self.dense[rows], {name: ids.take(rows) for name, ids in self.ids.items()}
        )


@dataclasses.dataclass(frozen=True)
class RequestInputs:
    """Model inputs of N candidates in which each of U users is encoded once.

    What ``encode`` gives for N rows with the user's columns repeated, without the repetition: a
    history of twenty items is looked up once for a user, not once for a candidate. Requests that
    are scored together are joined by ``joined``.
    """

    dense: npt.NDArray[np.float32]
    """(N, number of dense inputs), in ``Schema.dense_inputs`` order."""
    shared: dict[str, Ids]
    """Sparse inputs that are the same for all candidates of a user: U bags each."""
    each: dict[str, Ids]
    """The other sparse inputs: N bags each."""
    user: IntArray
    """(N,) the row of ``shared`` of each candidate, from 0 to U - 1."""

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.dense)

    def tiled(self, names: Sequence[str]) -> ModelInputs:
        """What ``encode`` gives for the same candidates, to the bit.

        Args:
            names: The sparse inputs in the schema's order.
        """
        ids = {
            name: self.each[name] if name in self.each else self.shared[name].take(self.user)
            for name in names
        }
        return ModelInputs(self.dense, ids)

    @staticmethod
    def joined(parts: Sequence["RequestInputs"]) -> "RequestInputs":
        """Several requests as one, in their order; users are not compared with each other."""
        starts = np.cumsum([0, *(part.num_users for part in parts)])
        users = [part.user + start for part, start in zip(parts, starts, strict=False)]
        first = parts[0]
        return RequestInputs(
            dense=np.concatenate([part.dense for part in parts]),
            shared={n: Ids.joined([part.shared[n] for part in parts]) for n in first.shared},
            each={n: Ids.joined([part.each[n] for part in parts]) for n in first.each},
            user=np.concatenate(users),
        )

    @property
    def num_users(self) -> int:
        """U."""
        return len(next(iter(self.shared.values())).lengths) if self.shared else 1


def encode(schema: Schema, columns: Columns) -> ModelInputs:
    """Model inputs of B rows of raw columns.

    Args:
        schema: The data set's schema.
        columns: One Arrow array of B values for each input of the schema that is not derived, for
            the stored columns that bags read, for the request time and for each table's event
            timestamp, which is null where the table has no usable row.

    Raises:
        InfiniteError: A number is infinite; names the column.
        ValueError: A column is missing; names it.
    """
    request_time = epoch_microseconds(column_of(columns, REQUEST_TIME.name))
    numbers = encode_numbers(schema.numbers, columns, size=len(request_time))
    gone = [is_null(column_of(columns, table.timestamp_column)) for table in schema.tables]
    ids = encode_ids(schema, schema.sparse_inputs(), columns, request_time=request_time)
    past = encode_past(schema, schema.affinities, columns)
    liked = affinities_of_rows(schema, past, ids, size=len(request_time))
    dense = np.column_stack([numbers.at(request_time), liked, *gone])
    dense = dense.astype(np.float32, copy=False)
    _require_finite(schema, dense)
    return ModelInputs(dense, ids)


def _require_finite(schema: Schema, dense: npt.NDArray[np.float32]) -> None:
    is_infinite = np.isinf(dense)
    if is_infinite.any():
        row, index = np.argwhere(is_infinite)[0]
        raise InfiniteError(schema.dense_inputs()[index], int(row), float(dense[row, index]))


def encode_ids(
    schema: Schema, wanted: Sequence[Column], columns: Columns, *, request_time: IntArray
) -> dict[str, Ids]:
    """Sparse inputs of some columns; a column of the time context has a bag for each time."""
    ids = {}
    for column in wanted:
        if bag := schema.bags.get(column.name):
            values = labelled_items(
                column_of(columns, bag.items), column_of(columns, bag.labels), bag.label
            )
        elif column.name in schema.time_context:
            values = pa.array(time_context(column.name, request_time))
        else:
            values = column_of(columns, column.name)
        owner = schema.table_owners[column.name]
        ids[column.name] = (
            _bag_ids(owner, values) if column.dtype.is_list else _single_ids(owner, values)
        )
    return ids


def encode_past(schema: Schema, wanted: Sequence[Affinity], columns: Columns) -> dict[str, Ids]:
    """What affinities read of the rows of users, by name: values as embedding rows, and numbers."""
    past: dict[str, Ids] = {}
    for one in wanted:
        past[one.values] = _bag_ids(schema.table_owners[one.on], column_of(columns, one.values))
        for name in (one.counts, one.labels):
            lists = column_of(columns, name)
            past[name] = Ids(lists.flatten().to_numpy(zero_copy_only=False), _lengths(lists))
    return past


def status_at(
    table: FeatureTable,
    moments: IntArray,
    *,
    visible_at: IntArray,
    is_known: npt.NDArray[np.bool_],
    request_time: IntArray,
) -> npt.NDArray[np.int8]:
    """Whether each row of a table is usable at its request: one RowStatus value per row.

    A row counts from ``visible_at`` on, as in the training join. One exactly as old as the
    time-to-live still counts, as in Feast's point-in-time join.

    Args:
        table: The feature table.
        moments: (B,) event timestamps in epoch microseconds; any number where there is no row.
        visible_at: (B,) epoch microseconds from which the rows may be counted on.
        is_known: (B,) whether there is a row.
        request_time: (B,) or (1,) epoch microseconds.
    """
    status = np.full(len(moments), RowStatus.USABLE, dtype=np.int8)
    if table.ttl is not None:
        ttl = round(table.ttl.total_seconds() * MICROSECONDS_PER_SECOND)
        status[request_time - moments > ttl] = RowStatus.EXPIRED
    status[request_time < visible_at] = RowStatus.FUTURE
    status[~is_known] = RowStatus.UNKNOWN
    return status


def _single_ids(owner: Column, values: pa.Array) -> Ids:
    return Ids.one_each(embedding_rows(owner, values))


def _bag_ids(owner: Column, values: pa.Array) -> Ids:
    return Ids(embedding_rows(owner, values.flatten()), _lengths(values))


def _lengths(lists: pa.Array) -> npt.NDArray[np.int32]:
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.asarray(lengths, dtype=np.int32)
