"""Raw columns become model inputs here, for the training data set and for the server alike.

NumPy and Arrow only. Whatever can be differentiated (log, standardisation, filling of missing
numbers) is left to the model, so that it is exported with it.
"""

import dataclasses
import enum
import functools
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.schema import DENSE_KINDS, REQUEST_TIME, Column, Dtype, FeatureTable, Kind, Schema

IntArray = npt.NDArray[np.int64]
Columns = Mapping[str, pa.Array]

MICROSECONDS_PER_SECOND = 1_000_000
_SECONDS_PER_HOUR = 3_600
_SECONDS_PER_DAY = 86_400
_EPOCH_WEEKDAY = 3  # 1 January 1970 was a Thursday; Monday is 0.


class RowStatus(enum.IntEnum):
    """Whether a feature row can be used for a request."""

    USABLE = 0
    UNKNOWN = 1
    """The store has no row for the entity."""
    EXPIRED = 2
    """The row is older than its table's time-to-live."""
    FUTURE = 3
    """The row became true after the request; a past request must not see it."""


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
    number is missing; ``ids`` has one entry for each of ``Schema.sparse_inputs``, in that order.
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
    """Model inputs of N candidates in which each of U users stands once.

    What ``encode`` would say of N rows with the user's columns repeated, without the repetition: a
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
        ValueError: A column is missing; names it.
    """
    request_time = epoch_microseconds(_column(columns, REQUEST_TIME.name))
    bags = {bag.column.name: bag for table in schema.tables for bag in table.bags}
    ids = {}
    for column in schema.sparse_inputs():
        if column.name in bags:
            bag = bags[column.name]
            values = _labelled_items(
                _column(columns, bag.items), _column(columns, bag.labels), bag.label
            )
        elif column.name in schema.time_context:
            values = pa.array(_time_context(column.name, request_time))
        else:
            values = _column(columns, column.name)
        owner = _table_owner(schema, column)
        ids[column.name] = (
            _bag_ids(owner, values) if column.dtype.is_list else _single_ids(owner, values)
        )
    return ModelInputs(_dense(schema, columns, request_time), ids)


def row_status(
    table: FeatureTable, event_timestamp: pa.Array, request_time: IntArray
) -> npt.NDArray[np.int8]:
    """Whether each row of a table is usable at its request: one RowStatus value per row.

    A row exactly as old as the time-to-live still counts, as in Feast's point-in-time join.

    Args:
        table: The feature table.
        event_timestamp: (B,) timestamps, null where the store has no row.
        request_time: (B,) epoch microseconds.
    """
    missing = pc.is_null(event_timestamp).to_numpy(zero_copy_only=False)
    age = request_time - epoch_microseconds(event_timestamp)
    status = np.full(len(request_time), RowStatus.USABLE, dtype=np.int8)
    if table.ttl is not None:
        status[age > round(table.ttl.total_seconds() * MICROSECONDS_PER_SECOND)] = RowStatus.EXPIRED
    status[age < 0] = RowStatus.FUTURE
    status[missing] = RowStatus.UNKNOWN
    return status


def epoch_microseconds(timestamps: pa.Array) -> IntArray:
    """Microseconds since 1970 in UTC; 0 where null."""
    as_integers = pc.fill_null(timestamps.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()), 0)
    return np.asarray(as_integers.to_numpy(zero_copy_only=False), dtype=np.int64)


def embedding_rows(column: Column, values: pa.Array) -> IntArray:
    """Rows of the column's embedding table for single values; 0 for missing or unknown."""
    if column.vocabulary:
        index = pc.index_in(values, value_set=pa.array(column.vocabulary, pa.string()))
        return np.asarray(pc.fill_null(index, -1).to_numpy(zero_copy_only=False), np.int64) + 1
    present = pc.is_valid(values).to_numpy(zero_copy_only=False)
    if column.dtype.element is Dtype.STRING:
        rows = _hash_strings(values, column.hash_size)
    else:
        integers = np.asarray(pc.fill_null(values, 0).to_numpy(zero_copy_only=False), np.int64)
        if column.num_ids:
            present = present & (integers >= 0) & (integers < column.num_ids)
            rows = integers + 1
        else:
            rows = _hash_integers(integers, column.hash_size)
    return np.where(present, rows, 0)


def _hash_integers(values: IntArray, hash_size: int) -> IntArray:
    """SplitMix64's finaliser: https://prng.di.unimi.it/splitmix64.c."""
    mixed = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return 1 + (mixed % np.uint64(hash_size)).astype(np.int64)


def _hash_strings(values: pa.Array, hash_size: int) -> IntArray:
    """BLAKE2b of the UTF-8 bytes, taken once for each distinct value."""
    encoded = pc.dictionary_encode(values)
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    digests = [
        int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little")
        for value in encoded.dictionary.to_pylist()
    ]
    table = np.array([1 + digest % hash_size for digest in digests] or [0], dtype=np.int64)
    indices = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
    return np.asarray(table[indices], dtype=np.int64)


def _table_owner(schema: Schema, column: Column) -> Column:
    if not column.shares_table_with:
        return column
    return next(c for c in schema.columns() if c.name == column.shares_table_with)


def _single_ids(owner: Column, values: pa.Array) -> Ids:
    return Ids(embedding_rows(owner, values), np.ones(len(values), dtype=np.int32))


def _bag_ids(owner: Column, values: pa.Array) -> Ids:
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    return Ids(embedding_rows(owner, values.flatten()), lengths.astype(np.int32))


def _labelled_items(items: pa.Array, labels: pa.Array, label: int) -> pa.Array:
    """The items of each row's history whose label is ``label``, in the history's order."""
    kept = pc.equal(labels.flatten(), label)
    rows = pc.list_parent_indices(items).filter(kept).to_numpy(zero_copy_only=False)
    counts = np.bincount(rows, minlength=len(items))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), items.flatten().filter(kept))


def _time_context(name: str, request_time: IntArray) -> IntArray:
    seconds = request_time // MICROSECONDS_PER_SECOND
    if name == "hour_of_day":
        return seconds // _SECONDS_PER_HOUR % 24
    return (seconds // _SECONDS_PER_DAY + _EPOCH_WEEKDAY) % 7


def _dense(schema: Schema, columns: Columns, request_time: IntArray) -> npt.NDArray[np.float32]:
    numbers = schema.inputs(*DENSE_KINDS)
    dense = np.empty((len(request_time), len(numbers) + len(schema.tables)), dtype=np.float32)
    for place, column in enumerate(numbers):
        values = _column(columns, column.name)
        missing = pc.is_null(values).to_numpy(zero_copy_only=False)
        filled = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
        if column.kind is Kind.AGE:
            filled = np.maximum(request_time - filled, 0) / MICROSECONDS_PER_SECOND
        dense[:, place] = np.where(missing, np.nan, filled)
    for place, table in enumerate(schema.tables, start=len(numbers)):
        dense[:, place] = pc.is_null(_column(columns, table.timestamp_column)).to_numpy(
            zero_copy_only=False
        )
    return dense


def _column(columns: Columns, name: str) -> pa.Array:
    if name not in columns:
        raise ValueError(f"column {name}: missing; there are {sorted(columns)}")
    values = columns[name]
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
