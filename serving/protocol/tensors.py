"""Tensors of the Open Inference Protocol: their shape, and their values by datatype.

Nothing here knows the schema or the transport: a tensor has a name, one dimension of 1 to
MAX_CANDIDATES values, and values of its datatype.
"""

import dataclasses
import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serving.protocol.errors import RequestError
from serving.settings import MAX_CANDIDATES

INTEGERS = {
    "INT64": "int64",
    "INT32": "int32",
    "INT16": "int16",
    "INT8": "int8",
    "UINT32": "uint32",
    "UINT16": "uint16",
    "UINT8": "uint8",
}
FLOATS = {"FP64": "float64", "FP32": "float32"}
BYTES = "BYTES"
LARGEST_FLOAT = float(np.finfo(np.float32).max)
"""Of the float32 that models read."""

Values = npt.NDArray[np.int64] | npt.NDArray[np.float64] | list[str]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One input: integers as int64, floats as float64 (all finite in float32), BYTES as text."""

    name: str
    datatype: str
    values: Values


def size_of(name: str, shape: object) -> int:
    """Number of values of a tensor of one dimension; RequestError for every other shape."""
    limit = f"[n] with n from 1 to {MAX_CANDIDATES}"
    if not isinstance(shape, list) or len(shape) != 1 or type(shape[0]) is not int:
        raise RequestError(f"{name}.shape", shape, limit)
    if not 1 <= shape[0] <= MAX_CANDIDATES:
        raise RequestError(f"{name}.shape", shape, limit)
    return int(shape[0])


def checked_values(name: str, datatype: str, *, values: object, size: int) -> Values:
    """The values of a list, which must be as many as the shape says and all of the datatype."""
    if not isinstance(values, list):
        raise RequestError(f"{name}.data", values, "a JSON array")
    check_count(name, len(values), size)
    if datatype in INTEGERS:
        return _json_integers(name, datatype, values)
    if datatype in FLOATS:
        _check_types(name, datatype, values, (int, float))
        return _finite(name, np.array(values, dtype=np.float64))
    if datatype == BYTES:
        _check_types(name, datatype, values, (str,))
        return values
    raise unknown_datatype(name, datatype)


def _json_integers(name: str, datatype: str, values: list[int]) -> Values:
    _check_types(name, datatype, values, (int,))
    bounds = np.iinfo(INTEGERS[datatype])
    for value in (min(values), max(values)):
        if not bounds.min <= value <= bounds.max:
            raise RequestError(name, value, f"{datatype} from {bounds.min} to {bounds.max}")
    return np.array(values, dtype=np.int64)


def _check_types(
    name: str, datatype: str, values: Sequence[object], allowed: tuple[type, ...]
) -> None:
    """Exact types: a JSON true is an int to Python, and is none here."""
    if set(allowed).issuperset(map(type, values)):
        return
    for place, value in enumerate(values):
        if type(value) not in allowed:
            raise RequestError(f"{name}.data[{place}]", value, f"a value of type {datatype}")


def binary_values(name: str, datatype: str, *, raw: bytes, size: int) -> Values:
    """The values in little-endian bytes; BYTES each follow their length."""
    if datatype == BYTES:
        return _length_prefixed(name, raw, size)
    dtype = INTEGERS.get(datatype) or FLOATS.get(datatype)
    if dtype is None:
        raise unknown_datatype(name, datatype)
    expected = size * np.dtype(dtype).itemsize
    if len(raw) != expected:
        raise RequestError(
            name, f"{len(raw)} bytes", f"{expected} bytes for {size} {datatype} values"
        )
    values = np.frombuffer(raw, dtype=np.dtype(dtype).newbyteorder("<"))
    if datatype in INTEGERS:
        return values.astype(np.int64)
    return _finite(name, values.astype(np.float64))


def _length_prefixed(name: str, raw: bytes, size: int) -> list[str]:
    """Texts that each follow their length as four bytes, little-endian."""
    texts: list[str] = []
    start = 0
    while start < len(raw) and len(texts) <= size:
        end = start + 4
        if end <= len(raw):
            (length,) = struct.unpack_from("<I", raw, start)
            end += length
        if end > len(raw):
            raise RequestError(
                f"{name}[{len(texts)}]", "cut off", "a length of 4 bytes, then as many bytes"
            )
        texts.append(utf8(name, len(texts), raw[start + 4 : end]))
        start = end
    check_count(name, len(texts), size)
    return texts


def utf8(name: str, place: int, value: bytes) -> str:
    """One value of a BYTES tensor as text."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{name}[{place}]", value, "text in UTF-8") from error


def _finite(name: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The values, none of them NaN, infinite, or infinite as the float32 that models read."""
    bad = np.flatnonzero(~(np.abs(values) <= LARGEST_FLOAT))
    if len(bad):
        raise RequestError(f"{name}[{bad[0]}]", float(values[bad[0]]), "a finite number in float32")
    return values


def check_count(name: str, num_values: int, size: int) -> None:
    """RequestError for more or fewer values than the shape says."""
    if num_values != size:
        raise RequestError(name, f"{num_values} values", f"{size}, as its shape says")


def unknown_datatype(name: str, datatype: str) -> RequestError:
    """What to raise for a datatype that no input has."""
    return RequestError(
        f"{name}.datatype", datatype, f"one of {', '.join((*INTEGERS, *FLOATS, BYTES))}"
    )
