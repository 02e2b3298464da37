"""Rollouts through the door, over HTTP, against a Kubernetes API that keeps state."""

import copy
import json
import os
import signal
import time

import pytest
import yaml
from support.serving import stand_ins

from serving.__main__ import main
from serving.release import canary as steps
from serving.release.kserve import cluster, target

CONTROL, CANDIDATE = "2025-06-01-aaaa", "2025-06-02-bbbb"
CANDIDATE_MODEL = ["--version", CANDIDATE, "--storage-uri", "s3://models/new"]
BRIEF = ["--min-requests", "200", "--max-error-rate-increase", "0.05"]
"""Few requests cannot show that errors are few."""
STANDARD, KNATIVE = [], ["--mode", "Knative"]


@pytest.fixture
def call(api, tmp_path, monkeypatch, capsys):
    """Run a command on the API; returns the exit code and the JSON object."""
    monkeypatch.setattr(cluster, "PAUSE_SECONDS", 0.01)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": api.address}}],
        "users": [{"name": "me", "user": {}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    place = ["--service", "ranker", "--namespace", "ranking", "--kubeconfig", str(path)]

    def run(command, *arguments):
        code = main([command, *place, *arguments])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


@pytest.fixture
def deploy(call):
    def run(*arguments):
        model = ["--version", CONTROL, "--storage-uri", "s3://models/old", "--image", "ranking:1"]
        return call(
            "deploy", *model, "--dataset", "synthetic", "--store-claim", "feast", *arguments
        )

    return run


def canary(call, *arguments):
    return call("canary", *CANDIDATE_MODEL, "--ready-timeout-seconds", "0.5", *arguments)


def test_deploy_applies_waits_and_is_done_when_the_service_is_ready(api, deploy):
    code, told = deploy()
    assert (code, told["applied"], told["url"]) == (0, True, "http://ranker")
    assert api.live["spec"]["predictor"]["minReplicas"] == 2
    assert deploy("--min-replicas", "3")[0] == 0
    assert api.live["spec"]["predictor"]["minReplicas"] == 3


def test_a_dry_run_prints_the_manifest_and_asks_no_cluster(api, capsys, deploy, call):
    arguments = ["--dataset", "synthetic", "--store-claim", "feast", "--image", "ranking:1"]
    main(["deploy", "--service", "ranker", *CANDIDATE_MODEL, *arguments, "--dry-run"])
    *lines, _ = capsys.readouterr().out.strip().splitlines()
    assert yaml.safe_load("\n".join(lines))["kind"] == "InferenceService"
    assert api.num_applies == 0


def test_a_conflict_names_the_field_and_its_manager_and_changes_nothing(api, deploy):
    deploy()
    api.edit("kubectl-edit", ("spec", "predictor", "maxReplicas"), 9)
    code, told = deploy("--max-replicas", "6")
    assert code == 1
    assert '.spec.predictor.maxReplicas: conflict with "kubectl-edit"' in told["error"]
    assert api.live["spec"]["predictor"]["maxReplicas"] == 9
    assert deploy("--max-replicas", "6", "--force")[0] == 0
    assert api.live["spec"]["predictor"]["maxReplicas"] == 6


def test_a_service_that_is_never_ready_ends_with_what_its_conditions_say(api, deploy):
    api.behaviour(CONTROL).never_ready = "no node has 2 CPUs"
    code, told = deploy("--ready-timeout-seconds", "0.1")
    assert code == 1
    assert "after 0.1 s; Ready is False: no node has 2 CPUs" in told["error"]


def test_the_readiness_of_what_was_there_before_does_not_count(api, deploy):
    deploy()
    api.is_controller_away = True
    code, told = deploy("--min-replicas", "3", "--ready-timeout-seconds", "0.1")
    assert code == 1
    assert told["error"].endswith("KServe has seen generation 1 of 2")


def test_an_api_that_does_not_answer_in_time_ends_the_verb(api, deploy, monkeypatch):
    monkeypatch.setattr(cluster, "REQUEST_TIMEOUT_SECONDS", 0.05)
    api.delay_seconds = 0.4
    code, told = deploy()
    assert code == 1
    assert "apply ranking/ranker: " in told["error"]
    assert "timed out" in told["error"].lower()


def test_a_good_canary_takes_every_step_and_leaves_the_stable_side_as_it_is(api, deploy, call):
    deploy("--autoscaler", "keda")
    api.edit("kubectl-edit", ("spec", "predictor", "maxReplicas"), 9)
    before = copy.deepcopy(api.live["spec"]["predictor"])
    code, told = canary(call)
    assert code == 0, told
    assert [step["percent"] for step in told["steps"]] == [5, 25, 50, 95]
    for step in told["steps"]:
        # Both have had as many requests in the same minutes; at 100 % the control has none.
        assert min(step[side]["requests"] for side in ("canary", "control")) >= 2_000
        assert {check["state"] for check in step["checks"]} == {"kept"}
    assert told["verdict"] == "passed"
    assert list(dict.fromkeys(api.shares)) == [0, 5, 25, 50, 95, 100]
    assert api.live["spec"]["predictor"] == before
    (tried,) = api.live["spec"]["canary"]
    assert tried["predictor"]["containers"][0]["env"][0]["value"] == "s3://models/new"


def test_promote_gives_the_canary_the_stable_place_and_its_scaling(api, deploy, call):
    deploy()
    canary(call, *BRIEF)
    pods = copy.deepcopy(api.live["spec"]["canary"][0]["predictor"])
    code, told = call("promote")
    assert (code, told["version"]) == (0, CANDIDATE)
    stable = api.live["spec"]["predictor"]
    assert "canary" not in api.live["spec"]
    # KServe keeps the pods running where the name and the pods' description stay the same.
    assert {name: stable[name] for name in pods} == pods
    assert (stable["maxReplicas"], stable["scaleMetric"]) == (4, "cpu")
    assert call("promote")[0] == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"failed_share": 0.02}, "error rate above the control's: 0.02 "),
        ({"failed_share": 1.0}, "error rate above the control's: 1 "),
        ({"failed_share": 0.3, "is_full": True}, "error rate above the control's: 0.3 "),
        ({"seconds": 0.2}, "p95 over the control's: "),
        ({"score": 0.45}, "mean score over the control's: 1.286 "),
        ({"score": 0.85}, "PSI of the mean scores of requests: "),
        ({"requests_per_scrape": 0}, "no traffic: 0 requests of the canary"),
        ({"requests_per_scrape": 1}, "no traffic: "),
        ({"never_ready": "image cannot be pulled"}, "image cannot be pulled"),
    ],
)
def test_a_bad_canary_is_rolled_back_with_the_reason(api, deploy, call, changes, says):
    deploy()
    before = copy.deepcopy(api.live["spec"])
    for name, value in changes.items():
        setattr(api.behaviour(CANDIDATE), name, value)
    code, told = canary(call, "--step-timeout-seconds", "1")
    assert code == 1
    assert says in told["error"]
    assert told["error"].endswith(f"all traffic is at {CONTROL} again")
    assert told["rolled_back"]
    assert api.live["spec"] == before
    assert max(api.shares) <= 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_the_traffic_back(api, deploy, call, monkeypatch, number):
    deploy()
    monkeypatch.setattr(steps, "judge", lambda *_, **__: os.kill(os.getpid(), number))
    code, told = canary(call)
    assert (code, told["rolled_back"]) == (1, True)
    assert told["error"].startswith("stopped by a signal; ")
    assert "canary" not in api.live["spec"]


def test_a_rollback_is_tried_again_when_the_api_refuses_it(api, deploy, call):
    deploy()
    api.behaviour(CANDIDATE).never_ready = "no"
    api.refused_applies = ["webhook is away", "webhook is away", "", ""]
    code, told = canary(call)
    assert (code, told["rolled_back"]) == (1, True)
    assert "canary" not in api.live["spec"]


def test_the_verb_rollback_takes_a_canary_away_at_any_step(api, deploy, call):
    deploy()
    canary(call, *BRIEF)
    code, told = call("rollback")
    assert (code, told["from"], told["to"]) == (0, CANDIDATE, CONTROL)
    assert "canary" not in api.live["spec"]
    code, told = call("rollback")
    assert (code, "has no canary" in told["error"]) == (1, True)


@pytest.mark.parametrize("mode", [STANDARD, KNATIVE])
def test_the_stable_model_is_no_canary(api, deploy, call, mode):
    deploy(*mode)
    code, told = call("canary", "--version", CONTROL, "--storage-uri", "s3://models/old")
    assert (code, told["error"]) == (1, f"version: {CONTROL}; it is the stable one already")
    assert api.num_applies == 1


def test_a_second_canary_waits_for_the_first(api, deploy, call):
    deploy()
    canary(call, *BRIEF)
    code, told = call("canary", "--version", "third", "--storage-uri", "s3://models/third")
    assert code == 1
    assert told["error"].startswith(f"canary: {CANDIDATE} has 100 %")


def test_knative_moves_the_share_of_the_newest_revision(api, deploy, call):
    deploy(*KNATIVE)
    code, told = canary(call)
    assert code == 0, told
    assert list(dict.fromkeys(api.shares[1:])) == [0, 5, 25, 50, 95, 100]
    assert api.live["spec"]["predictor"]["canaryTrafficPercent"] == 100
    assert call("promote")[0] == 0
    assert "canaryTrafficPercent" not in api.live["spec"]["predictor"]


def test_knative_sends_all_traffic_to_the_revision_before_when_a_check_fails(api, deploy, call):
    deploy(*KNATIVE)
    api.behaviour(CANDIDATE).failed_share = 0.5
    code, told = canary(call)
    assert (code, told["rolled_back"]) == (1, True)
    assert api.live["spec"]["predictor"]["canaryTrafficPercent"] == 0
    assert api.behaviour(CONTROL).has_traffic
    assert not api.behaviour(CANDIDATE).has_traffic
    # It stays the newest revision, and is no canary that could be promoted.
    code, told = call("promote")
    assert (code, told["error"]) == (
        1,
        f"canary: {CANDIDATE} has 0 % of the traffic; 100, after its steps",
    )
    assert api.live["spec"]["predictor"]["canaryTrafficPercent"] == 0


@pytest.mark.parametrize("mode", [STANDARD, KNATIVE])
@pytest.mark.parametrize(
    ("percent", "says"),
    [(5, "has 5 % of the traffic; 100"), (100, "annotation wukong-ranking/canary-passed: None")],
)
def test_promote_takes_no_canary_that_has_not_passed(
    api, deploy, call, monkeypatch, mode, percent, says
):
    """One at a step, or one that somebody gave all traffic by hand."""
    deploy(*mode)
    monkeypatch.setattr(steps, "STEPS", ())
    monkeypatch.setattr(steps, "LAST", percent)
    monkeypatch.setattr(target.ServiceTarget, "conclude", lambda *_: None)
    assert canary(call)[0] == 0
    before = copy.deepcopy(api.live["spec"])
    code, told = call("promote")
    assert (code, says in told["error"]) == (1, True)
    assert api.live["spec"] == before


def test_promote_takes_no_canary_that_has_passed_and_is_not_ready_now(api, deploy, call):
    deploy()
    assert canary(call, *BRIEF)[0] == 0
    annotations = api.live["metadata"]["annotations"]
    assert annotations["wukong-ranking/canary-passed"] == CANDIDATE
    api.live["status"]["canaryStatuses"][0]["ready"] = False
    code, told = call("promote")
    assert (code, "is not ready with 100 % of the traffic" in told["error"]) == (1, True)
    api.live["status"]["canaryStatuses"][0]["ready"] = True
    assert call("promote")[0] == 0
    assert "wukong-ranking/canary-passed" not in api.live["metadata"]["annotations"]


def test_a_days_candidate_goes_by_the_gate_and_becomes_champion_too(
    deploy, call, tmp_path, monkeypatch
):
    """What the DAG does on a cluster: the same two commands, with the day and the service."""
    registry = stand_ins.FileRegistry(tmp_path)
    registry.set_alias("champion", CONTROL)
    monkeypatch.setattr("training.registry.mlflow_registry.Registry", lambda *_: registry)
    folder = tmp_path / "synthetic" / "gate" / "2025-06-02"
    folder.mkdir(parents=True)
    decision = {"decision": "promote", "candidate": CANDIDATE}
    (folder / "decision.json").write_text(json.dumps(decision))
    day = ["--dataset", "synthetic", "--date", "2025-06-02", "--reports", str(tmp_path)]
    deploy()
    code, told = call("promote", *day)
    assert (code, told["error"]) == (
        1,
        f"canary: None; the day's candidate, {CANDIDATE}: run its canary",
    )
    code, told = call("canary", *day, *BRIEF, "--storage-uri", "s3://models/{version}")
    assert (code, told["version"]) == (0, CANDIDATE)
    assert registry.alias("champion") == CONTROL
    code, told = call("promote", *day)
    assert (code, told["version"]) == (0, CANDIDATE)
    assert registry.alias("champion") == CANDIDATE
    assert registry.tag(CANDIDATE, "previous_champion") == CONTROL
    assert call("canary", *day, "--storage-uri", "s3://models/{version}")[0] == 99


def test_a_days_candidate_that_went_back_is_not_tried_or_promoted_by_a_re_run(
    api, deploy, call, tmp_path, monkeypatch
):
    registry = stand_ins.FileRegistry(tmp_path)
    registry.set_alias("champion", CONTROL)
    monkeypatch.setattr("training.registry.mlflow_registry.Registry", lambda *_: registry)
    folder = tmp_path / "synthetic" / "gate" / "2025-06-02"
    folder.mkdir(parents=True)
    decision = {"decision": "promote", "candidate": CANDIDATE}
    (folder / "decision.json").write_text(json.dumps(decision))
    day = ["--dataset", "synthetic", "--date", "2025-06-02", "--reports", str(tmp_path)]
    tried = ["canary", *day, *BRIEF, "--storage-uri", "s3://models/{version}"]
    deploy()
    api.behaviour(CANDIDATE).failed_share = 0.5
    code, told = call(*tried)
    assert (code, told["verdict"]) == (1, "broken")
    applies = api.num_applies
    # A task's second try fails as the first: skipped, it would tell nobody.
    code, told = call(*tried)
    assert code == 1
    assert "was rolled back by its canary: 2025-06-02-bbbb at 5 %: error rate" in told["error"]
    assert call("promote", *day)[0] == 99
    assert api.num_applies == applies
    assert registry.alias("champion") == CONTROL


@pytest.mark.parametrize("manager", ["kubectl-edit", "another-controller"])
def test_somebody_else_who_changes_the_share_is_a_conflict_and_all_traffic_goes_back(
    api, deploy, call, monkeypatch, manager
):
    """Theirs would stay when left out of what is applied: it is taken over, and then taken away."""
    deploy()

    judge = steps.judge

    def interfere(*seen, **options):
        (tried,) = copy.deepcopy(api.live["spec"]["canary"])
        api.edit(manager, ("spec", "canary"), [{**tried, "trafficPercent": 90}])
        return judge(*seen, **options)

    monkeypatch.setattr(steps, "judge", interfere)
    code, told = canary(call, *BRIEF)
    assert (code, told["rolled_back"]) == (1, True)
    assert f'.spec.canary: conflict with "{manager}"' in told["error"]
    assert "canary" not in api.live["spec"]
    assert api.behaviour(CONTROL).has_traffic


def test_a_pod_whose_metrics_do_not_come_in_time_ends_the_step(api, deploy, call, monkeypatch):
    deploy()
    monkeypatch.setattr(cluster, "REQUEST_TIMEOUT_SECONDS", 0.2)
    pods = api.pods
    monkeypatch.setattr(api, "pods", lambda request: time.sleep(0.5) or pods(request))
    code, told = canary(call, *BRIEF, "--step-timeout-seconds", "1")
    assert (code, told["rolled_back"]) == (1, True)
    assert "timed out" in told["error"].lower()
    assert "canary" not in api.live["spec"]
