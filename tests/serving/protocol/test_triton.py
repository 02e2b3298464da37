"""tritonclient's four clients: everything of the protocol that KServe has."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from support.serving import stand_ins
from tritonclient.utils import InferenceServerException

FIRST = "2025-06-01-first"
READY = {"name": "stand-in", "version": FIRST, "state": "READY", "reason": ""}
VALUES = {
    "user_id": ("INT64", np.array([7], dtype=np.int64)),
    "item_id": ("BYTES", np.array(["a", "b", "c"], dtype=np.object_)),
    "position": ("INT64", np.array([1, 2, 3], dtype=np.int64)),
    "price": ("FP64", np.array([9.5], dtype=np.float64)),
    "device": ("BYTES", np.array([b"phone"], dtype=np.object_)),
    "timestamp": ("INT64", np.array([stand_ins.NOON.timestamp() * 1e6], dtype=np.int64)),
}


def tensors(module):
    for name, (datatype, values) in VALUES.items():
        tensor = module.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values)
        yield tensor


@pytest.fixture
def address(server):
    return server.url.removeprefix("http://")


@pytest.fixture
def client(address):
    with tritonclient.http.InferenceServerClient(address) as client:
        yield client


@pytest.fixture
def scores(server, body):
    return server.infer(body()).json()["outputs"][0]["data"]


class TestHttp:
    def test_server_metadata_name_what_there_is_beyond_the_core(self, client):
        metadata = client.get_server_metadata()
        assert metadata["name"] == "kserve"
        assert set(metadata["extensions"]) >= {"binary_tensor_data", "model_repository"}

    def test_index_has_all_models_or_those_that_are_ready(self, server, client):
        assert client.get_model_repository_index() == [READY]
        ready = server.http.post("/v2/repository/index", json={"ready": True})
        assert ready.json() == [READY]
        bad = server.http.post("/v2/repository/index", json={"ready": "yes"})
        assert (bad.status_code, bad.json()["error"]) == (400, "body.ready: 'yes'; true or false")

    def test_load_answers_when_the_model_is_loaded(self, server, client):
        server.registry.set_alias("champion", "2025-06-02-second")
        client.load_model("stand-in")
        assert client.is_model_ready("stand-in", "2025-06-02-second")
        assert not client.is_model_ready("stand-in", FIRST)

    def test_a_load_of_something_else_is_refused(self, client):
        with pytest.raises(InferenceServerException, match="the registry says what is loaded"):
            client.load_model("stand-in", config="{}")
        with pytest.raises(InferenceServerException, match="the only model is stand-in"):
            client.load_model("nobody")

    def test_unload_is_refused_with_its_status(self, client):
        with pytest.raises(
            InferenceServerException, match="a model stays loaded for as long as its server runs"
        ) as caught:
            client.unload_model("stand-in")
        assert caught.value.status() == "409"

    def test_what_the_endpoint_has_not_is_refused_and_not_ignored(self, client):
        outputs = [tritonclient.http.InferRequestedOutput("score", class_count=2)]
        with pytest.raises(InferenceServerException, match="'classification'; not supported"):
            client.infer("stand-in", list(tensors(tritonclient.http)), outputs=outputs)
        shared = tritonclient.http.InferInput("user_id", [1], "INT64")
        shared.set_shared_memory("region", 8)
        with pytest.raises(InferenceServerException, match="'shared_memory_region'; not supported"):
            client.infer("stand-in", [shared])

    def test_unknown_parameters_of_a_request_are_no_error(self, client, scores):
        result = client.infer(
            "stand-in",
            list(tensors(tritonclient.http)),
            request_id="mine",
            sequence_id=3,
            priority=1,
            timeout=5_000_000,
            parameters={"anything": "else"},
        )
        assert result.as_numpy("score").tolist() == scores
        assert result.get_response()["id"] == "mine"

    def test_the_async_client(self, address, scores):
        async def calls():
            async with tritonclient.http.aio.InferenceServerClient(address) as client:
                assert await client.is_server_ready()
                assert await client.is_model_ready("stand-in", FIRST)
                assert await client.get_model_repository_index() == [READY]
                assert (await client.get_model_metadata("stand-in"))["versions"] == [FIRST]
                inputs = list(tensors(tritonclient.http.aio))
                return await asyncio.gather(*(client.infer("stand-in", inputs) for _ in range(8)))

        for result in asyncio.run(calls()):
            assert result.as_numpy("score").tolist() == scores
            assert result.as_numpy("item_status").tolist() == [b"ok"] * 3


@pytest.fixture(scope="module")
def grpc_answers(server):
    """tritonclient over gRPC in a process of its own: one process cannot import it and kserve."""
    moment = str(int(stand_ins.NOON.timestamp() * 1_000_000))
    script = Path(__file__).parents[2] / "support" / "serving" / "triton_grpc_calls.py"
    command = [sys.executable, str(script), server.grpc_address, moment]
    return json.loads(subprocess.check_output(command, timeout=60))


class TestGrpc:
    def test_scores_flags_and_versions(self, grpc_answers, scores):
        assert grpc_answers["one"] == {
            "is_ready": [True, True],
            "versions": [FIRST],
            "metadata_outputs": ["score", "item_status", "user_status"],
            "score": scores,
            "user_status": ["ok"],
            "model_version": FIRST,
            "is_degraded": False,
            "narrow_outputs": ["score"],
        }

    def test_a_version_is_ready_when_it_is_loaded(self, grpc_answers):
        assert grpc_answers["is_version_ready"] == {FIRST: True, "2020-01-01": False}

    def test_server_metadata_are_those_of_rest(self, server, grpc_answers):
        assert grpc_answers["server"] == server.http.get("/v2").json()

    def test_load_and_the_statuses_of_what_is_refused(self, grpc_answers):
        assert grpc_answers["refused"] == {
            "load": "",
            "load with a configuration": "StatusCode.INVALID_ARGUMENT",
            "load of another model": "StatusCode.NOT_FOUND",
            "unload": "StatusCode.FAILED_PRECONDITION",
            "metadata of another version": "StatusCode.NOT_FOUND",
            "readiness of another model": "StatusCode.NOT_FOUND",
            "classes": "StatusCode.INVALID_ARGUMENT",
            "repository index": "StatusCode.UNIMPLEMENTED",
        }

    def test_the_async_client(self, grpc_answers, scores):
        assert grpc_answers["async"] == [scores] * 8
