"""Calls of the Open Inference Protocol, read from REST bodies and gRPC messages.

KServe's own decoding is not used for requests: it trusts shapes, sizes and header values, and fails
with a 500 where they are wrong.
"""

import asyncio
import collections
import dataclasses
import time
import uuid
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from serving.protocol import fields
from serving.protocol.errors import RequestError
from serving.protocol.fields import (
    BYTES,
    Tensor,
    Values,
    binary_values,
    check_count,
    checked_values,
    size_of,
    unknown_datatype,
    utf8,
)

JSON_LENGTH_HEADER = "inference-header-content-length"

_UNSUPPORTED = ("classification", "shared_memory_region")
"""Parameters of tensors that would change where or what values are; ignored, they would mislead."""
_GRPC_CONTENTS = {
    "INT64": "int64_contents",
    "FP64": "fp64_contents",
    "FP32": "fp32_contents",
    BYTES: "bytes_contents",
    **dict.fromkeys(("INT32", "INT16", "INT8"), "int_contents"),
    **dict.fromkeys(("UINT32", "UINT16", "UINT8"), "uint_contents"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceCall:
    """One request to infer, whatever it came over."""

    id: str
    tensors: dict[str, Tensor]
    outputs: dict[str, bool | None]
    """Requested outputs, and whether in binary (None: as the call says); empty: all of them."""
    is_binary: bool
    """Whether outputs are binary unless they say otherwise."""
    model_version: str = ""
    """The version that must answer; empty: whichever is loaded."""


Response = TypeVar("Response")
Encoded = TypeVar("Encoded")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message(Generic[Response, Encoded]):
    """A request to infer that is still to be received, in the form of its protocol."""

    read: Callable[[], Awaitable[bytes]] | bytes
    """Receives its content; or that, where only the content says which model it asks for."""
    decode: Callable[[bytes], InferenceCall]
    encode: Callable[[Response], Encoded]
    """Writes the answer."""
    model_version: str | None = None
    """The version that must answer, as ``InferenceCall`` has it; None: only the content says."""
    arrived_at: float = dataclasses.field(default_factory=time.monotonic)
    """When it began to arrive, of ``time.monotonic``."""
    caller_seconds: float | None = None
    """How long the caller waits, where it has said so."""
    caller_left: "asyncio.Future[None] | None" = None
    """Done when the caller has left; None: the call is cancelled then."""


def from_rest(body: bytes, *, json_length: str | None, model_version: str = "") -> InferenceCall:
    """The call in a REST body: JSON, then the binary tensors in the order of the inputs.

    Args:
        body: The whole body.
        json_length: The header that says how many bytes of it are JSON; None: all.
        model_version: The version in the path, if any.

    Raises:
        RequestError: Anything about the message that is not as the protocol has it.
    """
    length = len(body) if json_length is None else _header_number(json_length, len(body))
    message = fields.message(body[:length])
    parameters = fields.mapping(message.get("parameters"), "parameters")
    return InferenceCall(
        id=_request_id(message.get("id")),
        tensors=_rest_tensors(message.get("inputs"), body[length:]),
        outputs=_rest_outputs(message.get("outputs")),
        is_binary=bool(fields.flag(parameters, "binary_data_output", "parameters")),
        model_version=model_version,
    )


def from_grpc(content: bytes) -> InferenceCall:
    """The call in a gRPC ModelInferRequest; raises RequestError as ``from_rest`` does."""
    message = from_bytes(messages.ModelInferRequest.FromString, content)
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise RequestError(
            "raw_input_contents", len(raw), f"one for each of {len(message.inputs)} inputs"
        )
    tensors: dict[str, Tensor] = {}
    for place, given in enumerate(message.inputs):
        _check_new_name(fields.text(given.name, f"inputs[{place}].name"), tensors)
        _check_supported(f"inputs[{place}]", given.parameters)
        size = size_of(given.name, list(given.shape))
        if raw and given.HasField("contents"):
            raise RequestError(
                f"{given.name}.contents", "present", "empty beside raw_input_contents"
            )
        values = (
            binary_values(given.name, given.datatype, raw=raw[place], size=size)
            if raw
            else _typed_contents(given, size)
        )
        tensors[given.name] = Tensor(given.name, given.datatype, values)
    outputs = [output.name for output in message.outputs]
    _check_unique(outputs)
    for place, output in enumerate(message.outputs):
        _check_supported(f"outputs[{place}]", output.parameters)
    return InferenceCall(
        id=_request_id(message.id),
        tensors=tensors,
        outputs=dict.fromkeys(outputs, None),
        is_binary=bool(raw),
        model_version=message.model_version,
    )


def model_in(content: bytes) -> str:
    """The model that a gRPC ModelInferRequest names; all else in it is skipped, and not decoded.

    The other message has the same first field, and none of those that are large.
    """
    found: str = from_bytes(messages.ModelReadyRequest.FromString, content).name
    return found


def from_bytes(decode: Callable[[bytes], Any], content: bytes) -> Any:
    """A gRPC message; RequestError where the bytes are none: gRPC itself would answer INTERNAL."""
    try:
        return decode(content)
    except DecodeError as error:
        limit = "a message of the Open Inference Protocol"
        raise RequestError("message", str(error), limit) from error


def _header_number(text: str, body_bytes: int) -> int:
    limit = f"an integer from 0 to the body's {body_bytes} bytes"
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or int(text) > body_bytes:
        raise RequestError(JSON_LENGTH_HEADER, text, limit)
    return int(text)


def _request_id(value: object) -> str:
    return str(uuid.uuid4()) if value is None or value == "" else fields.text(value, "id")


def _rest_tensors(inputs: object, binary: bytes) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    start = 0
    for place, given in enumerate(fields.listing(inputs, "inputs")):
        described = fields.mapping(given, f"inputs[{place}]", is_required=True)
        name = fields.text(described.get("name"), f"inputs[{place}].name")
        _check_new_name(name, tensors)
        size = size_of(name, described.get("shape"))
        datatype = fields.text(described.get("datatype"), f"{name}.datatype")
        num_bytes = _binary_size(name, described, len(binary) - start)
        if num_bytes is None:
            values = checked_values(name, datatype, values=described.get("data"), size=size)
        else:
            values = binary_values(name, datatype, raw=binary[start : start + num_bytes], size=size)
            start += num_bytes
        tensors[name] = Tensor(name, datatype, values)
    if start != len(binary):
        raise RequestError("body", f"{len(binary) - start} bytes after the last tensor", "none")
    return tensors


def _binary_size(name: str, described: Mapping[str, Any], num_left: int) -> int | None:
    """Bytes of the tensor behind the JSON; None where its values are in the JSON."""
    parameters = fields.mapping(described.get("parameters"), f"{name}.parameters")
    _check_supported(name, parameters)
    if "binary_data_size" not in parameters:
        return None
    size = parameters["binary_data_size"]
    if "data" in described:
        raise RequestError(f"{name}.data", "present", "absent beside binary_data_size")
    if type(size) is not int or not 0 <= size <= num_left:
        limit = f"an integer from 0 to the {num_left} bytes left in the body"
        raise RequestError(f"{name}.parameters.binary_data_size", size, limit)
    return int(size)


def _check_new_name(name: str, tensors: Mapping[str, Tensor]) -> None:
    if name in tensors:
        raise RequestError("inputs", name, "each name once")


def _typed_contents(given: Any, size: int) -> Values:
    """Values of a gRPC tensor from the field of its datatype."""
    if given.datatype not in _GRPC_CONTENTS:
        raise unknown_datatype(given.name, given.datatype)
    contents = list(getattr(given.contents, _GRPC_CONTENTS[given.datatype]))
    check_count(given.name, len(contents), size)
    if given.datatype == BYTES:
        return [utf8(given.name, place, value) for place, value in enumerate(contents)]
    return checked_values(given.name, given.datatype, values=contents, size=size)


def _rest_outputs(outputs: object) -> dict[str, bool | None]:
    if outputs is None:
        return {}
    requested: list[tuple[str, bool | None]] = []
    for place, given in enumerate(fields.listing(outputs, "outputs")):
        field = f"outputs[{place}]"
        described = fields.mapping(given, field, is_required=True)
        parameters = fields.mapping(described.get("parameters"), f"{field}.parameters")
        _check_supported(field, parameters)
        is_binary = fields.flag(parameters, "binary_data", f"{field}.parameters")
        requested.append((fields.text(described.get("name"), f"{field}.name"), is_binary))
    _check_unique([name for name, _ in requested])
    return dict(requested)


def _check_supported(field: str, parameters: Container[str]) -> None:
    for name in _UNSUPPORTED:
        if name in parameters:
            raise RequestError(f"{field}.parameters", name, "not supported; values are in the body")


def _check_unique(names: Sequence[str]) -> None:
    if len(set(names)) == len(names):
        return
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise RequestError("outputs", repeated[0], "each name once")
