"""Promotion of a canary on the cluster: which one becomes the stable version, and which not."""

import copy
import json

import pytest
from support.serving import stand_ins
from support.serving.release.rollout_commands import (
    BRIEF,
    CANDIDATE,
    CONTROL,
    KNATIVE,
    STANDARD,
    promote,
    try_canary,
)

from serving.release import canary
from serving.release.kserve import target


def test_promote_gives_the_canary_the_stable_place_and_its_scaling(api, deploy, call):
    deploy()
    try_canary(call, *BRIEF)
    pods = copy.deepcopy(api.live["spec"]["canary"][0]["predictor"])
    code, summary = promote(call)
    assert (code, summary["version"]) == (0, CANDIDATE)
    stable = api.live["spec"]["predictor"]
    assert "canary" not in api.live["spec"]
    # KServe keeps the pods running where the name and the pods' description stay the same.
    assert {name: stable[name] for name in pods} == pods
    assert (stable["maxReplicas"], stable["scaleMetric"]) == (4, "cpu")
    assert promote(call)[0] == 1


@pytest.mark.parametrize("mode", [STANDARD, KNATIVE])
@pytest.mark.parametrize(
    ("percent", "says"),
    [(5, "has 5 % of the traffic; 100"), (100, "annotation wukong-ranking/canary-passed: None")],
)
def test_promote_takes_no_canary_that_has_not_passed(
    api, deploy, call, monkeypatch, mode, percent, says
):
    """One at a step, or one that got all traffic by hand."""
    deploy(*mode)
    monkeypatch.setattr(canary, "STEPS", ())
    monkeypatch.setattr(canary, "LAST", percent)
    monkeypatch.setattr(target.ServiceTarget, "conclude", lambda *_: None)
    assert try_canary(call)[0] == 0
    before = copy.deepcopy(api.live["spec"])
    code, summary = promote(call)
    assert (code, says in summary["error"]) == (1, True)
    assert api.live["spec"] == before


def test_promote_takes_no_canary_that_has_passed_and_is_not_ready_now(api, deploy, call):
    deploy()
    assert try_canary(call, *BRIEF)[0] == 0
    annotations = api.live["metadata"]["annotations"]
    assert annotations["wukong-ranking/canary-passed"] == CANDIDATE
    deployment = api.controller.children["deployments", "ranker-v2025-06-02-bbbb-predictor"]
    deployment["status"]["availableReplicas"] -= 1
    code, summary = promote(call)
    assert (code, "is not ready with 100 % of the traffic" in summary["error"]) == (1, True)
    deployment["status"]["availableReplicas"] += 1
    assert promote(call)[0] == 0
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
    code, summary = call("promote", *day)
    assert (code, summary["error"]) == (
        1,
        f"canary: None; {CANDIDATE}, which is to be promoted: run its canary",
    )
    code, summary = call("canary", *day, *BRIEF, "--storage-uri", "s3://models/{version}")
    assert (code, summary["version"]) == (0, CANDIDATE)
    assert registry.alias("champion") == CONTROL
    code, summary = call("promote", *day)
    assert (code, summary["version"]) == (0, CANDIDATE)
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
    code, summary = call(*tried)
    assert (code, summary["verdict"]) == (1, "broken")
    applies = api.num_applies
    # A task's second try fails as the first: skipped, it would go unseen.
    code, summary = call(*tried)
    assert code == 1
    assert "was rolled back by its canary: 2025-06-02-bbbb at 5 %: error rate" in summary["error"]
    assert call("promote", *day)[0] == 99
    assert api.num_applies == applies
    assert registry.alias("champion") == CONTROL
