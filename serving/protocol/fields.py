"""Fields of a request, each of the required type, or a RequestError that names it.

Parts of a JSON message, and tensors of the Open Inference Protocol. Nothing here knows the schema
or the transport: a tensor has a name, one dimension of 1 to MAX_CANDIDATES values, and values of
its datatype.
"""

import dataclasses
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from serving.protocol.errors import RequestError
from serving.settings import MAX_CANDIDATES

MAX_TEXT = 200
INTEGERS: dict[str, Any] = {
    "INT64": np.int64,
    "INT32": np.int32,
    "INT16": np.int16,
    "INT8": np.int8,
    "UINT32": np.uint32,
    "UINT16": np.uint16,
    "UINT8": np.uint8,
}
FLOATS: dict[str, Any] = {"FP64": np.float64, "FP32": np.float32}
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


def message(content: bytes) -> dict[str, Any]:
    """The object that a body holds."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RequestError("body", str(error), "a JSON object in UTF-8") from error
    return mapping(found, "body", is_required=True)


def mapping(value: object, field: str, *, is_required: bool = False) -> dict[str, Any]:
    """An object; an absent one is empty unless it is required."""
    if value is None and not is_required:
        return {}
    if not isinstance(value, dict):
        raise RequestError(field, value, "a JSON object")
    return value


def listing(value: object, field: str) -> list[Any]:
    """An array."""
    if not isinstance(value, list):
        raise RequestError(field, value, "a JSON array")
    return value


def text(value: object, field: str) -> str:
    """A name, fit to be part of an error message and of a log line."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or not value.isprintable():
        raise RequestError(field, value, f"a printable string of 1 to {MAX_TEXT} characters")
    return value


def flag(parameters: Mapping[str, Any], name: str, field: str) -> bool | None:
    """A yes or no among the parameters of a field; None where it is absent."""
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"{field}.{name}", value, "true or false")
    return value


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


def _json_integers(name: str, datatype: str, values: list[Any]) -> Values:
    _check_types(name, datatype, values, (int,))
    bounds = np.iinfo(INTEGERS[datatype])
    for value in (min(values), max(values)):
        if not bounds.min <= value <= bounds.max:
            raise RequestError(name, value, f"{datatype} from {bounds.min} to {bounds.max}")
    return np.array(values, dtype=np.int64)


def _check_types(name: str, datatype: str, values: list[Any], allowed: tuple[type, ...]) -> None:
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
