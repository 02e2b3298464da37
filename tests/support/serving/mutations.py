"""Good requests, spoilt: by seed, the same ones every time.

What an HTTP server must still be able to frame is in ``spoilt_request``; what it cannot is in
``spoilt_stream``, for a connection of its own; ``spoilt_message`` is for gRPC.
"""

import copy
import dataclasses
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import orjson
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from support.serving.odd_values import (
    HEADERS,
    JSON_LENGTH,
    METHODS,
    ODD_PATHS,
    ODD_TEXTS,
    ODD_VALUES,
)

PATHS = {"infer": "/v2/models/stand-in/infer", "predict": "/v1/models/stand-in:predict"}
V2 = {
    "id": "one",
    "parameters": {"binary_data_output": False},
    "inputs": [
        {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [7]},
        {"name": "item_id", "shape": [3], "datatype": "BYTES", "data": ["a", "b", "c"]},
        {"name": "position", "shape": [3], "datatype": "INT64", "data": [1, 2, 3]},
        {"name": "price", "shape": [1], "datatype": "FP64", "data": [9.5]},
        {"name": "timestamp", "shape": [1], "datatype": "BYTES", "data": ["2025-06-15T12:00:00Z"]},
    ],
    "outputs": [{"name": "score", "parameters": {"binary_data": True}}, {"name": "item_status"}],
}
V1 = {
    "instances": [
        {"user_id": 7, "item_id": item, "price": 9.5, "timestamp": "2025-06-15T12:00:00Z"}
        for item in "abc"
    ]
}


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that HTTP can frame, whatever it says."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def encoded(self) -> bytes:
        head = f"{self.method} {self.path} HTTP/1.1\r\n".encode()
        headers = [*self.headers, (b"Content-Length", str(len(self.body)).encode())]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        return head + lines + b"\r\n" + self.body


def good_binary() -> Request:
    """V2 with two tensors behind the JSON."""
    described = copy.deepcopy(V2)
    tail = b""
    for tensor, raw in zip(
        described["inputs"][:2],
        (
            struct.pack("<q", 7),
            b"".join(struct.pack("<I", 1) + item for item in (b"a", b"b", b"c")),
        ),
        strict=False,
    ):
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": len(raw)}
        tail += raw
    text = orjson.dumps(described)
    headers = [(b"Host", b"x"), (JSON_LENGTH, str(len(text)).encode())]
    return Request("POST", PATHS["infer"], headers, text + tail)


def good_json(name: str) -> Request:
    content = orjson.dumps(V2 if name == "infer" else V1)
    headers = [(b"Host", b"x"), (b"Content-Type", b"application/json")]
    return Request("POST", PATHS[name], headers, content)


def spoilt_request(chance: random.Random) -> Request:
    """A good request with one to three things wrong."""
    kind = chance.choice(["infer", "infer", "predict", "binary"])
    request = good_binary() if kind == "binary" else good_json(kind)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        request = chance.choices(_MUTATIONS, _WEIGHTS)[0](chance, request)
    return request


def _tree(chance: random.Random, request: Request) -> Request:
    """One node of the JSON is another value, is gone, is doubled, or is deeper."""
    text, tail = _split(request)
    try:
        root = [orjson.loads(text)]
    except orjson.JSONDecodeError:
        return _bytes(chance, request)
    parent, key = chance.choice(_nodes(root))
    action = chance.randrange(6)
    if action == 0:
        del parent[key]
    elif action == 1:
        parent[key] = [parent[key]] * chance.choice([1, 2, 40])
    elif action == 2 and isinstance(parent, dict):
        parent[chance.choice(["", "data", "shape", "x" * 500, "\x00", "binary_data_size"])] = (
            parent[key]
        )
    else:
        parent[key] = copy.deepcopy(chance.choice(ODD_VALUES))
    try:
        return _with_text(request, json.dumps(root[0]).encode() if root else b"", tail)
    except RecursionError:
        return _bytes(chance, request)


def _bytes(chance: random.Random, request: Request) -> Request:
    """A few bytes of the body are others."""
    content = bytearray(request.body or b"{}")
    for _ in range(chance.randint(1, 5)):
        start = chance.randrange(len(content) + 1)
        content[start : start + chance.randint(0, 4)] = chance.randbytes(chance.randint(0, 4))
    return dataclasses.replace(request, body=bytes(content))


def _cut(chance: random.Random, request: Request) -> Request:
    return dataclasses.replace(
        request, body=request.body[: chance.randrange(len(request.body) + 1)]
    )


def _text(chance: random.Random, request: Request) -> Request:
    """The JSON in another encoding, with numbers that JSON has not, or too deep."""
    text, tail = _split(request)
    depth = chance.choice([50, 1000, 5000])
    spoilt = chance.choice(
        [
            text.decode(errors="replace").encode("utf-16"),
            text.decode(errors="replace").encode("utf-32-be"),
            b"\xef\xbb\xbf" + text,
            text.replace(
                b"9.5", chance.choice([b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"+1"])
            ),
            text.replace(b"7", b"0" * 50 + b"7").replace(b"1", b"1.0"),
            text.replace(b'"', b"'"),
            text.replace(b"[7]", b"[" * depth + b"]" * depth, 1),
            text.replace(b"{", b'{"a":' * depth, 1),
            text + text,
            text.replace(b":", b"\x00:"),
            text.replace(b'"a"', b'"\\ud800"'),
            text.replace(b'"a"', b'"\xff"'),
        ]
    )
    return _with_text(request, spoilt, tail)


def _header(chance: random.Random, request: Request) -> Request:
    headers = list(request.headers)
    for _ in range(chance.choice([1, 1, 2, 60])):
        headers.append((chance.choice(HEADERS), chance.choice(ODD_TEXTS).strip(b"\t")))
    return dataclasses.replace(request, headers=headers)


def _length(chance: random.Random, request: Request) -> Request:
    """The header that splits JSON from tensors is off."""
    length = str(chance.choice([0, 1, len(request.body), chance.randrange(len(request.body) + 9)]))
    return dataclasses.replace(request, headers=[*request.headers, (JSON_LENGTH, length.encode())])


def _path(chance: random.Random, request: Request) -> Request:
    return dataclasses.replace(request, path=chance.choice(ODD_PATHS))


def _method(chance: random.Random, request: Request) -> Request:
    return dataclasses.replace(request, method=chance.choice(METHODS))


_MUTATIONS: list[Callable[[random.Random, Request], Request]] = [
    *(_tree, _bytes, _cut, _text, _header, _length, _path, _method),
]
_WEIGHTS = [8, 4, 2, 3, 4, 2, 1, 1]


def spoilt_stream(chance: random.Random) -> bytes:
    """What no HTTP server can frame, or what ends before it should."""
    whole = chance.choice([good_binary(), good_json("infer"), good_json("predict")]).encoded()
    head, _, body = whole.partition(b"\r\n\r\n")
    chunked = head.replace(b"Content-Length", b"Transfer-Encoding: chunked\r\nX-Length")
    return chance.choice(
        [
            whole[: chance.randrange(1, len(whole))],
            chance.randbytes(chance.randint(1, 300)),
            head.replace(b"Content-Length: ", b"Content-Length: -") + b"\r\n\r\n" + body,
            head + b"\r\nContent-Length: 5\r\n\r\n" + body,
            head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
            head + b"\r\nNo colon here\r\n\r\n" + body,
            head + b"\r\nX-Odd: a\x00b\r\n\r\n" + body,
            head.replace(b"HTTP/1.1", b"HTTP/9.9") + b"\r\n\r\n" + body,
            head.replace(b"POST", b"BREW") + b"\r\n\r\n" + body,
            head.replace(b" /", b" http://[::", 1) + b"\r\n\r\n" + body,
            chunked + b"\r\n\r\nzz\r\n" + body + b"\r\n0\r\n\r\n",
            chunked + b"\r\n\r\nffffffffffffffffff\r\n" + body,
            chunked + b"\r\n\r\n5\r\n" + body[:3],
            whole.replace(b"\r\n", b"\n", chance.randint(1, 3)),
        ]
    )


def spoilt_message(chance: random.Random) -> tuple[str, bytes]:
    """A gRPC method and a message for it."""
    method = chance.choices(_GRPC_METHODS, [12, 1, 1, 1, 1, 1, 1])[0]
    content = bytearray(_good_message(chance).SerializeToString())
    for _ in range(chance.randint(0, 4)):
        start = chance.randrange(len(content) + 1)
        content[start : start + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
    if chance.random() < 0.1:
        del content[chance.randrange(len(content) + 1) :]
    return method, bytes(content)


_GRPC_METHODS = [
    *("ModelInfer", "ModelMetadata", "ModelReady", "ServerMetadata", "RepositoryModelLoad"),
    *("RepositoryModelUnload", "NoSuchMethod"),
]
_FIELDS = ["int64_contents", "fp64_contents", "uint_contents", "int_contents", "bool_contents"]


def _good_message(chance: random.Random) -> Any:
    """A message that protobuf can read and that may be wrong in shapes, types and contents."""
    message = messages.ModelInferRequest(
        model_name=chance.choice(["stand-in"] * 9 + ["", "x" * 999])
    )
    for name, datatype, field, values in (
        ("user_id", "INT64", "int64_contents", [7]),
        ("item_id", "BYTES", "bytes_contents", [b"a", b"b"]),
        ("price", "FP64", "fp64_contents", [9.5]),
    ):
        tensor = message.inputs.add(name=name, datatype=datatype, shape=[len(values)])
        getattr(tensor.contents, field).extend(values)
    spoilt = chance.choice(message.inputs)
    action = chance.randrange(8)
    if action == 0:
        spoilt.shape[:] = chance.choice([[], [-1], [2**62, 2], [0], [1] * 50])
    elif action == 1:
        spoilt.datatype = chance.choice(["", "FP16", "BOOL", "UINT64", "INT8", "\x00", "x" * 400])
    elif action == 2:
        spoilt.ClearField("contents")
        getattr(spoilt.contents, chance.choice(_FIELDS)).extend([1] * chance.randint(0, 3))
    elif action == 3:
        message.raw_input_contents.extend([chance.randbytes(8)] * chance.choice([1, 3]))
    elif action == 4:
        message.inputs.add().CopyFrom(spoilt)
    elif action == 5:
        message.outputs.add(name=chance.choice(["score", "colour", "", "\x01"]))
    elif action == 6:
        spoilt.parameters["binary_data_size"].int64_param = -1
        message.parameters["sequence_id"].string_param = "x" * 500
    elif action == 7:
        message.model_version, message.id = (
            chance.choice(["", "x"]),
            chance.choice(["", "a\nb", "i" * 999]),
        )
    return message


def _nodes(root: list[Any]) -> list[tuple[Any, Any]]:
    """Every container and key in a tree, which may be deeper than Python can recurse."""
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(child, dict | list):
                waiting.append(child)
    return places


def _split(request: Request) -> tuple[bytes, bytes]:
    lengths = [value for name, value in request.headers if name == JSON_LENGTH]
    if len(lengths) == 1 and lengths[0].isdigit():
        return request.body[: int(lengths[0])], request.body[int(lengths[0]) :]
    return request.body, b""


def _with_text(request: Request, text: bytes, tail: bytes) -> Request:
    """The request with other JSON, and with its length in the header that had it."""
    length = str(len(text)).encode()
    headers = [(n, length if n == JSON_LENGTH and tail else value) for n, value in request.headers]
    return dataclasses.replace(request, headers=headers, body=text + tail)
