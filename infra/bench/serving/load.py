"""Cheap clients of the endpoint: they send prebuilt bytes and only count answers."""

import asyncio
import contextlib
import dataclasses
import selectors
import socket
import time
from collections.abc import Sequence

import grpc
import numpy as np
import numpy.typing as npt
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from infra.bench.serving.data import DATASET, Request, binary_body, json_body, raw_tensors
from infra.local.settings import HOST

WARM_SECONDS = 0.4
FEWEST = 10
"""Answers that a figure is made of, however long they take."""
METHOD = "/inference.GRPCInferenceService/ModelInfer"
_READY_METHOD = "/inference.GRPCInferenceService/ServerReady"
_READ_BYTES = 1 << 18


@dataclasses.dataclass(frozen=True)
class Measured:
    """Latency and throughput that some clients measured."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    per_second: float
    client_share: float
    """Of one core, for the clients themselves."""

    @staticmethod
    def of(seconds: Sequence[float], *, elapsed: float, cpu: float) -> "Measured":
        """Args: latencies, the time of the whole, and the client's processor time."""
        p50, p90, p99 = np.percentile(np.array(seconds) * 1e3, [50, 90, 99]).tolist()
        return Measured(p50, p90, p99, len(seconds) / elapsed, cpu / elapsed)


def rest_messages(requests: Sequence[Request], *, is_binary: bool) -> list[bytes]:
    """Whole HTTP requests, head and body."""
    found = []
    for request in requests:
        body, json_length = binary_body(request) if is_binary else (json_body(request), 0)
        kind = "application/octet-stream" if is_binary else "application/json"
        more = f"Inference-Header-Content-Length: {json_length}\r\n" if is_binary else ""
        head = (
            f"POST /v2/models/{DATASET}/infer HTTP/1.1\r\nHost: {HOST}\r\n"
            f"Content-Length: {len(body)}\r\nContent-Type: {kind}\r\n{more}\r\n"
        )
        found.append(head.encode() + body)
    return found


def grpc_messages(requests: Sequence[Request]) -> list[bytes]:
    """Serialised ModelInferRequest messages with raw contents."""
    found = []
    for request in requests:
        message = messages.ModelInferRequest(model_name=DATASET)
        for name, (datatype, size, content) in raw_tensors(request).items():
            message.inputs.add(name=name, datatype=datatype, shape=[size])
            message.raw_input_contents.append(content)
        found.append(message.SerializeToString())
    return found


class _Connection:
    """One client: it sends, waits for the whole answer, and sends again."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.started = 0.0
        self._head = b""
        self._left = -1

    def send(self, message: bytes) -> None:
        self.started = time.perf_counter()
        self._head, self._left = b"", -1
        self.socket.sendall(message)

    def is_done(self) -> bool:
        """Read; whether the answer is complete. RuntimeError when its status is not 200."""
        content = self.socket.recv(_READ_BYTES)
        if not content:
            raise RuntimeError("the server closed a connection")
        if self._left < 0:
            self._head += content
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return False
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"not 200: {self._head[:300]!r}")
            length = head.lower().split(b"\r\ncontent-length:")[1].split(b"\r\n")[0]
            self._left = int(length) - len(body)
        else:
            self._left -= len(content)
        return self._left == 0


def load_rest(port: int, contents: list[bytes], *, clients: int, seconds: float) -> Measured:
    """A number of clients over HTTP/1.1, each with a connection of its own."""
    selector = selectors.DefaultSelector()
    connections = [_Connection(port) for _ in range(clients)]
    count = 0
    latencies: list[float] = []
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(contents[count % len(contents)])
        count += 1
    begin = time.perf_counter() + WARM_SECONDS
    cpu = time.process_time()
    is_warm = False
    while (now := time.perf_counter()) < begin + seconds or len(latencies) < FEWEST:
        if not is_warm and now >= begin:
            is_warm, cpu, latencies = True, time.process_time(), []
        for key, _ in selector.select(timeout=1):
            connection = key.data
            if connection.is_done():
                latencies.append(time.perf_counter() - connection.started)
                connection.send(contents[count % len(contents)])
                count += 1
    spent = time.process_time() - cpu
    for connection in connections:
        connection.socket.close()
    return Measured.of(latencies, elapsed=time.perf_counter() - begin, cpu=spent)


def load_grpc(
    port: int, contents: list[bytes], *, clients: int, seconds: float, is_shared: bool = True
) -> Measured:
    """A number of clients over gRPC.

    Args:
        port: Of the server.
        contents: Requests.
        clients: Their number.
        seconds: How long they are measured.
        is_shared: Whether they share one channel, as callers of one process do; else each has a
            connection of its own.
    """
    channels = 1 if is_shared else clients
    return asyncio.run(
        _load_grpc(port, contents, clients=clients, seconds=seconds, channels=channels)
    )


async def _load_grpc(
    port: int, contents: list[bytes], *, clients: int, seconds: float, channels: int
) -> Measured:
    latencies: list[float] = []
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with contextlib.AsyncExitStack() as stack:
        calls = []
        for _ in range(channels):
            channel = grpc.aio.insecure_channel(f"{HOST}:{port}", options=options)
            calls.append((await stack.enter_async_context(channel)).unary_unary(METHOD))
            await calls[-1](contents[0])
        begin = time.perf_counter() + WARM_SECONDS
        end = begin + seconds

        async def call(first: int) -> None:
            number, infer = first, calls[first % channels]
            while (started := time.perf_counter()) < end or len(latencies) < FEWEST:
                await infer(contents[number % len(contents)])
                number += clients
                if started >= begin:
                    latencies.append(time.perf_counter() - started)

        async def clock() -> float:
            await asyncio.sleep(WARM_SECONDS)
            return time.process_time()

        cpu = asyncio.create_task(clock())
        await asyncio.gather(cpu, *(call(first) for first in range(clients)))
        spent = time.process_time() - await cpu
    return Measured.of(latencies, elapsed=time.perf_counter() - begin, cpu=spent)


def sequence_grpc(port: int, contents: list[bytes], pauses: Sequence[float]) -> list[float]:
    """Seconds of requests to a server that has said it is ready, each after a pause in seconds."""
    taken = []
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        ready = channel.unary_unary(_READY_METHOD)(b"", wait_for_ready=True)
        assert messages.ServerReadyResponse.FromString(ready).ready
        infer = channel.unary_unary(METHOD)
        for number, pause in enumerate(pauses):
            time.sleep(pause)
            started = time.perf_counter()
            infer(contents[number % len(contents)])
            taken.append(time.perf_counter() - started)
    return taken


def answer_grpc(port: int, content: bytes) -> npt.NDArray[np.float32]:
    """The scores of one request."""
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        answer = messages.ModelInferResponse.FromString(channel.unary_unary(METHOD)(content))
    return np.frombuffer(answer.raw_output_contents[0], dtype=np.float32)
