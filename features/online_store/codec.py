"""How Feast lays rows out in an online store: keys, and values as Arrow columns. No Feast here.

Feast makes a protobuf object of every value that it reads. Here the bytes of a whole column are
parsed at once. Keys: feast/infra/key_encoding_utils.py, version 3. Values: the message
``feast.types.Value``, one field of which is set, or none.
"""

import struct
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.schema import Dtype, FeatureTable, Schema

PROJECT = "ranking"
"""Feast's project, as ``features/online_store/repo/feature_store.yaml`` names it."""
ARROW_TYPES = {
    Dtype.INT64: pa.int64(),
    Dtype.FLOAT64: pa.float64(),
    Dtype.STRING: pa.string(),
    Dtype.INT64_LIST: pa.list_(pa.int64()),
    Dtype.STRING_LIST: pa.list_(pa.string()),
    Dtype.FLOAT64_LIST: pa.list_(pa.float64()),
}
STAMP = pa.timestamp("us", tz="UTC")
_STRING, _INT64 = 2, 4
"""Feast's numbers of the types that a key may have."""
_TAGS = {
    Dtype.STRING: 0x12,
    Dtype.INT64: 0x20,
    Dtype.FLOAT64: 0x29,
    Dtype.STRING_LIST: 0x62,
    Dtype.INT64_LIST: 0x72,
    Dtype.FLOAT64_LIST: 0x7A,
}
"""First byte of a value: field number and protobuf's wire type."""
_DOUBLE = np.dtype([("tag", "u1"), ("value", "<f8")])
_NULL_TAG = 0x98
_NESTED_TAG = 0x0A
"""Field 1 with a length, of which a list is made."""
_SHORT = 256
"""Up to so many bytes plain Python parses faster than a dozen NumPy functions."""


class TooManyRowsError(ValueError):
    """A store has more rows than are to be held in memory."""


def redis_project(schema: Schema) -> str:
    """Feast's project of a data set in Redis, where several data sets may share a server."""
    return f"{PROJECT}_{schema.name.replace('-', '_')}"


def entity_keys(name: str, dtype: Dtype, ids: Sequence[int | str]) -> list[bytes]:
    """The keys of entities: the name of the join key, then the id."""
    prefix = key_prefix(name, dtype)
    if dtype is Dtype.STRING:
        texts = [str(one).encode() for one in ids]
        return [prefix + struct.pack("<I", len(text)) + text for text in texts]
    return [prefix + struct.pack("<Iq", 8, int(one)) for one in ids]


def key_prefix(name: str, dtype: Dtype) -> bytes:
    """What all keys of an entity begin with."""
    encoded = name.encode()
    kind = _STRING if dtype is Dtype.STRING else _INT64
    return struct.pack("<III", 1, _STRING, len(encoded)) + encoded + struct.pack("<I", kind)


def ids_of(name: str, dtype: Dtype, keys: Sequence[bytes]) -> list[int] | list[str]:
    """The ids in keys that ``entity_keys`` would make."""
    start = len(key_prefix(name, dtype)) + 4
    if dtype is Dtype.STRING:
        return [key[start:].decode() for key in keys]
    numbers = np.frombuffer(b"".join(key[start : start + 8] for key in keys), dtype="<i8")
    ids: list[int] = numbers.tolist()
    return ids


def stored_columns(
    table: FeatureTable,
    values: Mapping[str, Sequence[bytes | None]],
    moments: Sequence[int | None],
) -> dict[str, pa.Array]:
    """A table's columns and event timestamps.

    Args:
        table: The feature table.
        values: Of each of its columns the stored bytes, None where there are none.
        moments: Event timestamps in epoch microseconds, None where there is no row.
    """
    columns = {
        column.name: decoded(column.name, column.dtype, values[column.name])
        for column in table.columns
    }
    columns[table.timestamp_column] = pa.array(moments, pa.int64()).cast(STAMP)
    return columns


def decoded(name: str, dtype: Dtype, values: Sequence[bytes | None]) -> pa.Array:
    """Stored bytes as an Arrow array, null where there is no value.

    Raises:
        ValueError: A value is of another type than the column's.
    """
    whole = _numbers_without_nulls(dtype, values)
    if whole is not None:
        return pa.array(whole, ARROW_TYPES[dtype])
    tag = _TAGS[dtype]
    there = [value for value in values if value and value[0] == tag]
    is_there = np.array([bool(value and value[0] == tag) for value in values], dtype=np.bool_)
    for value in values if len(there) < len(values) else ():
        if value and value[0] not in {tag, _NULL_TAG}:
            raise ValueError(f"column {name}: stored bytes {value[:16]!r}; a {dtype}")
    if dtype is Dtype.INT64:
        return _scalars(_varints(b"".join(there))[1::2].astype(np.int64), is_there, dtype)
    if dtype is Dtype.FLOAT64:
        records = np.frombuffer(b"".join(there), dtype=_DOUBLE)
        return _scalars(records["value"], is_there, dtype)
    if dtype is Dtype.STRING:
        texts = iter(_text(value, 1)[0] for value in there)
        return pa.array([next(texts) if one else None for one in is_there], pa.string())
    if dtype is Dtype.INT64_LIST:
        return _integer_lists(there, is_there)
    read = _floats if dtype is Dtype.FLOAT64_LIST else _texts
    lists = iter(read(value) for value in there)
    return pa.array([next(lists) if one else None for one in is_there], ARROW_TYPES[dtype])


def _numbers_without_nulls(
    dtype: Dtype, values: Sequence[bytes | None]
) -> npt.NDArray[np.int64] | npt.NDArray[np.float64] | None:
    """A column of numbers that are all there, as is usual; None for any other."""
    if dtype not in {Dtype.INT64, Dtype.FLOAT64} or None in values:
        return None
    content = b"".join(values)  # type: ignore[arg-type]
    if dtype is Dtype.FLOAT64:
        if len(content) != len(values) * _DOUBLE.itemsize:
            return None
        records = np.frombuffer(content, dtype=_DOUBLE)
        return records["value"] if (records["tag"] == _TAGS[dtype]).all() else None
    numbers = _varints(content)
    # A null has no bytes, and one of another kind another tag.
    is_whole = len(numbers) == 2 * len(values) and (numbers[::2] == _TAGS[dtype]).all()
    return numbers[1::2].astype(np.int64) if is_whole else None


def _scalars(
    values: npt.NDArray[np.int64] | npt.NDArray[np.float64],
    is_there: npt.NDArray[np.bool_],
    dtype: Dtype,
) -> pa.Array:
    if is_there.all():
        return pa.array(values, ARROW_TYPES[dtype])
    all_values = np.zeros(len(is_there), dtype=values.dtype)
    all_values[is_there] = values
    return pa.array(all_values, ARROW_TYPES[dtype], mask=~is_there)


def _integer_lists(there: list[bytes], is_there: npt.NDArray[np.bool_]) -> pa.Array:
    """Lists: tag, length, and where the list is not empty tag, length and the values.

    Every one of these numbers is a varint, so the bytes of all lists are parsed together.
    """
    if sum(map(len, there)) <= _SHORT:
        lists = iter([_signed(_few_varints(value)[4:]) for value in there])
        return pa.array([next(lists) if one else None for one in is_there], pa.list_(pa.int64()))
    numbers = _varints(b"".join(there))
    ends = np.frombuffer(b"".join(there), dtype=np.uint8) < 0x80
    starts = np.cumsum([0, *map(len, there)])
    counts = np.diff(np.concatenate(([0], np.cumsum(ends)))[starts])
    is_header = np.zeros(len(numbers), dtype=bool)
    first = np.cumsum(counts) - counts
    for position in range(4):
        is_header[first[counts > position] + position] = True
    lengths = np.zeros(len(is_there), dtype=np.int64)
    lengths[is_there] = np.maximum(counts - 4, 0)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.array(numbers[~is_header].astype(np.int64)),
        mask=pa.array(~is_there),
    )


def _varints(content: bytes) -> npt.NDArray[np.uint64]:
    """All numbers of a run of varints: seven bits a byte, the lowest first."""
    if len(content) <= _SHORT:
        return np.array(_few_varints(content), dtype=np.uint64)
    octets = np.frombuffer(content, dtype=np.uint8)
    last = np.flatnonzero(octets < 0x80)
    starts = np.concatenate(([0], last[:-1] + 1))
    within = np.arange(len(octets)) - np.repeat(starts, last - starts + 1)
    bits = (octets & 0x7F).astype(np.uint64) << (7 * within).astype(np.uint64)
    numbers: npt.NDArray[np.uint64] = np.add.reduceat(bits, starts)
    return numbers


def _few_varints(content: bytes) -> list[int]:
    """``_varints`` of few bytes, as the one row of a user has."""
    numbers = []
    number, shift = 0, 0
    for octet in content:
        number |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            numbers.append(number)
            number, shift = 0, 0
    return numbers


def _signed(numbers: list[int]) -> list[int]:
    """Integers of 64 bits, of which a varint has the two's complement."""
    return [number - (1 << 64) if number >> 63 else number for number in numbers]


def _text(value: bytes, start: int) -> tuple[str, int]:
    """The text behind a length, and where it ends."""
    length, shift = 0, 0
    while True:
        octet = value[start]
        start += 1
        length |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value[start : start + length].decode(), start + length
        shift += 7


def bytes_value(content: bytes) -> bytes:
    """Bytes as the message ``feast.types.Value`` holds them."""
    size, octets = len(content), bytearray()
    while size >= 0x80:
        octets.append(size & 0x7F | 0x80)
        size >>= 7
    return b"%c%b%c%b" % (_NESTED_TAG, bytes(octets), size, content)


def content_of(value: bytes) -> bytes:
    """The bytes that ``bytes_value`` was made of."""
    position = 1
    while value[position] >= 0x80:
        position += 1
    return value[position + 1 :]


def _texts(value: bytes) -> list[str]:
    """The texts of a list: its tag and length, then each with its own."""
    found = []
    position = 1
    while value[position] >= 0x80:
        position += 1
    position += 1
    while position < len(value):
        if value[position] != _NESTED_TAG:
            raise ValueError(f"stored list {value[:16]!r}; texts")
        text, position = _text(value, position + 1)
        found.append(text)
    return found


def _floats(value: bytes) -> list[float]:
    """The numbers of a list: its tag and length, then the same of the packed numbers."""
    packed = content_of(value)
    numbers: list[float] = np.frombuffer(content_of(packed), "<f8").tolist() if packed else []
    return numbers


def in_order(
    keys: Sequence[bytes], found: dict[bytes, int], columns: dict[str, pa.Array]
) -> dict[str, pa.Array]:
    """Columns of the rows that were found, put into the order of the keys; null where not found."""
    indices = [found.get(key) for key in keys]
    if indices == list(range(len(found))):
        return columns
    rows = pa.array(indices, pa.int64())
    return {name: values.take(rows) for name, values in columns.items()}
