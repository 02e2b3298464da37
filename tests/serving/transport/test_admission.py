"""Who is not being answered holds no place: trickling sockets, callers that left, deadlines."""

import asyncio
import concurrent.futures
import contextlib
import socket
import threading
import time

import grpc
import numpy as np
import orjson
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.infer_type import InferOutput
from starlette.requests import Request
from support.serving import stand_ins

from serving.admission import INLINE_BYTES, Admission
from serving.inference.ranker import Ranker
from serving.inference.responses import RankingResponse
from serving.inference.scoring import Champion
from serving.micro_batcher import MicroBatcher
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import from_rest
from serving.settings import Limits, Scoring, Settings
from serving.transport import routes as rest
from serving.transport.routes import Routes

FIRST = "2025-06-01-first"
PLACES = Limits().max_concurrent


def metric(server, name):
    lines = server.http.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def wait_until(is_true, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


def address(server):
    host, _, port = server.url.removeprefix("http://").partition(":")
    return host, int(port)


@contextlib.contextmanager
def sockets(server, number):
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(address(server))) for _ in range(number)
        ]


def head(content, path="/v2/models/ranker/infer"):
    lines = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{lines}Content-Length: {len(content)}\r\n\r\n".encode()


def grpc_request(num_items=3):
    contents = {"bytes_contents": [b"a"] * num_items}
    inputs = [
        {"name": "user_id", "datatype": "INT64", "shape": [1], "contents": {"int64_contents": [7]}},
        {"name": "item_id", "datatype": "BYTES", "shape": [num_items], "contents": contents},
    ]
    return messages.ModelInferRequest(model_name="ranker", inputs=inputs).SerializeToString()


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A server whose requests have two seconds, and whose champion takes more than half of one."""
    from conftest import running

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
    b"POST /v2/models/ranker/infer HTTP/1.1\r\nx-a: ": b"HTTP/1.1 408",
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
    calls = [infer.future(grpc_request()) for _ in range(8)]
    wait_until(lambda: metric(short, "ranking_requests_in_flight") == 8)
    for call in calls:
        call.cancel()
    wait_until(lambda: metric(short, "ranking_requests_in_flight") == 0)
    assert scored(short) - before <= 2


def test_grpc_calls_whose_deadline_has_passed_give_their_places_back(short, infer):
    before = scored(short)
    calls = [infer.future(grpc_request(), timeout=0.3) for _ in range(8)]
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


def test_a_request_has_one_time_from_its_arrival_its_body_included():
    """What a slow body has used up is not there for the answer."""

    async def run():
        admission = Admission(Limits(max_seconds=0.4))

        async def read():
            await asyncio.sleep(0.25)

        async def work(content, deadline):
            left.append(deadline - time.monotonic())
            await asyncio.sleep(0.3)

        with pytest.raises(RequestError, match="answer"):
            await admission.run(read=read, work=work)

    left = []
    asyncio.run(run())
    assert left[0] <= 0.16


def slow_ranker(may_go, scored, **limits):
    def score(inputs):
        scored.append(len(inputs))
        assert may_go.wait(10)
        return stand_ins.score(inputs)

    store = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    settings = Settings(scoring=Scoring(workers=1, batch_rows=1), limits=Limits(**limits))
    ranker = Ranker(stand_ins.SCHEMA, online=store, settings=settings)
    ranker.swap(Champion("v", score))
    return ranker


def test_work_that_a_thread_is_at_keeps_its_place_until_it_has_ended(body):
    may_go, scored = threading.Event(), []
    ranker = slow_ranker(may_go, scored, max_seconds=0.3, max_concurrent=4)
    admission = Admission(ranker._limits)
    call = from_rest(orjson.dumps(body()), json_length=None)

    async def one():
        async def read():
            return call

        async def work(call, deadline):
            return await ranker(call)

        return await admission.run(read=read, work=work)

    async def run():
        late = await asyncio.gather(*(one() for _ in range(4)), return_exceptions=True)
        await asyncio.sleep(0.05)
        inside = admission._num_inside, len(scored)
        may_go.set()
        while admission._num_inside:
            await asyncio.sleep(0.01)
        return late, inside

    late, (num_inside, num_begun) = asyncio.run(asyncio.wait_for(run(), 10))
    assert {type(one) for one in late} == {RequestError}
    assert 1 <= num_begun <= 2, "the rest was not begun"
    assert num_inside == num_begun
    assert len(scored) == num_begun


def test_a_message_that_a_thread_is_at_keeps_its_place_and_one_that_waits_does_not():
    """In a pool of one thread, so that the second one never begins."""
    may_go, begun = threading.Event(), []

    def decode():
        begun.append(1)
        assert may_go.wait(10)

    async def run():
        admission = Admission(Limits(max_seconds=0.2))
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))

        async def read():
            """It is there."""

        async def work(content, deadline):
            await rest.inline_or_thread(INLINE_BYTES + 1, decode)

        both = (admission.run(read=read, work=work) for _ in range(2))
        late = await asyncio.gather(*both, return_exceptions=True)
        await asyncio.sleep(0.05)
        inside = admission._num_inside
        may_go.set()
        while admission._num_inside:
            await asyncio.sleep(0.01)
        return late, inside

    late, num_inside = asyncio.run(asyncio.wait_for(run(), 10))
    assert {type(one) for one in late} == {RequestError}
    assert (num_inside, begun) == (1, [1])


class Job:
    num_rows, deadline = 1, 1e12

    def __init__(self, group):
        self.group = group


def test_a_request_never_waits_while_a_thread_more_may_start():
    """The one idle thread is woken for the first; until it runs it must not count for two."""
    busy, both = threading.Event(), threading.Barrier(2, timeout=5)

    def work(jobs):
        if jobs[0].group == "warm":
            return ["warm"]
        both.wait()  # passes only when two are worked on at one time
        return [busy.set() or "done" for _ in jobs]

    batches = MicroBatcher(work, name="test", max_rows=1, num_threads=2)

    async def run():
        await batches.submit(Job("warm"))
        while not batches._num_idle:
            await asyncio.sleep(0.001)
        with batches._changed:  # the idle thread cannot run before both are there
            waiting = [batches.submit(Job("a")), batches.submit(Job("b"))]
        return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == ["done", "done"]


def test_a_thread_that_cannot_be_started_is_told_and_not_counted(monkeypatch):
    batches = MicroBatcher(
        lambda jobs: ["done"] * len(jobs), name="test", max_rows=1, num_threads=1
    )

    def no_more(thread):
        raise RuntimeError("can't start new thread")

    async def run():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more)
            with pytest.raises(RuntimeError):
                batches.submit(Job("a"))
        return await asyncio.wait_for(batches.submit(Job("b")), 5)

    assert asyncio.run(run()) == "done"


def thread_of(work):
    """The thread on which something is done while an event loop waits for it."""
    found = []
    asyncio.run(work(lambda *arguments: found.append(threading.current_thread())))
    (thread,) = found
    return thread


def test_metrics_and_large_answers_are_written_beside_the_event_loop(monkeypatch):
    """They take milliseconds, in which the loop would answer nobody."""
    routes = Routes(
        dataplane=None, ranker=None, repository=None, admission=None, settings=Settings()
    )

    async def scrape(encoder):
        monkeypatch.setattr(rest.exposition, "choose_encoder", lambda accept: (encoder, "text"))
        await routes.metrics(Request({"type": "http", "headers": []}))

    async def answer(respond):
        data = np.zeros(10_000, dtype=np.float32)
        output = InferOutput(name="score", shape=[10_000], datatype="FP32", data=data)
        large = RankingResponse(response_id="x", model_name="ranker", infer_outputs=[output])
        await rest.inline_or_thread(large.num_bytes, respond, large)

    assert thread_of(scrape) is not threading.main_thread()
    assert thread_of(answer) is not threading.main_thread()
