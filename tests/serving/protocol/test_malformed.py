"""No body and no header makes the endpoint answer 5xx, and every error body is {"error": …}.

Chosen ones over REST, each with what its error says; test_malformed_grpc.py has those over gRPC,
and test_many_malformed.py has 10,000 made up by chance.
"""

import json
import socket
import struct

import httpx
import orjson
import pytest

pytestmark = pytest.mark.usefixtures("log_before")
JSON_LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/stand-in/infer"
JSON_TYPE = {"Content-Type": "application/json"}


def assert_refused(answer: httpx.Response, status: int = 400, *, says: str = "") -> None:
    assert answer.status_code == status, (answer.status_code, answer.text)
    content = answer.json()
    assert list(content) == ["error"], content
    assert isinstance(content["error"], str)
    assert says in content["error"], content


def deep(levels: int) -> bytes:
    return b'{"inputs": ' + b"[" * levels + b"]" * levels + b"}"


# Each: changes to the good request (None drops the input), and what the error says.
INPUTS = [
    ({"user_id": None}, "user_id: 'missing'; a required input"),
    ({"item_id": None}, "item_id: 'missing'; a required input"),
    ({"user_id": {"data": ["7"]}}, "user_id.data[0]: '7'; a value of type INT64"),
    ({"user_id": {"data": [7.0]}}, "user_id.data[0]: 7.0; a value of type INT64"),
    ({"user_id": {"data": [True]}}, "user_id.data[0]: True; a value of type INT64"),
    ({"user_id": {"data": [None]}}, "user_id.data[0]: None"),
    ({"user_id": {"data": [[7]]}}, "user_id.data[0]: [7]"),
    ({"user_id": {"data": [2**63]}}, "user_id: 9223372036854775808; INT64 from"),
    ({"user_id": {"data": [2**64]}}, "user_id.data[0]"),
    ({"user_id": {"data": [300], "datatype": "UINT8"}}, "user_id: 300; UINT8 from 0 to 255"),
    ({"user_id": {"data": 7}}, "user_id.data: 7; a JSON array"),
    ({"user_id": {"data": {"0": 7}}}, "user_id.data"),
    ({"user_id": {"datatype": "BYTES", "data": ["7"]}}, "user_id.datatype: 'BYTES'; one of INT64"),
    ({"user_id": {"datatype": "FP64"}}, "user_id.datatype"),
    ({"user_id": {"datatype": "INT65"}}, "user_id.datatype: 'INT65'; one of"),
    ({"user_id": {"datatype": "int64"}}, "user_id.datatype"),
    ({"user_id": {"datatype": 64}}, "user_id.datatype: 64"),
    ({"user_id": {"datatype": None}}, "user_id.datatype: None"),
    ({"user_id": {"shape": [2], "data": [7, 8]}}, "user_id.shape: [2]; [1]"),
    ({"item_id": {"data": [1, 2, 3]}}, "item_id.data[0]: 1; a value of type BYTES"),
    ({"item_id": {"datatype": "INT64", "data": [1, 2, 3]}}, "item_id.datatype"),
    ({"item_id": {"shape": [-1]}}, "item_id.shape: [-1]; [n] with n from 1 to 10000"),
    ({"item_id": {"shape": [0], "data": []}}, "item_id.shape: [0]"),
    ({"item_id": {"shape": []}}, "item_id.shape: []"),
    ({"item_id": {"shape": 3}}, "item_id.shape: 3; [n] with n from 1"),
    ({"item_id": {"shape": None}}, "item_id.shape: None"),
    ({"item_id": {"shape": [3.0]}}, "item_id.shape: [3.0]"),
    ({"item_id": {"shape": ["3"]}}, "item_id.shape: ['3']"),
    ({"item_id": {"shape": [True]}}, "item_id.shape: [True]"),
    ({"item_id": {"shape": [3, 1]}}, "item_id.shape: [3, 1]"),
    ({"item_id": {"shape": [2**40, 2**40]}}, "item_id.shape"),
    ({"item_id": {"shape": [2**63]}}, "item_id.shape"),
    ({"item_id": {"shape": [10_001], "data": ["a"] * 10_001}}, "item_id.shape: [10001]"),
    ({"item_id": {"shape": [4]}}, "item_id: '3 values'; 4, as its shape says"),
    ({"item_id": {"data": []}}, "item_id: '0 values'"),
    ({"position": {"shape": [2], "data": [1, 2]}}, "position.shape: [2]; [1] or [3]"),
    ({"price": {"data": ["cheap"]}}, "price.data[0]: 'cheap'"),
    ({"price": {"data": [1e300]}}, "price[0]: 1e+300; a finite number in float32"),
    ({"timestamp": {"data": ["yesterday"]}}, "timestamp: 'yesterday'; epoch microseconds or ISO"),
    ({"timestamp": {"data": ["2025-06-15T12:00:00"]}}, "timestamp"),
    ({"timestamp": {"datatype": "INT64", "data": [-1]}}, "timestamp: -1; a moment of the years"),
    ({"timestamp": {"datatype": "INT64", "data": [2**62]}}, "timestamp"),
    ({"timestamp": {"shape": [3], "data": ["2025-06-15T12:00:00Z"] * 3}}, "timestamp.shape: [3]"),
    ({"colour": {"shape": [1], "datatype": "BYTES", "data": ["red"]}}, "inputs: 'colour'; one of"),
    ({"user_id": {"parameters": 3}}, "user_id.parameters: 3; a JSON object"),
    ({"user_id": {"parameters": {"binary_data_size": 8}}}, "user_id.data: 'present'; absent"),
]


@pytest.mark.parametrize(("changes", "says"), INPUTS)
def test_a_bad_input_is_refused_with_field_value_and_limit(server, body, changes, says):
    assert_refused(server.infer(body(**changes)), says=says)


BODIES = [
    (b"", "body"),
    (b"{", "body"),
    (b"not json", "body"),
    (b"null", "body: None; a JSON object"),
    (b"[]", "body: []; a JSON object"),
    (b"{}", "inputs: None; a JSON array"),
    (b'{"inputs": {}}', "inputs: {}; a JSON array"),
    (b'{"inputs": []}', "item_id: 'missing'"),
    (b'{"inputs": [3]}', "inputs[0]: 3; a JSON object"),
    (b'{"inputs": [{}]}', "inputs[0].name: None"),
    (b'{"inputs": [{"name": ""}]}', "inputs[0].name: ''"),
    (b'{"inputs": [{"name": "a\\nb"}]}', "inputs[0].name"),
    (b'{"inputs": [{"name": "' + b"x" * 1000 + b'"}]}', "inputs[0].name"),
    (b'{"inputs": [{"name": "price", "shape": [1], "datatype": "FP64", "data": [NaN]}]}', "body"),
    (b'{"inputs": [{"name": "price", "shape": [1], "datatype": "FP64", "data": [1e999]}]}', ""),
    (b'{"inputs": "\xff\xfe"}', "body"),
    (b'{"inputs": "\\ud800"}', "body"),
    (b"\xef\xbb\xbf{}", "body"),
    (b"{}" + b"\x00" * 9, "body"),
    (deep(500), "inputs[0]"),
    (deep(100_000), "body"),
    (b"[" * 1_000_000, "body"),
    (b'{"a":' * 50_000, "body"),
]


@pytest.mark.parametrize(("content", "says"), BODIES)
def test_a_body_that_is_no_request_is_refused(server, content, says):
    assert_refused(server.http.post(INFER, content=content, headers=JSON_TYPE), says=says)


WHOLE = [
    ({"id": 5}, "id: 5"),
    ({"parameters": []}, "parameters: []; a JSON object"),
    ({"parameters": {"binary_data_output": "yes"}}, "parameters.binary_data_output: 'yes'"),
    ({"outputs": {}}, "outputs: {}; a JSON array"),
    ({"outputs": [1]}, "outputs[0]: 1"),
    ({"outputs": [{"name": "colour"}]}, "outputs: 'colour'; one of score"),
    ({"outputs": [{"name": "score"}, {"name": "score"}]}, "outputs: 'score'; each name once"),
    ({"outputs": [{"name": "score", "parameters": {"binary_data": 1}}]}, "binary_data: 1"),
]


@pytest.mark.parametrize(("changes", "says"), WHOLE)
def test_a_bad_part_around_the_inputs_is_refused(server, body, changes, says):
    assert_refused(server.infer({**body(), **changes}), says=says)


def test_an_input_given_twice_is_refused(server, body):
    twice = body()
    twice["inputs"].append(twice["inputs"][0])
    assert_refused(server.infer(twice), says="inputs: 'user_id'; each name once")


HEADERS = [
    ({JSON_LENGTH: "-1"}, 400),
    ({JSON_LENGTH: "many"}, 400),
    ({JSON_LENGTH: "1e3"}, 400),
    ({JSON_LENGTH: ""}, 400),
    ({JSON_LENGTH: "999999"}, 400),
    ({JSON_LENGTH: "9" * 5000}, 400),
    ({JSON_LENGTH: "0"}, 400),
    ({JSON_LENGTH: "10"}, 400),
    ({JSON_LENGTH: "0x10"}, 400),
    ({JSON_LENGTH: b"\xb2"}, 400),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ({"Content-Type": ""}, 415),
    ({"Content-Type": b"\xff"}, 415),
    ({"Content-Encoding": "gzip"}, 415),
]


@pytest.mark.parametrize(("headers", "status"), HEADERS)
def test_a_bad_header_is_refused(server, body, headers, status):
    content = orjson.dumps(body())
    answer = server.http.post(INFER, content=content, headers={**JSON_TYPE, **headers})
    assert_refused(answer, status)


SEVEN = struct.pack("<q", 7)


def binary_request(body, *, size=8, tail=SEVEN, name="user_id", **changes):
    """A request with one binary tensor; what it claims and what follows may differ."""
    described = body(**{name: {**changes, "parameters": {"binary_data_size": size}}})
    for tensor in described["inputs"]:
        if tensor["name"] == name:
            tensor.pop("data", None)
    text = orjson.dumps(described)
    return {"content": text + tail, "headers": {JSON_LENGTH: str(len(text))}}


BINARY = [
    ({"size": -8}, "user_id.parameters.binary_data_size: -8; an integer from 0 to the 8 bytes"),
    ({"size": 2**62}, "binary_data_size"),
    ({"size": 9}, "binary_data_size: 9"),
    ({"size": "8"}, "binary_data_size: '8'"),
    ({"size": 8.0}, "binary_data_size: 8.0"),
    ({"size": True}, "binary_data_size: True"),
    ({"size": None}, "binary_data_size: None"),
    ({"size": 0, "tail": b""}, "user_id: '0 bytes'; 8 bytes for 1 INT64 values"),
    ({"size": 7, "tail": b"1234567"}, "user_id: '7 bytes'"),
    ({"size": 8, "tail": b"1" * 9}, "body: '1 bytes after the last tensor'; none"),
    ({"name": "price", "tail": struct.pack("<d", float("nan"))}, "price[0]: nan; a finite number"),
    ({"name": "price", "tail": struct.pack("<d", float("-inf"))}, "price[0]: -inf"),
    ({"name": "item_id", "size": 3, "tail": b"\x01\x00\x00"}, "item_id[0]: 'cut off'"),
    ({"name": "item_id", "size": 5, "tail": b"\xff\xff\xff\xffa"}, "item_id[0]: 'cut off'"),
    ({"name": "item_id", "size": 5, "tail": b"\x01\x00\x00\x00\xff"}, "item_id[0]"),
    ({"name": "item_id", "size": 5, "tail": b"\x01\x00\x00\x00a"}, "item_id: '1 values'; 3"),
    ({"name": "item_id", "size": 400, "tail": b"\x00" * 400}, "item_id: '4 values'; 3"),
]


@pytest.mark.parametrize(("changes", "says"), BINARY)
def test_bad_binary_data_are_refused(server, body, changes, says):
    assert_refused(server.http.post(INFER, **binary_request(body, **changes)), says=says)


def test_the_same_binary_request_unspoilt_is_answered(server, body):
    assert server.http.post(INFER, **binary_request(body)).status_code == 200


PATHS = [
    ("POST", "/v2/models/nobody/infer", 404),
    ("POST", "/v2/models/stand-in/versions/2020-01-01/infer", 404),
    ("GET", "/v2/models/stand-in/versions/2020-01-01", 404),
    ("GET", "/v2/models/stand-in/versions/2020-01-01/ready", 404),
    ("GET", "/v2/models/nobody", 404),
    ("GET", "/v2/models/nobody/ready", 404),
    ("GET", "/v2/models/stand-in/infer", 405),
    ("POST", "/v1/models/stand-in:predict", 400),
    ("POST", "/v1/models/stand-in:explain", 501),
    ("POST", "/v1/models/nobody:predict", 404),
    ("POST", "/v2/repository/models/nobody/load", 404),
    ("POST", "/v2/repository/models/nobody/unload", 404),
    ("POST", "/v2/repository/models/stand-in/unload", 409),
    ("GET", "/nowhere", 404),
    ("POST", "/v2/models/%ff%00/infer", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), PATHS)
def test_a_bad_path_is_refused(server, method, path, status):
    assert_refused(server.http.request(method, path, json={}), status)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_beyond_the_limit_is_refused(server, is_chunked):
    content = b" " * (16 * 1024 * 1024 + 1)
    pieces = (content[start : start + 2**20] for start in range(0, len(content), 2**20))
    answer = server.http.post(INFER, content=pieces if is_chunked else content, headers=JSON_TYPE)
    assert_refused(answer, 413, says="at most 16777216")


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v2/models/stand-in/infer HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2/models/stand-in/infer HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"GARBAGE\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_the_same_form(server, head):
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["error"]


def test_a_model_that_scores_nothing_finite_is_no_crash(server, body):
    # A warm-up comes before the swap, so such a model cannot even be loaded.
    assert_refused(server.reload("2025-06-02-nan"), 409, says="warm-up scores")
    assert server.infer(body()).json()["model_version"] == "2025-06-01-first"


def test_nothing_failed_inside_the_server(server, log_before):
    """Comes last in this file: an error is one line of the log, and never a traceback."""
    text = server.log.read_text()[log_before:]
    unexpected = [line for line in text.splitlines() if "failed; its log says why" in line]
    assert unexpected == []
