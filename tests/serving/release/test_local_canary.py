"""A canary on the local server, over HTTP, with traffic: the rollout's own steps and checks."""

import contextlib
import itertools
import os
import signal
import threading

import httpx
import pytest
from support.serving import stand_ins

from serving.release import canary
from serving.release.analysis import Limits
from serving.release.canary import Canary, CanaryError
from serving.release.canary_target import CanaryTargetError
from serving.release.endpoint_client import Endpoint
from serving.release.local_target import LocalTarget
from serving.release.metrics_window import samples
from serving.routing.traffic_split import Share, clear_share, read_share, write_share
from training.registry.aliases import CANARY

FIRST, TWIN, OTHER = "2025-06-01-first", "2025-06-01-twin", "2025-06-09-other"
MILD = {"min_requests": 100, "max_error_rate_increase": 0.2, "max_p95_ratio": 20}
"""Few requests on a busy machine show little."""
BRIEF = Limits(**MILD, step_timeout_seconds=60)


@pytest.fixture
def registry(server):
    """The registry of the running server, which has no canary before and after."""
    yield server.registry
    clear_share(server.registry, CANARY)
    for path in server.registry.folder.glob("*@*"):
        path.unlink()
    Endpoint(server.url, "stand-in").follow()


@pytest.fixture
def one_step(monkeypatch):
    """Both versions have their hundred requests soon, and enough of the canary's are paired."""
    monkeypatch.setattr(canary, "STEPS", (25,))


def target(server, version, **options):
    return LocalTarget(
        registry=server.registry,
        endpoint=Endpoint(server.url, "stand-in"),
        version=version,
        **{"pause_seconds": 0.02, "quiet_seconds": 5.0, **options},
    )


@contextlib.contextmanager
def traffic(server, body):
    """Requests of ever new users from two clients; yields what came back."""
    users, is_over, answers = itertools.count(1_000), threading.Event(), []

    def ask():
        with httpx.Client(base_url=server.url, timeout=20) as http:
            while not is_over.is_set():
                content = body(user_id={"data": [next(users)]})
                answers.append(http.post("/v2/models/stand-in/infer", json=content))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def scores_of(answer):
    return answer["outputs"][0]["data"]


def test_each_user_is_answered_by_the_version_of_their_hash_and_scored_by_it(
    server, body, registry
):
    share = Share(version=OTHER, percent=50, salt="x")
    write_share(registry, CANARY, share)
    assert Endpoint(server.url, "stand-in").follow()["canary"] == {"version": OTHER, "percent": 50}
    golden = {}
    for version in (FIRST, OTHER):
        path = f"stand-in/versions/{version}/infer"
        answer = server.infer(body(user_id={"data": [70]}), path=path).json()
        assert answer["model_version"] == version
        golden[version] = scores_of(answer)
    assert golden[FIRST] != golden[OTHER]
    for user in range(30, 70):
        expected = OTHER if share.covers(str(user)) else FIRST
        answer = server.infer(body(user_id={"data": [user]})).json()
        assert answer["model_version"] == expected
        pinned = server.infer(
            body(user_id={"data": [user]}), path=f"stand-in/versions/{expected}/infer"
        )
        assert scores_of(answer) == scores_of(pinned.json())
    assert server.http.get("/v2/models/stand-in").json()["versions"] == [FIRST, OTHER]
    listed = server.http.post("/v2/repository/index").json()
    assert [entry["version"] for entry in listed] == [FIRST, OTHER]


def test_metrics_tell_both_versions_apart(server, body, registry):
    write_share(registry, CANARY, Share(version=TWIN, percent=100))
    Endpoint(server.url, "stand-in").follow()
    before = samples(Endpoint(server.url, "stand-in").metrics(), version=TWIN)
    for _ in range(3):
        server.infer(body()).raise_for_status()
    after = samples(Endpoint(server.url, "stand-in").metrics(), version=TWIN)
    key = ("ranking_version_requests_total", "complete")
    assert after[key] - before[key] == 3
    text = server.http.get("/metrics").text
    assert f'ranking_version_share{{model="stand-in",role="canary",version="{TWIN}"}} 100.0' in text
    assert (
        f'ranking_version_share{{model="stand-in",role="champion",version="{FIRST}"}} 0.0' in text
    )


def test_a_good_canary_takes_its_step_and_no_request_fails(server, body, registry, one_step):
    with traffic(server, body) as answers:
        summary = Canary(target=target(server, TWIN), limits=BRIEF).run()
    assert [step["percent"] for step in summary["steps"]] == [25]
    for step in summary["steps"]:
        assert min(step[side]["requests"] for side in ("canary", "control")) >= 100
        assert {check["state"] for check in step["checks"]} == {"kept"}
        assert step["canary"]["pairs"] >= 30
    assert (summary["version"], summary["control"], summary["verdict"]) == (TWIN, FIRST, "passed")
    assert read_share(registry, CANARY).percent == 100
    assert registry.tag(TWIN, "canary_verdict") == "passed"
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model_version"] for answer in answers} == {FIRST, TWIN}


@pytest.mark.parametrize(
    ("version", "limits", "says"),
    [
        ("2025-06-01-raising", {"min_requests": 2_000}, "error rate above the control's: "),
        (OTHER, {"max_score_change": 0.001}, "mean score over the control's for the same"),
        ("2025-06-01-turned", {}, "rank correlation with the control within a request: -"),
        ("2025-06-01-lame", {"max_p95_ratio": 1.2}, "p95 over the control's: "),
        ("2025-06-01-broken", {}, "not ready; .*golden response"),
    ],
)
def test_a_bad_canary_goes_back_by_itself_with_the_reason(
    server, body, registry, one_step, version, limits, says
):
    bounds = Limits(**{**MILD, **limits})
    with (
        traffic(server, body),
        pytest.raises(CanaryError, match=f"{says}.*; all traffic is at {FIRST} again"),
    ):
        Canary(target=target(server, version), limits=bounds).run()
    assert registry.alias(CANARY) is None
    versions = Endpoint(server.url, "stand-in").serving_versions()
    assert (versions["champion"], versions["canary"]) == (FIRST, None)
    rolled_back = registry.tag(version, "rolled_back")
    # What never answered anybody is no danger, and may be tried again once it is mended.
    assert (rolled_back is None) == version.endswith("-broken")
    assert version.endswith("-broken") or rolled_back.startswith(f"by its canary: {version} at 25")


def test_without_traffic_nothing_is_known_and_the_verdict_says_so(server, registry):
    summary = Canary(target=target(server, OTHER, quiet_seconds=0.05), limits=Limits()).run()
    assert (summary["verdict"], summary["rolled_back"]) == ("no traffic", True)
    assert "0 requests of the canary and 0 of the control; at least 2000 of each" in summary["note"]
    assert summary["note"].endswith("; the gate alone decides")
    assert registry.tag(OTHER, "canary_verdict") == "no traffic"
    assert registry.tag(OTHER, "rolled_back") is None
    assert Endpoint(server.url, "stand-in").serving_versions()["canary"] is None


def test_without_traffic_where_there_must_be_some_it_fails(server, registry):
    strict = target(server, TWIN, quiet_seconds=None)
    few = Limits(step_timeout_seconds=0.1)
    with pytest.raises(CanaryError, match="no traffic: 0 requests of the canary"):
        Canary(target=strict, limits=few).run()
    assert registry.tag(TWIN, "canary_verdict") == "no traffic"


def test_a_load_that_takes_too_long_ends_it(server, registry):
    limits = Limits(ready_timeout_seconds=0.3)
    with pytest.raises(CanaryError, match=r"2025-06-01-slow: not ready; .*timed out"):
        Canary(target=target(server, "2025-06-01-slow"), limits=limits).run()
    assert Endpoint(server.url, "stand-in").serving_versions()["canary"] is None


def test_somebody_else_who_moves_the_share_or_the_champion_is_a_conflict(server, registry):
    tried = target(server, TWIN)
    tried.begin()
    tried.shift(5, timeout_seconds=5)
    clear_share(registry, CANARY)
    with pytest.raises(CanaryTargetError, match=r"canary: None; .*which this rollout gave"):
        tried.shift(25, timeout_seconds=5)
    second = target(server, TWIN)
    second.begin()
    registry.set_alias("champion", OTHER)
    with pytest.raises(CanaryTargetError, match=f"champion: {OTHER}; the control, {FIRST}"):
        second.shift(5, timeout_seconds=5)


def test_a_rollout_that_lost_its_share_leaves_the_others_alone(server, registry, monkeypatch):
    """Its own rollback must not take another canary away."""

    def take_over(*_, **__):
        write_share(registry, CANARY, Share(version=OTHER, percent=1))

    monkeypatch.setattr(Canary, "_check", take_over)
    with pytest.raises(CanaryError, match="which this rollout gave"):
        Canary(target=target(server, TWIN), limits=Limits()).run()
    assert read_share(registry, CANARY) == Share(version=OTHER, percent=1)


@pytest.mark.parametrize(
    ("champion", "under_way", "says"),
    [
        (TWIN, None, "it is the champion already"),
        (None, None, "a canary needs a control"),
        (FIRST, Share(version=OTHER, percent=5), "has 5 %; promote it or roll it back first"),
    ],
)
def test_a_canary_that_cannot_begin_changes_nothing(tmp_path, champion, under_way, says):
    registry = stand_ins.FileRegistry(tmp_path)
    registry.set_alias("champion", champion)
    if under_way:
        write_share(registry, CANARY, under_way)
    tried = LocalTarget(
        registry=registry, endpoint=Endpoint("http://127.0.0.1:9", "stand-in"), version=TWIN
    )
    with pytest.raises(ValueError, match=says):
        Canary(target=tried, limits=BRIEF).run()
    assert read_share(registry, CANARY) == under_way


def test_a_canary_that_a_killed_process_left_begins_again(server, registry):
    left = Share(version=TWIN, percent=25, salt="old")
    write_share(registry, CANARY, left)
    summary = Canary(target=target(server, TWIN, quiet_seconds=0.05), limits=Limits()).run()
    assert summary["steps"][0]["percent"] == 5


def test_a_signal_takes_the_share_back(server, registry, monkeypatch):
    monkeypatch.setattr(Canary, "_check", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(CanaryError, match="stopped by a signal"):
        Canary(target=target(server, TWIN), limits=Limits()).run()
    assert registry.alias(CANARY) is None
    assert Endpoint(server.url, "stand-in").serving_versions()["canary"] is None


def test_other_names_and_no_champion_are_refused(server):
    assert server.http.post("/v2/repository/models/other/versions").status_code == 404
    assert server.http.get("/v2/repository/models/other/versions").status_code == 404
