"""An endpoint with real rankers, clients that load it, and the check that each answer is right.

Artifacts are written by the exporter's own code and read by the real loader; clients check each
answer against the answers that each version gave when it was alone.
"""

import contextlib
import itertools
import threading
from typing import Any

import grpc
import httpx
import numpy as np
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service
from support.serving.running_server import plain_client

from infra.drills import fixtures
from serving.release.endpoint_client import Endpoint
from training.registry.aliases import CHAMPION

TOLERANCE = 1e-5
"""As the artifact's own golden request."""


def _body(user: int) -> dict[str, Any]:
    """A request of the protocol for noon, from a phone."""
    moment = int(fixtures.NOON.timestamp() * 1_000_000)
    values = {
        "user_id": ("INT64", [user]),
        "item_id": ("INT64", list(range(user, user + 8))),
        "device": ("BYTES", ["phone"]),
        "timestamp": ("INT64", [moment]),
    }
    inputs = [
        {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}
        for name, (datatype, data) in values.items()
    ]
    return {"id": f"user-{user}", "inputs": inputs}


BODIES = [_body(user) for user in range(6)]


class Live:
    """A world, the endpoint on it, and what each version answers."""

    def __init__(self, world, http_port, grpc_port):
        self.world = world
        self.url = f"http://127.0.0.1:{http_port}"
        self.grpc_address = f"127.0.0.1:{grpc_port}"
        self.endpoint = Endpoint(self.url, fixtures.SCHEMA.name)
        self.golden = {}

    def swap(self, version):
        self.world.registry.set_alias(CHAMPION, version)
        self.endpoint.load()

    def learn(self):
        with plain_client(base_url=self.url, timeout=30) as http:
            for version in self.world.versions:
                self.swap(version)
                self.golden[version] = [scores(ask(http, body))[1] for body in BODIES]
        for one, other in itertools.combinations(self.golden.values(), 2):
            for first, second in zip(one, other, strict=True):
                assert np.abs(first - second).max() > 100 * TOLERANCE


def ask(http: httpx.Client, body: Any) -> httpx.Response:
    return http.post("/v2/models/synthetic/infer", json=body)


def scores(answer):
    content = answer.json()
    assert answer.status_code == 200, content
    return content["model_version"], np.array(content["outputs"][0]["data"])


def grpc_message(body):
    inputs = []
    for given in body["inputs"]:
        field = "bytes_contents" if given["datatype"] == "BYTES" else "int64_contents"
        data = [v.encode() if isinstance(v, str) else v for v in given["data"]]
        inputs.append(
            {
                **{key: given[key] for key in ("name", "shape", "datatype")},
                "contents": {field: data},
            }
        )
    return messages.ModelInferRequest(model_name="synthetic", id=body["id"], inputs=inputs)


def grpc_scores(answer):
    (given,) = [output for output in answer.outputs if output.name == "score"]
    index = [output.name for output in answer.outputs].index("score")
    raw = answer.raw_output_contents
    found = np.frombuffer(raw[index], "<f4") if raw else np.array(given.contents.fp32_contents)
    return answer.model_version, found


def over_rest(live):
    """Answers for ever: which body, which version, which scores."""
    with plain_client(base_url=live.url, timeout=30) as http:
        for number in itertools.cycle(range(len(BODIES))):
            yield number, *scores(ask(http, BODIES[number]))


def over_grpc(live):
    """The same, by the other transport."""
    with grpc.insecure_channel(live.grpc_address) as channel:
        infer = service.GRPCInferenceServiceStub(channel).ModelInfer
        for number in itertools.cycle(range(len(BODIES))):
            yield number, *grpc_scores(infer(grpc_message(BODIES[number]), timeout=30))


@contextlib.contextmanager
def load_of(live):
    """Two clients of REST and two of gRPC, until the end; yields what they saw."""
    is_over, seen, failures = threading.Event(), [], []

    def run(answers):
        try:
            for answer in itertools.takewhile(lambda _: not is_over.is_set(), answers):
                seen.append(answer)
        except (AssertionError, httpx.HTTPError, grpc.RpcError) as error:
            failures.append(error)

    clients = (over_rest, over_rest, over_grpc, over_grpc)
    threads = [threading.Thread(target=run, args=(client(live),)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert failures == []


def check(live, seen):
    """Each answer equals what exactly one version says, and that is the version which it names."""
    for number, version, found in seen:
        equal = [
            name
            for name, golden in live.golden.items()
            if np.abs(golden[number] - found).max() <= TOLERANCE
        ]
        assert equal == [version]
