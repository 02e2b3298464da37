"""The end of a server: what has begun is answered, nothing new is, and it takes no longer."""

import asyncio
import concurrent.futures
import os
import signal
import socket
import time

import grpc
import psutil
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from support.serving import stand_ins
from support.serving.good_requests import grpc_request
from support.serving.raw_connections import address, sockets
from support.serving.running_server import metric, running, wait_until

from serving.inference.ranker import Ranker
from serving.inference.repository import ChampionRepository
from serving.inference.served_models import ServedModels
from serving.routing.serving_versions import Champion
from serving.transport.data_plane import RankingDataPlane

MESSAGE = grpc_request().SerializeToString()
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""How an HTTP/2 connection begins, with empty settings."""


@pytest.fixture(scope="module")
def aging(tmp_path_factory):
    """A server whose connections are old after a second, for two tests: the second one ends it."""
    environment = {"RANKING_DRAIN_SECONDS": "8", "RANKING_MAX_CONNECTION_SECONDS": "1"}
    with running(tmp_path_factory, environment) as server:
        server.reload("2025-06-01-slow").raise_for_status()
        yield server


def test_old_connections_are_ended_so_that_callers_find_new_servers(aging):
    host, _, port = aging.grpc_address.partition(":")
    with sockets(aging, 1) as (rest,), socket.create_connection((host, int(port))) as old:
        old.sendall(PREFACE)
        old.settimeout(5)
        ask = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        rest.sendall(ask)
        assert b"connection: close" not in received(rest, b'{"live":true}')
        received(old, b"max_age")  # the reason in a GOAWAY frame

        def is_old():
            rest.sendall(ask)
            return b"connection: close" in received(rest, b'{"live":true}')

        wait_until(is_old)


def received(connection, last):
    """What came until there was something of it."""
    content = b""
    while last not in content:
        piece = connection.recv(1000)
        assert piece, content
        content += piece
    return content


def test_what_has_begun_is_answered_and_nothing_new_over_either_transport(aging, body):
    channel = grpc.insecure_channel(aging.grpc_address)
    infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with channel, concurrent.futures.ThreadPoolExecutor(1) as pool, sockets(aging, 1) as (idle,):
        rest = pool.submit(aging.infer, body())
        over_grpc = infer.future(MESSAGE)
        wait_until(lambda: metric(aging, "ranking_requests_in_flight") == 2)
        os.kill(aging.pid, signal.SIGTERM)
        assert idle.recv(10) == b""
        wait_until(lambda: not is_open(address(aging)), seconds=3)
        with grpc.insecure_channel(aging.grpc_address) as new:
            late = new.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            with pytest.raises(grpc.RpcError) as caught:
                late(MESSAGE, timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert rest.result().status_code == 200
        answer = messages.ModelInferResponse.FromString(over_grpc.result())
        assert answer.model_version == "2025-06-01-slow"


def is_open(where):
    try:
        with socket.create_connection(where, timeout=1):
            return True
    except ConnectionRefusedError:
        return False


def test_a_request_that_takes_too_long_does_not_keep_a_server_from_ending(start_server, body):
    with start_server({"RANKING_DRAIN_SECONDS": "0.5"}) as server:
        server.reload("2025-06-01-stuck").raise_for_status()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            stuck = pool.submit(server.infer, body())
            wait_until(lambda: metric(server, "ranking_requests_in_flight") == 1, seconds=60)
            started = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            answer = stuck.result()
            taken = time.monotonic() - started
            # The thread that scores would take a minute.
            wait_until(lambda: not psutil.pid_exists(server.pid), seconds=30)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"].startswith("server: stopping")
    assert taken < 9, "not the half second that it was told, but the ten of its default"


def test_a_server_that_drains_is_not_ready():
    store = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    ranker = Ranker(stand_ins.SCHEMA, online=store)
    repository = ChampionRepository(
        ranker, champion_version=lambda: "v", load_champion=lambda version: None
    )
    dataplane = RankingDataPlane(ServedModels([repository], ranker.admission))
    ranker.swap(Champion("v", stand_ins.score))
    assert asyncio.run(dataplane.ready())
    dataplane.is_draining = True
    assert not asyncio.run(dataplane.ready())
