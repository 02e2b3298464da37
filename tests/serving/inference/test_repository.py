"""Loads, reloads and their errors on the running endpoint."""

import concurrent.futures
import time

import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException


def version_of(server, body):
    return server.infer(body()).json()["model_version"]


def test_load_swaps_to_wherever_the_alias_points(server, body):
    before = server.infer(body()).json()["outputs"][0]["data"]
    assert server.reload("2025-06-09-second").json() == {"name": "stand-in", "load": True}
    assert version_of(server, body) == "2025-06-09-second"
    assert server.infer(body()).json()["outputs"][0]["data"] != before
    assert server.http.get("/v2/models/stand-in").json()["versions"] == ["2025-06-09-second"]
    assert server.infer(body(), path="stand-in/versions/2025-06-01-first/infer").status_code == 404


def test_tritonclient_loads_and_is_refused_an_unload(server, body):
    server.registry.set_alias("champion", "2025-06-09-second")
    with tritonclient.http.InferenceServerClient(server.url.removeprefix("http://")) as client:
        client.load_model("stand-in")
        assert client.get_model_repository_index()[0]["version"] == "2025-06-09-second"
        with pytest.raises(
            InferenceServerException, match="a model stays loaded for as long as its server runs"
        ):
            client.unload_model("stand-in")
    assert version_of(server, body) == "2025-06-09-second"


def test_a_failing_load_keeps_the_old_model_and_says_why(server, body):
    answer = server.reload("2025-06-09-broken")
    assert answer.status_code == 409
    assert answer.json() == {
        "error": "champion: '2025-06-09-broken'; ValueError: golden response: off by 0.5; 1e-05; "
        "2025-06-01-first stays loaded"
    }
    assert version_of(server, body) == "2025-06-01-first"
    assert server.http.get("/v2/health/ready").status_code == 200


def test_a_load_without_an_alias_is_refused_and_keeps_the_old_model(server, body):
    assert server.reload(None).status_code == 409
    assert version_of(server, body) == "2025-06-01-first"


def test_requests_during_reloads_are_answered_by_one_version_each(server, body):
    """Scores belong to the version that the answer names, while versions change beneath."""
    scores = {}
    for version in ("2025-06-01-first", "2025-06-09-second"):
        server.reload(version).raise_for_status()
        scores[version] = server.infer(body()).json()["outputs"][0]["data"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(server.infer, body()) for _ in range(60)]
        for turn in range(6):
            server.reload(sorted(scores)[turn % 2]).raise_for_status()
        for answer in answers:
            content = answer.result().json()
            assert content["outputs"][0]["data"] == scores[content["model_version"]]


def test_the_server_answers_others_while_one_request_takes_its_time(server, body):
    """Scoring and feature reads leave the event loop free."""
    server.reload("2025-06-09-slow").raise_for_status()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.infer, body())
        time.sleep(0.1)
        started = time.monotonic()
        assert server.http.get("/v2/health/live").status_code == 200
        assert time.monotonic() - started < 0.3
        assert not slow.done()
        assert slow.result().status_code == 200


def test_loads_leave_the_event_loop_and_the_ranking_threads_to_the_requests(server, body):
    """Twelve loads wait for each other, each for more than a second; requests wait for none."""
    server.registry.set_alias("champion", "2025-06-09-slow")
    path, seconds = "/v2/repository/models/stand-in/load", []
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        loads = [pool.submit(server.http.post, path) for _ in range(2)]
        # Canaries too; what cannot fail quickly waits with the others.
        loads += [
            pool.submit(server.http.post, path.replace("load", "versions")) for _ in range(10)
        ]
        time.sleep(0.2)
        while not loads[0].done():
            started = time.monotonic()
            answer = server.infer(body())
            assert answer.json()["model_version"] in {"2025-06-01-first", "2025-06-09-slow"}
            if answer.json()["model_version"] == "2025-06-01-first":
                seconds.append(time.monotonic() - started)
        assert {load.result().status_code for load in loads} == {200}
    assert len(seconds) >= 10
    assert sorted(seconds)[len(seconds) // 2] < 0.2


def test_each_load_and_rejection_is_a_line_of_the_log(server):
    server.reload("2025-06-09-second")
    server.reload("2025-06-09-broken")
    text = server.log.read_text()
    assert "load: 2025-06-01-first -> 2025-06-09-second" in text
    assert "load failed: champion 2025-06-09-broken; 2025-06-09-second stays" in text
    assert "rejected: POST /v2/repository/models/stand-in/load: 409" in text


def test_loads_are_counted(server):
    server.reload("2025-06-09-second")
    assert (
        'ranking_loads_total{model="stand-in",outcome="swapped"}'
        in server.http.get("/metrics").text
    )
