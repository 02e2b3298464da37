"""Values of raw columns as numbers: times, embedding rows, items of a history, dense inputs.

What ``features.encoding.encode`` is made of; NumPy and Arrow only.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.schema import Column, Dtype, Kind

IntArray = npt.NDArray[np.int64]
Columns = Mapping[str, pa.Array]
"""Raw columns by name."""

MICROSECONDS_PER_SECOND = 1_000_000
_SECONDS_PER_HOUR = 3_600
_SECONDS_PER_DAY = 86_400
_EPOCH_WEEKDAY = 3  # 1 January 1970 was a Thursday; Monday is 0.


def epoch_microseconds(timestamps: pa.Array) -> IntArray:
    """Microseconds since 1970 in UTC; 0 where null."""
    as_integers = timestamps.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    if as_integers.null_count:
        as_integers = pc.fill_null(as_integers, 0)
    return np.asarray(as_integers.to_numpy(zero_copy_only=False), dtype=np.int64)


def embedding_rows(column: Column, values: pa.Array) -> IntArray:
    """Rows of the column's embedding table for single values; 0 for missing or unknown."""
    if column.vocabulary:
        index = pc.index_in(values, value_set=pa.array(column.vocabulary, pa.string()))
        return np.asarray(pc.fill_null(index, -1).to_numpy(zero_copy_only=False), np.int64) + 1
    # Without nulls two calls of Arrow are spared, which is much for the one value of a user.
    has_nulls = values.null_count > 0
    present = pc.is_valid(values).to_numpy(zero_copy_only=False) if has_nulls else np.True_
    if column.dtype.element is Dtype.STRING:
        rows = _hash_strings(values, column.hash_size)
    else:
        filled = pc.fill_null(values, 0) if has_nulls else values
        integers = np.asarray(filled.to_numpy(zero_copy_only=False), np.int64)
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


def labelled_items(items: pa.Array, labels: pa.Array, label: int) -> pa.Array:
    """The items of each row's history whose label is ``label``, in the history's order."""
    kept = pc.equal(labels.flatten(), label)
    rows = pc.list_parent_indices(items).filter(kept).to_numpy(zero_copy_only=False)
    counts = np.bincount(rows, minlength=len(items))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), items.flatten().filter(kept))


def time_context(name: str, request_time: IntArray) -> IntArray:
    """The hour, or the day of the week, of requests at these epoch microseconds."""
    seconds = request_time // MICROSECONDS_PER_SECOND
    if name == "hour_of_day":
        return seconds // _SECONDS_PER_HOUR % 24
    return (seconds // _SECONDS_PER_DAY + _EPOCH_WEEKDAY) % 7


def is_null(values: pa.Array) -> npt.NDArray[np.bool_]:
    """Whether each value is null."""
    if not values.null_count:
        return np.zeros(len(values), dtype=np.bool_)
    found: npt.NDArray[np.bool_] = pc.is_null(values).to_numpy(zero_copy_only=False)
    return found


def column_of(columns: Columns, name: str) -> pa.Array:
    """One column as a single array; ValueError names the column that is missing."""
    if name not in columns:
        raise ValueError(f"column {name}: missing; there are {sorted(columns)}")
    values = columns[name]
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Dense inputs of B rows; the A ages are computed when the time of the request is known."""

    values: npt.NDArray[np.float32]
    """(B, number of inputs); NaN where a number is missing, and in every age."""
    ages: IntArray
    """(A,) indices of the ages among the inputs."""
    moments: IntArray
    """(B, A) epoch microseconds from which ages are counted; 0 where an age is missing."""
    is_missing: npt.NDArray[np.bool_]
    """(B, A)."""

    @property
    def num_bytes(self) -> int:
        """Memory of the rows."""
        return self.values.nbytes + self.moments.nbytes + self.is_missing.nbytes

    def take(self, rows: IntArray) -> "Numbers":
        """The numbers of some rows, in the order given."""
        moments, is_missing = self.moments[rows], self.is_missing[rows]
        return Numbers(self.values[rows], self.ages, moments, is_missing)

    @staticmethod
    def joined(parts: Sequence["Numbers"]) -> "Numbers":
        """The rows of several, one after the other."""
        return Numbers(
            np.concatenate([part.values for part in parts]),
            parts[0].ages,
            np.concatenate([part.moments for part in parts]),
            np.concatenate([part.is_missing for part in parts]),
        )

    def at(self, request_time: IntArray) -> npt.NDArray[np.float32]:
        """The dense inputs of requests at these epoch microseconds: (B,), or one for all rows."""
        if not len(self.ages):
            return self.values
        values = self.values.copy()
        ages = np.maximum(request_time[:, None] - self.moments, 0) / MICROSECONDS_PER_SECOND
        values[:, self.ages] = np.where(self.is_missing, np.nan, ages)
        return values


def encode_numbers(wanted: Sequence[Column], columns: Columns, *, size: int) -> Numbers:
    """Dense inputs of some columns, for ``size`` rows; a list is one for each place in it."""
    values = np.empty((size, sum(len(c.dense_names) for c in wanted)), dtype=np.float32)
    ages: list[int] = []
    moments = [np.zeros((size, 0), dtype=np.int64)]
    is_missing = [np.zeros((size, 0), dtype=np.bool_)]
    end = 0
    for column in wanted:
        given, index = column_of(columns, column.name), end
        end += len(column.dense_names)
        if column.kind is Kind.AGE:
            at, gone = _moments(column, given)
            ages += range(index, end)
            moments.append(at)
            is_missing.append(gone)
            values[:, index:end] = np.nan
        elif column.dtype.is_list:
            values[:, index:end] = _matrix(given, width=end - index)
        else:
            values[:, index] = np.where(is_null(given), np.nan, _filled(given))
    indices = np.array(ages, dtype=np.int64)
    return Numbers(values, indices, np.hstack(moments), np.hstack(is_missing))


def _moments(column: Column, given: pa.Array) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """(B, places) epoch microseconds and which are missing: of a short list the last places."""
    if not column.dtype.is_list:
        return _filled(given).reshape(-1, 1), is_null(given).reshape(-1, 1)
    lists = pc.list_slice(given, 0, column.max_length)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    is_missing = np.arange(column.max_length) >= lengths.reshape(-1, 1)
    moments, values = np.zeros(is_missing.shape, dtype=np.int64), lists.flatten()
    moments[~is_missing] = _filled(values)
    is_missing[~is_missing] = is_null(values)
    return moments, is_missing


def _matrix(lists: pa.Array, *, width: int) -> npt.NDArray[np.float64]:
    """Lists of ``width`` numbers as rows; NaN where one is missing, or is of another length."""
    found = np.full((len(lists), width), np.nan)
    lengths = pc.fill_null(pc.list_value_length(lists), -1).to_numpy(zero_copy_only=False)
    is_whole = lengths == width
    kept = lists.filter(pa.array(is_whole)).flatten()
    found[is_whole] = kept.to_numpy(zero_copy_only=False).reshape(-1, width)
    return found


def _filled(values: pa.Array) -> npt.NDArray[Any]:
    """The numbers, 0 where null."""
    # An Arrow function costs as much as a thousand of its values.
    given = pc.fill_null(values, 0) if values.null_count else values
    filled: npt.NDArray[Any] = given.to_numpy(zero_copy_only=False)
    return filled
