"""10,000 malformed requests: each gets an error of the one form, and the server is as it was."""

import asyncio
import collections
import dataclasses
import os
import random
import socket
import time

import grpc
import orjson
import psutil
import pytest
from support.serving import mutations
from support.serving.good_requests import flags

from serving.transport.operations import OPERATIONS

NUM_REST, NUM_STREAMS, NUM_GRPC = 6500, 500, 3000
SECONDS = float(os.environ.get("RANKING_FUZZ_SECONDS", "0"))
NUM_CONNECTIONS, DEPTH = 4, 16
MAX_GROWTH_BYTES = 8 * 2**20
"""Caches of the allocator and of the interpreter fill in the warm-up; this is for what is left."""


@dataclasses.dataclass
class Seen:
    """What came back, by operation and status; gRPC's by method and code."""

    rest: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    grpc: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    growth: tuple[int, int, int] = (0, 0, 0)
    """Bytes, open files and threads of the server's process, after less before."""
    log: bytes = b""
    """What the server logged meanwhile."""


def send(server, seed, *, scale=1.0):
    """Send malformed requests over every transport; what came back."""
    seen = Seen()
    chance = random.Random(seed)
    asyncio.run(send_rest(server, chance, int(NUM_REST * scale), seen))
    send_streams(server, chance, int(NUM_STREAMS * scale))
    send_grpc(server, chance, int(NUM_GRPC * scale), seen)
    return seen


async def send_rest(server, chance, number, seen):
    """Pipelined over a few connections that are kept alive."""
    requests = [mutations.spoilt_request(chance) for _ in range(number)]
    shares = [requests[place::NUM_CONNECTIONS] for place in range(NUM_CONNECTIONS)]
    await asyncio.gather(*(send_share(server, share, seen) for share in shares))


async def send_share(server, requests, seen):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    for start in range(0, len(requests), DEPTH):
        batch = requests[start : start + DEPTH]
        writer.write(b"".join(request.encoded() for request in batch))
        await writer.drain()
        for request in batch:
            status, body = await asyncio.wait_for(read_answer(reader), 20)
            check(request, status, body)
            seen.rest[operation_of(request), status] += 1
    writer.close()
    await writer.wait_closed()


async def read_answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    (length,) = (
        line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    return status, await reader.readexactly(int(length.partition(b":")[2]))


def check(request, status, body):
    assert status < 500 or status in {501, 503}, (request, status, body)
    if status >= 400:
        content = orjson.loads(body)
        assert list(content) == ["error"], (request, body)
        assert ": " in content["error"], (request, body)
        assert "; " in content["error"], (request, body)


def operation_of(request):
    path = request.path.partition("?")[0]
    return request.method, next((o.path for o in OPERATIONS if o.matches(path)), "")


def send_streams(server, chance, number):
    """Each on a connection of its own: what comes back, if anything, is an answer of HTTP."""
    port = int(server.url.rpartition(":")[2])
    for _ in range(number):
        content = mutations.spoilt_stream(chance)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: receive(connection), b""))
        assert not answer or answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), (content, answer)


def receive(connection):
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def send_grpc(server, chance, number, seen):
    with grpc.insecure_channel(server.grpc_address) as channel:
        for _ in range(number // DEPTH):
            calls = []
            for _ in range(DEPTH):
                method, content = mutations.spoilt_message(chance)
                call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
                calls.append((method, content, call.future(content, timeout=20)))
            for method, content, answer in calls:
                code = answer.code()
                assert code in ALLOWED, (method, content, code, answer.details())
                seen.grpc[method, code.name] += 1


ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}


def measured(process):
    """Bytes of memory, open files, threads."""
    return process.memory_info().rss, process.num_fds(), process.num_threads()


@pytest.fixture(scope="module")
def seen(server):
    """All of them, once; before and after the server is measured."""
    process = psutil.Process(server.pid)
    send(server, 1, scale=0.2)
    time.sleep(0.5)
    before = measured(process)
    log_start = server.log.stat().st_size
    whole = send(server, 20250619)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        send(server, time.monotonic_ns())
    time.sleep(0.5)
    after = measured(process)
    whole.growth = tuple(new - old for new, old in zip(after, before, strict=True))
    whole.log = server.log.read_bytes()[log_start:]
    return whole


def test_all_were_answered_and_most_of_them_refused(seen):
    num_errors = sum(count for (_, status), count in seen.rest.items() if status >= 400)
    assert seen.rest.total() == NUM_REST
    assert num_errors > NUM_REST / 2
    assert seen.grpc.total() >= NUM_GRPC - DEPTH


def test_memory_files_and_threads_are_as_before(seen):
    num_bytes, num_files, num_threads = seen.growth
    assert num_bytes < MAX_GROWTH_BYTES
    assert num_files <= 2
    assert num_threads <= 2


def test_no_status_came_that_openapi_does_not_name(server, seen):
    paths = server.http.get("/openapi.json").json()["paths"]
    for (method, path), status in seen.rest:
        operation = paths.get(path.replace("{model_name}", "stand-in"), {}).get(method.lower())
        if operation is None:
            assert status in {404, 405}, (method, path, status)
        else:
            assert str(status) in operation["responses"], (method, path, status)


def test_the_server_answers_as_before_and_logged_no_failure(server, body, seen):
    answer = server.infer(body())
    assert flags(answer.json()["parameters"]) == {"degraded": False}
    assert b"Traceback" not in seen.log
    assert b"its log says why" not in seen.log


def test_nothing_that_was_sent_reaches_the_log_as_it_is(seen):
    assert len(seen.log.splitlines()) > NUM_REST / 2
    strange = [line for line in seen.log.splitlines() if not line.decode().isprintable()]
    assert strange == []
    assert max(map(len, seen.log.splitlines())) < 1000
