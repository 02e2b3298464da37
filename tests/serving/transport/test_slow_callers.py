"""Who is not being answered holds no place: trickling sockets, callers that left, deadlines."""

import concurrent.futures
import threading
import time

import grpc
import orjson
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from support.serving.good_requests import grpc_request
from support.serving.raw_connections import head, sockets
from support.serving.running_server import metric, running, wait_until

from serving.settings import Limits

MESSAGE = grpc_request().SerializeToString()
PLACES = Limits().max_concurrent


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A server whose requests have two seconds, and whose champion takes more than half of one."""
    environment = {
        "RANKING_MAX_SECONDS": "2",
        "RANKING_MAX_CONNECTIONS": "12",
        "RANKING_SCORING_WORKERS": "1",
        "RANKING_BATCH_ROWS": "1",
    }
    with running(tmp_path_factory, environment) as server:
        server.reload("2025-06-01-slow").raise_for_status()
        yield server


@pytest.fixture
def infer(short):
    with grpc.insecure_channel(short.grpc_address) as channel:
        yield channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")


def test_sockets_that_trickle_lock_nobody_out(server, body):
    content = orjson.dumps(body())
    with sockets(server, PLACES) as trickling:
        for one in trickling:
            one.sendall(head(content) + content[:20])
        wait_until(lambda: metric(server, "ranking_connections") >= PLACES)
        for one in trickling:
            one.sendall(content[20:21])
        assert server.infer(body()).status_code == 200
        assert metric(server, "ranking_requests_in_flight") == 0
        for one in trickling:
            one.sendall(content[21:])
        assert all(one.recv(12) == b"HTTP/1.1 200" for one in trickling)


SLOW = {
    b"": b"",
    b"POST /v2/models/stand-in/infer HTTP/1.1\r\nx-a: ": b"HTTP/1.1 408",
    head(b"x" * 100) + b"{": b"HTTP/1.1 408",
    head(b"x" * 100, "/nowhere") + b"{": b"HTTP/1.1 404",
}
"""What a caller sends at once, before a byte now and then; and the first that it gets."""


def test_connections_that_send_too_slowly_end(short):
    with concurrent.futures.ThreadPoolExecutor(len(SLOW)) as pool:
        got = list(pool.map(lambda sent: until_closed(short, sent), SLOW))
    assert got == list(SLOW.values())


def until_closed(server, sent):
    """The first bytes that a caller gets who goes on sending slowly until the connection ends."""
    with sockets(server, 1) as (one,):
        one.settimeout(0.2)
        got, started = b"", time.monotonic()
        one.sendall(sent)
        while True:
            assert time.monotonic() - started < 15, "never ends"
            try:
                piece = one.recv(1000)
            except TimeoutError:
                if sent and not got:
                    one.sendall(b"x")
                continue
            except ConnectionError:
                break
            if not piece:
                break
            got += piece
    return got[:12]


def test_connections_beyond_the_limit_are_refused_and_the_others_go_on(short):
    wait_until(lambda: metric(short, "ranking_connections") == 1)
    with sockets(short, 11) as held:
        wait_until(lambda: metric(short, "ranking_connections") == 12)
        with sockets(short, 1) as (one_more,):
            got = one_more.recv(1000)
        assert got.startswith(b"HTTP/1.1 503")
        assert b"connections: 13; at most 12" in got
        assert short.http.get("/v2/health/live").status_code == 200
        assert held
    wait_until(lambda: metric(short, "ranking_connections") == 1)


def scored(server):
    return metric(server, "ranking_batch_requests_sum")


def test_callers_that_left_give_their_places_back_and_are_not_scored(short, body):
    content = orjson.dumps(body())
    before = scored(short), metric(short, "ranking_abandoned_requests_total")
    with sockets(short, 8) as callers:
        for one in callers:
            one.sendall(head(content) + content)
        wait_until(lambda: metric(short, "ranking_requests_in_flight") == 8)
    # One of them is at work in a thread, which cannot be stopped; and one might have been before.
    wait_until(lambda: metric(short, "ranking_requests_in_flight") <= 2)
    wait_until(lambda: metric(short, "ranking_requests_in_flight") == 0)
    assert scored(short) - before[0] <= 2
    assert metric(short, "ranking_abandoned_requests_total") - before[1] == 8


def test_grpc_calls_that_are_cancelled_give_their_places_back(short, infer):
    before = scored(short)
    calls = [infer.future(MESSAGE) for _ in range(8)]
    wait_until(lambda: metric(short, "ranking_requests_in_flight") == 8)
    for call in calls:
        call.cancel()
    wait_until(lambda: metric(short, "ranking_requests_in_flight") == 0)
    assert scored(short) - before <= 2


def test_grpc_calls_whose_deadline_has_passed_give_their_places_back(short, infer):
    before = scored(short)
    calls = [infer.future(MESSAGE, timeout=0.3) for _ in range(8)]
    codes = [call.exception().code() for call in calls]
    assert set(codes) == {grpc.StatusCode.DEADLINE_EXCEEDED}
    wait_until(lambda: metric(short, "ranking_requests_in_flight") == 0, seconds=1.5)
    assert scored(short) - before <= 2


def test_a_grpc_message_that_does_not_come_takes_no_place_and_ends(short):
    with grpc.insecure_channel(short.grpc_address) as channel:
        never = threading.Event()

        def nothing():
            never.wait(10)
            yield b""

        infer = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        call = infer.future(nothing())
        time.sleep(0.3)
        assert metric(short, "ranking_requests_in_flight") == 0
        assert call.exception(timeout=5).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        never.set()


def test_large_messages_of_calls_that_need_none_are_refused(short):
    with grpc.insecure_channel(short.grpc_address) as channel:
        ready = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")
        message = messages.ModelReadyRequest(name="x" * 70_000).SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            ready(message, timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().endswith("at most 65536")
