"""A light client that sends requests at a fixed rate, whether or not the answers keep up.

A client that waits for each answer slows down with the server and hides its pauses. Here each
request has a scheduled moment, and its latency counts from then.
"""

import array
import asyncio
import collections
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc
import numpy as np
import numpy.typing as npt
import orjson
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.infer_type import deserialize_bytes_tensor

from infra.local.network import JsonObject

ANSWER_SECONDS = 30.0
"""A request without an answer after this is lost."""
CONNECTIONS = 64
GRPC_EVERY = 4
"""One request in so many goes over gRPC, the others over REST."""
_METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to one of the bodies."""

    body: int
    version: str
    scores: npt.NDArray[np.float32]
    is_degraded: bool
    statuses: bytes
    """What could be read of its features; answers with equal ones have equal scores."""


@dataclasses.dataclass
class Tally:
    """What a load has seen so far."""

    num_sent: int = 0
    num_degraded: int = 0
    lost: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Requests without a right answer, by reason."""
    seconds: "array.array[float]" = dataclasses.field(default_factory=lambda: array.array("d"))

    def quantile_ms(self, share: float) -> float:
        """Milliseconds within which a share of the answers came."""
        return round(1000 * float(np.quantile(np.array(self.seconds), share)), 1)


class Clients:
    """Connections to one endpoint, and the bodies that are sent over them."""

    def __init__(
        self, address: tuple[str, int], channel: grpc.aio.Channel, bodies: Sequence[JsonObject]
    ) -> None:
        """Args: host and port of REST, a channel of gRPC, requests of the protocol."""
        self._address = address
        self._rest = [_http(orjson.dumps(body)) for body in bodies]
        self._grpc = [_message(body) for body in bodies]
        self._infer = channel.unary_unary(
            _METHOD, response_deserializer=messages.ModelInferResponse.FromString
        )
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def ask(self, number: int) -> Answer:
        """Send the body of this number, over either transport.

        Raises:
            OSError, TimeoutError, ValueError, grpc.RpcError: There is no answer, or an error.
        """
        index = number % len(self._rest)
        async with asyncio.timeout(ANSWER_SECONDS):
            if number % GRPC_EVERY == 0:
                return _of_grpc(index, await self._infer(self._grpc[index]))
            async with self._connection() as (reader, writer):
                writer.write(self._rest[index])
                return _of_rest(index, await _body(reader))

    def close(self) -> None:
        """Close the connections."""
        for _, writer in self._free:
            writer.close()

    @asynccontextmanager
    async def _connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        async with self._slots:
            pair = self._free.pop() if self._free else await asyncio.open_connection(*self._address)
            try:
                yield pair
            except BaseException:
                pair[1].close()
                raise
            self._free.append(pair)


async def capacity(clients: Clients, *, seconds: float, num_clients: int = 8) -> float:
    """Answers a second when each of some clients sends as soon as it has its answer."""
    end = time.perf_counter() + seconds
    counts = [0] * num_clients

    async def run(client: int) -> None:
        number = client
        while time.perf_counter() < end:
            await clients.ask(number)
            counts[client] += 1
            number += num_clients + 1

    started = time.perf_counter()
    await asyncio.gather(*(run(client) for client in range(num_clients)))
    return sum(counts) / (time.perf_counter() - started)


async def send(
    clients: Clients, *, rate: float, seconds: float, tally: Tally, check: Callable[[Answer], str]
) -> None:
    """Send at a rate for a time, and wait for the last answers.

    Args:
        clients: The connections.
        rate: Requests a second.
        seconds: For how long.
        tally: Where everything is counted.
        check: Says why an answer is wrong; empty for a right one.
    """
    started = time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()
    for number in range(int(rate * seconds)):
        due = started + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(_one(clients, number, due=due, tally=tally, check=check))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def _one(
    clients: Clients, number: int, *, due: float, tally: Tally, check: Callable[[Answer], str]
) -> None:
    tally.num_sent += 1
    try:
        answer = await clients.ask(number)
    except (OSError, TimeoutError, ValueError, grpc.RpcError) as error:
        tally.lost[f"{type(error).__name__}: {error}"[:200]] += 1
        return
    tally.seconds.append(time.perf_counter() - due)
    tally.num_degraded += answer.is_degraded
    if reason := check(answer):
        tally.lost[reason] += 1


def _http(body: bytes) -> bytes:
    head = (
        "POST /v2/models/ranker/infer HTTP/1.1\r\nhost: ranker\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _body(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"http/1.1 200"):
        raise ValueError(f"{head[9:12].decode()}: {body.decode(errors='replace')}")
    return body


def _of_rest(index: int, body: bytes) -> Answer:
    content = orjson.loads(body)
    outputs = {output["name"]: output["data"] for output in content["outputs"]}
    return Answer(
        body=index,
        version=content["model_version"],
        scores=np.array(outputs["score"]),
        is_degraded=content["parameters"]["degraded"],
        statuses=" ".join([*outputs["user_status"], *outputs["item_status"]]).encode(),
    )


def _of_grpc(index: int, answer: messages.ModelInferResponse) -> Answer:
    names = [output.name for output in answer.outputs]
    raw = dict(zip(names, answer.raw_output_contents, strict=True))
    statuses = [deserialize_bytes_tensor(raw[name]) for name in ("user_status", "item_status")]
    return Answer(
        body=index,
        version=answer.model_version,
        scores=np.frombuffer(raw["score"], "<f4"),
        is_degraded=answer.parameters["degraded"].bool_param,
        statuses=b" ".join([*statuses[0], *statuses[1]]),
    )


def _message(body: JsonObject) -> bytes:
    inputs = []
    for given in body["inputs"]:
        is_text = given["datatype"] == "BYTES"
        data = [value.encode() if is_text else value for value in given["data"]]
        described = {name: given[name] for name in ("name", "shape", "datatype")}
        field = "bytes_contents" if is_text else "int64_contents"
        inputs.append({**described, "contents": {field: data}})
    message = messages.ModelInferRequest(model_name="ranker", id=body["id"], inputs=inputs)
    return bytes(message.SerializeToString())
