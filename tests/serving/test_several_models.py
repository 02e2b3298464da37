"""One server process with two models: each has its versions, its limits and its log."""

import concurrent.futures
import itertools
import threading

import grpc
import pyarrow.parquet as pq
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service
from support.serving import second_model, stand_ins
from support.serving.good_requests import grpc_request
from support.serving.running_server import FIRST, running, wait_until
from support.serving.second_model import (
    expected,
    grpc_scores,
    infer,
    load,
    metrics,
    scores,
    value,
)

from serving.release.endpoint_client import Endpoint, NoEndpointError, UnreachableError
from serving.routing.traffic_split import Share, clear_share, write_share
from training.registry.aliases import CANARY

STAND_IN, SECOND = stand_ins.SCHEMA.name, second_model.NAME
NEW = "2025-06-09-second"
BROKEN = "2025-06-02-broken"
KNOWN = f"the models are {STAND_IN} and {SECOND}"


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


@pytest.fixture(scope="module")
def second_registry(tmp_path_factory):
    """Of the second model, which cannot be loaded when the server starts."""
    registry = stand_ins.FileRegistry(tmp_path_factory.mktemp("second-registry"))
    registry.set_alias("champion", BROKEN)
    return registry


@pytest.fixture(scope="module")
def both(tmp_path_factory, second_registry, log_folder):
    """The server, its second registry, and what it answered while that had no good version."""
    environment = {
        "RANKING_LOG_SHARE": "1",
        "RANKING_LOG_FOLDER": str(log_folder),
        "RANKING_LOG_SECONDS": "0.2",
        "RANKING_MAX_CONCURRENT": "8",
        "RANKING_BATCH_ROWS": "1",
    }
    flags = [f"--second={second_registry.folder}"]
    with running(tmp_path_factory, environment, flags=flags) as server:
        server.reload(FIRST).raise_for_status()
        paths = ("health/ready", f"models/{STAND_IN}/ready", f"models/{SECOND}/ready")
        server.before_load.update({path: server.http.get(f"/v2/{path}") for path in paths})
        server.before_load["infer"] = infer(server)
        server.before_load["index"] = server.http.get("/v2/repository/index")
        load(server, second_registry, FIRST).raise_for_status()
        yield server


def test_a_model_that_cannot_be_loaded_is_not_ready_and_the_other_one_answers(both, body):
    before = both.before_load
    assert before["health/ready"].json() == {
        "ready": True,
        "models": {STAND_IN: True, SECOND: False},
    }
    assert before[f"models/{STAND_IN}/ready"].status_code == 200
    for path in (f"models/{SECOND}/ready", "infer"):
        error = before[path].json()["error"]
        assert (before[path].status_code, "golden response: off by 0.5" in error) == (503, True)
        assert error.startswith(f"model: '{SECOND}'; not ready: champion {BROKEN}")
    index = {entry["name"]: entry for entry in before["index"].json()}
    assert index[STAND_IN]["state"] == "READY"
    assert (index[SECOND]["state"], BROKEN in index[SECOND]["reason"]) == ("UNAVAILABLE", True)
    ready = {"ready": True, "models": {STAND_IN: True, SECOND: True}}
    assert both.http.get("/v2/health/ready").json() == ready


def test_both_rank_over_rest_and_over_grpc_each_with_its_own_columns(both, body):
    assert scores(infer(both, 3, 5)) == ((SECOND, FIRST), expected(1, 3, 5))
    assert scores(both.infer(body()))[0] == (STAND_IN, FIRST)
    with grpc.insecure_channel(both.grpc_address) as channel:
        stub = service.GRPCInferenceServiceStub(channel)
        other = stub.ModelInfer(second_model.grpc_request(3, 5))
        assert grpc_scores(other) == ((SECOND, FIRST), expected(1, 3, 5))
        assert grpc_scores(stub.ModelInfer(grpc_request()))[0] == (STAND_IN, FIRST)
        ready = messages.ModelReadyRequest(name=SECOND)
        assert stub.ModelReady(ready).ready
        described = stub.ModelMetadata(messages.ModelMetadataRequest(name=SECOND))
        assert [tensor.name for tensor in described.inputs] == ["film_id", "timestamp"]
    # The columns of the one are no inputs of the other.
    answer = both.infer(second_model.body(1))
    assert (answer.status_code, "film_id" in answer.json()["error"]) == (400, True)
    v1 = both.http.post(f"/v1/models/{SECOND}:predict", json={"instances": [{"film_id": 4}]})
    assert v1.json()["predictions"] == expected(1, 4)


def test_the_lists_and_the_description_have_both(both):
    assert both.http.get("/v2/models").json() == {"models": [STAND_IN, SECOND]}
    assert both.http.get("/v1/models").json() == {"models": [STAND_IN, SECOND]}
    paths = both.http.get("/openapi.json").json()["paths"]
    for name, column in ((STAND_IN, "item_id"), (SECOND, "film_id")):
        described = paths[f"/v2/models/{name}/infer"]["post"]
        assert f"'{column}'" in str(described["requestBody"])
        assert described["operationId"] == f"infer_{name}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/models/third/infer"),
        ("POST", "/v1/models/third:predict"),
        ("GET", "/v2/models/third"),
        ("GET", "/v2/models/third/ready"),
        ("GET", "/v1/models/third"),
        ("POST", "/v2/repository/models/third/load"),
        ("POST", "/v2/repository/models/third/unload"),
        ("GET", "/v2/repository/models/third/versions"),
        ("POST", "/v2/repository/models/third/versions"),
    ],
)
def test_an_unknown_name_is_404_with_the_names_that_are_known(both, method, path):
    answer = both.http.request(method, path, json={} if method == "POST" else None)
    assert (answer.status_code, answer.json()) == (404, {"error": f"model: 'third'; {KNOWN}"})


def test_an_unknown_name_is_not_found_over_grpc_with_the_names_that_are_known(both):
    with grpc.insecure_channel(both.grpc_address) as channel:
        stub = service.GRPCInferenceServiceStub(channel)
        for call in (
            lambda: stub.ModelInfer(messages.ModelInferRequest(model_name="third")),
            lambda: stub.ModelReady(messages.ModelReadyRequest(name="third")),
            lambda: stub.RepositoryModelLoad(
                messages.RepositoryModelLoadRequest(model_name="third")
            ),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert caught.value.details() == f"model: 'third'; {KNOWN}"


def test_one_swaps_and_fails_to_while_the_other_one_answers_as_before(both, body, second_registry):
    """A load that fails keeps the model's own version, and is no concern of the other one."""
    before = scores(both.infer(body()))
    is_over, seen = threading.Event(), []

    def ask():
        while not is_over.is_set():
            seen.append(scores(both.infer(body())))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            for version, day in ((NEW, 9), (FIRST, 1), (NEW, 9)):
                load(both, second_registry, version).raise_for_status()
                found = scores(infer(both, 2, 7))
                assert found == ((SECOND, version), expected(day, 2, 7))
                failed = load(both, second_registry, BROKEN)
                assert (failed.status_code, f"{version} stays" in failed.text) == (409, True)
                assert scores(infer(both, 2, 7)) == found
        finally:
            is_over.set()
            load(both, second_registry, FIRST)
        for one in asking:
            one.result(30)
    assert len(seen) > 3
    assert [one for one in seen if one != before] == []


def test_a_canary_of_one_is_none_of_the_other(both, second_registry):
    write_share(second_registry, CANARY, Share(version=NEW, percent=100))
    try:
        found = Endpoint(both.url, SECOND).follow()
        assert found["canary"] == {"version": NEW, "percent": 100}
        assert Endpoint(both.url, STAND_IN).follow()["canary"] is None
        assert scores(infer(both, 1))[0] == (SECOND, NEW)
        of_canary = {"model": SECOND, "role": "canary", "version": NEW}
        shares = [s for s in metrics(both) if s.name == "ranking_version_share"]
        assert [s.value for s in shares if s.labels == of_canary] == [100]
        assert {s.labels["model"] for s in shares} == {STAND_IN, SECOND}
    finally:
        clear_share(second_registry, CANARY)
        Endpoint(both.url, SECOND).follow()


def test_metrics_tell_the_models_apart_and_a_rejected_call_without_one_has_none(both, body):
    before = metrics(both)
    infer(both, 1)
    infer(both, 1, 2)
    assert infer(both, 100_000_000).status_code == 200
    assert both.infer({}).status_code == 400
    both.http.post("/v2/models/third/infer", json={})
    after = metrics(both)

    def grown(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("ranking_answers_total", model=SECOND, version=FIRST) == 3
    assert grown("ranking_answers_total", model=STAND_IN) == 0
    assert grown("ranking_admitted_seconds_count", model=SECOND) == 3
    assert grown("ranking_requests_total", model=SECOND, outcome="degraded") == 1
    assert grown("ranking_errors_total", model=STAND_IN, code="400") == 1
    assert grown("ranking_errors_total", model="", code="404") == 1
    loaded = {s.labels["model"] for s in after if s.name == "ranking_model_version"}
    assert loaded == {STAND_IN, SECOND}


def test_a_receive_stage_is_counted_of_the_model_that_a_grpc_message_names(both):
    before = metrics(both)
    with grpc.insecure_channel(both.grpc_address) as channel:
        service.GRPCInferenceServiceStub(channel).ModelInfer(second_model.grpc_request(1))
    labels = {"model": SECOND, "stage": "receive"}
    name = "ranking_stage_seconds_count"
    assert value(metrics(both), name, **labels) == value(before, name, **labels) + 1


def test_answers_are_logged_apart(both, body, log_folder):
    both.http.post(f"/v2/models/{SECOND}/infer", json={**second_model.body(9), "id": "of-second"})
    both.infer({**body(), "id": "of-stand-in"})

    def logged(model):
        files = sorted((log_folder / model).rglob("*.parquet"))
        return {name for file in files for name in pq.read_table(file)["request_id"].to_pylist()}

    wait_until(lambda: "of-second" in logged(SECOND) and "of-stand-in" in logged(STAND_IN))
    assert "of-stand-in" not in logged(SECOND)
    assert "of-second" not in logged(STAND_IN)


def test_a_model_that_is_full_turns_its_own_callers_away_and_not_those_of_the_other(both, body):
    """Of eight places two are kept for each model; a stuck one can have six at most."""
    before = value(metrics(both), "ranking_turned_away_total", model=STAND_IN)
    with concurrent.futures.ThreadPoolExecutor(8) as pool, both.stuck() as release:
        stuck = [pool.submit(both.infer, body()) for _ in range(6)]
        name = "ranking_requests_in_flight"
        wait_until(lambda: value(metrics(both), name, model=STAND_IN) == 6, seconds=60)
        turned_away = both.infer(body())
        assert (turned_away.status_code, "fewer than 6" in turned_away.text) == (503, True)
        for films in itertools.repeat((1, 2), 5):
            assert infer(both, *films).status_code == 200
        release()
        assert {one.result(60).status_code for one in stuck} == {200}
    found = metrics(both)
    assert value(found, "ranking_turned_away_total", model=STAND_IN) == before + 1
    assert value(found, "ranking_turned_away_total", model=SECOND) == 0


def test_a_server_without_a_model_is_no_endpoint_of_it(both):
    assert Endpoint(both.url, SECOND).version() == FIRST
    with pytest.raises(NoEndpointError, match=KNOWN):
        Endpoint(both.url, "third").load()
    with pytest.raises(UnreachableError, match=f"{KNOWN}.*a server with the model third"):
        Endpoint(both.url, "third", is_required=True).load()


def test_a_model_whose_registry_cannot_be_read_leaves_the_other_one_be(start_server, tmp_path):
    registry = stand_ins.FileRegistry(tmp_path)
    registry.set_alias("champion", FIRST)
    registry.set_alias(CANARY, NEW)
    registry.set_tag(NEW, "canary_share", "no JSON")
    with start_server({}, flags=[f"--second={tmp_path}"]) as server:
        server.reload(FIRST).raise_for_status()
        models = server.http.get("/v2/health/ready").json()["models"]
        assert models == {STAND_IN: True, SECOND: False}
        reason = server.http.get(f"/v2/models/{SECOND}/ready").json()["error"]
        assert "registry: ValueError: tag canary_share" in reason


def test_a_ready_server_names_its_models_only_to_who_shows_the_token(guarded):
    path, named = "/v2/health/ready", {"ready": True, "models": {STAND_IN: True}}
    assert guarded.server.http.get(path).json() == {"ready": True}
    assert guarded.server.http.get(path, headers=guarded.headers).json() == named
