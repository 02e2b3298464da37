"""What comes over a connection before any request is read: heads of any size, offers to upgrade."""

import contextlib
import socket
import time

import grpc
import orjson
import psutil
import pytest

BODY = orjson.dumps({"instances": [{"user_id": 7, "item_id": "a"}]})
PREDICT = b"POST /v1/models/stand-in:predict HTTP/1.1\r\nHost: x\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
LAST = b"Connection: close\r\n"


def connect(server):
    host, _, port = server.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def read_all(connection):
    pieces = []
    with contextlib.suppress(ConnectionResetError):  # the server may close while we still send
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def test_an_offer_of_http_2_is_ignored_and_its_body_read(server):
    """As Java's HTTP client makes it with its first request."""
    offer = (
        b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEA\r\n"
    )
    with connect(server) as connection:
        connection.sendall(PREDICT + offer + LENGTH + b"\r\n" + BODY)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'{"predictions":[' in answer


def test_an_offer_of_a_web_socket_is_an_ordinary_request(server):
    offer = b"Connection: Upgrade, close\r\nUPGRADE: websocket\r\nSec-WebSocket-Version: 13\r\n"
    offer += b"Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n"
    with connect(server) as connection:
        connection.sendall(b"GET /v2/models HTTP/1.1\r\nHost: x\r\n" + offer + b"\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b'{"models":["stand-in"]}')


@pytest.mark.parametrize("start", [b"GET /v2 HTTP/1.1\r\nX-Long: ", b"GET /"])
def test_a_head_without_end_is_cut_off_at_once(server, start):
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    started = time.monotonic()
    with connect(server) as connection:
        connection.sendall(start + b"a" * 60_000)
        time.sleep(0.1)
        connection.sendall(b"a" * 10_000)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large")
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "error": "head: over 65536 bytes; at most that"
    }
    assert time.monotonic() - started < 5
    text = server.http.get("/metrics").text
    assert 'ranking_errors_total{code="431",model="",transport="rest"}' in text
    assert process.memory_info().rss - before < 8 * 2**20


def test_a_long_head_within_the_limit_and_in_small_pieces_is_read(server):
    head = PREDICT + LAST + LENGTH + b"X-Long: " + b"a" * 50_000 + b"\r\n\r\n"
    with connect(server) as connection:
        for place in range(0, len(head), 1009):
            connection.sendall(head[place : place + 1009])
        connection.sendall(BODY)
        assert read_all(connection).startswith(b"HTTP/1.1 200 OK")


def test_many_requests_in_one_piece_are_not_one_long_head(server):
    one = PREDICT + LENGTH + b"X-Long: " + b"a" * 9000 + b"\r\n\r\n" + BODY
    last = PREDICT + LAST + LENGTH + b"\r\n" + BODY
    with connect(server) as connection:
        connection.sendall(one * 20 + last)
        assert read_all(connection).count(b"HTTP/1.1 200 OK") == 21


def test_over_grpc_metadata_of_that_size_exhaust_resources(server):
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", metadata=[("x-long", "a" * 70_000)], timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
