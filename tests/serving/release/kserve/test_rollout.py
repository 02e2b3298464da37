"""Rollouts by command line, over HTTP, against a Kubernetes API that keeps state."""

import copy
import json
import os
import signal
import time

import pytest
import yaml
from support.serving.release.rollout_commands import (
    BRIEF,
    CANDIDATE,
    CANDIDATE_MODEL,
    CONTROL,
    KNATIVE,
    NEVER_READY,
    STANDARD,
    promote,
    try_canary,
)

from serving.__main__ import main
from serving.release import canary
from serving.release.kserve import cluster


def test_deploy_applies_waits_and_is_done_when_the_service_is_ready(api, deploy):
    code, summary = deploy()
    assert (code, summary["applied"], summary["url"]) == (0, True, "http://ranker")
    assert api.live["spec"]["predictor"]["minReplicas"] == 2
    assert deploy("--min-replicas", "3")[0] == 0
    assert api.live["spec"]["predictor"]["minReplicas"] == 3


def test_a_dry_run_prints_the_manifest_and_asks_no_cluster(api, capsys, deploy, call):
    arguments = ["--dataset", "synthetic", "--store-claim", "feast", "--image", "ranking:1"]
    main(["deploy", "--service", "ranker", *CANDIDATE_MODEL, *arguments, "--dry-run"])
    captured = capsys.readouterr()
    assert yaml.safe_load(captured.out)["kind"] == "InferenceService"
    assert json.loads(captured.err.splitlines()[-1])["applied"] is False
    assert api.num_applies == 0


def test_a_conflict_names_the_field_and_its_manager_and_changes_nothing(api, deploy):
    deploy()
    api.edit("kubectl-edit", ("spec", "predictor", "maxReplicas"), 9)
    code, summary = deploy("--max-replicas", "6")
    assert code == 1
    assert '.spec.predictor.maxReplicas: conflict with "kubectl-edit"' in summary["error"]
    assert api.live["spec"]["predictor"]["maxReplicas"] == 9
    assert deploy("--max-replicas", "6", "--force")[0] == 0
    assert api.live["spec"]["predictor"]["maxReplicas"] == 6


def test_a_service_that_is_never_ready_ends_with_what_its_conditions_say(api, deploy):
    api.behaviour(CONTROL).never_ready = "no node has 2 CPUs"
    code, summary = deploy("--ready-timeout-seconds", "1")
    assert code == 1
    assert "after 1 s; Deployment ranker-v2025-06-01-aaaa-predictor: 0 of 2" in summary["error"]
    assert "Ready is False: no node has 2 CPUs" in summary["error"]


def test_the_readiness_of_what_was_there_before_does_not_count(api, deploy):
    deploy()
    api.is_controller_away = True
    code, summary = deploy("--min-replicas", "3", "--ready-timeout-seconds", "1")
    assert code == 1
    assert "ranker-v2025-06-01-aaaa-predictor: 2 replicas; at least 3" in summary["error"]


def test_an_api_that_does_not_answer_in_time_ends_the_command(api, deploy, monkeypatch):
    monkeypatch.setattr(cluster, "REQUEST_TIMEOUT_SECONDS", 0.05)
    api.delay_seconds = 0.4
    code, summary = deploy()
    assert code == 1
    assert "selfsubjectaccessreviews: " in summary["error"]
    assert "timed out" in summary["error"].lower()


def test_a_good_canary_takes_every_step_and_leaves_the_stable_side_as_it_is(api, deploy, call):
    deploy("--autoscaler", "keda")
    api.edit("kubectl-edit", ("spec", "predictor", "maxReplicas"), 9)
    before = copy.deepcopy(api.live["spec"]["predictor"])
    code, summary = try_canary(call)
    assert code == 0, summary
    assert [step["percent"] for step in summary["steps"]] == [5, 25, 50, 95]
    for step in summary["steps"]:
        # Both have had as many requests in the same minutes; at 100 % the control has none.
        assert min(step[side]["requests"] for side in ("canary", "control")) >= 2_000
        assert {check["state"] for check in step["checks"]} == {"kept"}
    assert summary["verdict"] == "passed"
    assert list(dict.fromkeys(api.shares)) == [0, 5, 25, 50, 95, 100]
    assert api.live["spec"]["predictor"] == before
    (tried,) = api.live["spec"]["canary"]
    assert tried["predictor"]["containers"][0]["env"][0]["value"] == "s3://models/new"


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
    code, summary = try_canary(call, *NEVER_READY, "--step-timeout-seconds", "3")
    assert code == 1
    assert says in summary["error"]
    assert summary["error"].endswith(f"all traffic is at {CONTROL} again")
    assert summary["rolled_back"]
    assert api.live["spec"] == before
    assert max(api.shares) <= 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_the_traffic_back(api, deploy, call, monkeypatch, number):
    deploy()
    monkeypatch.setattr(canary, "judge", lambda *_, **__: os.kill(os.getpid(), number))
    code, summary = try_canary(call)
    assert (code, summary["rolled_back"]) == (1, True)
    assert summary["error"].startswith("stopped by a signal; ")
    assert "canary" not in api.live["spec"]


def test_a_rollback_is_tried_again_when_the_api_refuses_it(api, deploy, call):
    deploy()
    api.behaviour(CANDIDATE).never_ready = "no"
    api.refused_applies = ["", "webhook is away", "webhook is away"]
    code, summary = try_canary(call, *NEVER_READY)
    assert (code, summary["rolled_back"]) == (1, True)
    assert "canary" not in api.live["spec"]


def test_the_command_rollback_takes_a_canary_away_at_any_step(api, deploy, call):
    deploy()
    try_canary(call, *BRIEF)
    code, summary = call("rollback")
    assert (code, summary["from"], summary["to"]) == (0, CANDIDATE, CONTROL)
    assert "canary" not in api.live["spec"]
    code, summary = call("rollback")
    assert (code, "has no canary" in summary["error"]) == (1, True)


@pytest.mark.parametrize("mode", [STANDARD, KNATIVE])
def test_the_stable_model_is_no_canary(api, deploy, call, mode):
    deploy(*mode)
    code, summary = call("canary", "--version", CONTROL, "--storage-uri", "s3://models/old")
    assert (code, summary["error"]) == (1, f"version: {CONTROL}; it is the stable one already")
    assert api.num_applies == 1


def test_a_second_canary_waits_for_the_first(api, deploy, call):
    deploy()
    try_canary(call, *BRIEF)
    code, summary = call("canary", "--version", "third", "--storage-uri", "s3://models/third")
    assert code == 1
    assert summary["error"].startswith(f"canary: {CANDIDATE} has 100 %")


def test_knative_moves_the_share_of_the_newest_revision(api, deploy, call):
    deploy(*KNATIVE)
    code, summary = try_canary(call)
    assert code == 0, summary
    assert list(dict.fromkeys(api.shares[1:])) == [0, 5, 25, 50, 95, 100]
    assert api.live["spec"]["predictor"]["canaryTrafficPercent"] == 100
    assert promote(call)[0] == 0
    assert "canaryTrafficPercent" not in api.live["spec"]["predictor"]


def test_knative_sends_all_traffic_to_the_revision_before_when_a_check_fails(api, deploy, call):
    deploy(*KNATIVE)
    api.behaviour(CANDIDATE).failed_share = 0.5
    code, summary = try_canary(call)
    assert (code, summary["rolled_back"]) == (1, True)
    assert api.live["spec"]["predictor"]["canaryTrafficPercent"] == 0
    assert api.behaviour(CONTROL).has_traffic
    assert not api.behaviour(CANDIDATE).has_traffic
    # It stays the newest revision, and is no canary that could be promoted.
    code, summary = promote(call)
    assert (code, summary["error"]) == (
        1,
        f"canary: {CANDIDATE} has 0 % of the traffic; 100, after its steps",
    )
    assert api.live["spec"]["predictor"]["canaryTrafficPercent"] == 0


@pytest.mark.parametrize("manager", ["kubectl-edit", "another-controller"])
def test_somebody_else_who_changes_the_share_is_a_conflict_and_all_traffic_goes_back(
    api, deploy, call, monkeypatch, manager
):
    """Theirs would stay when left out of what is applied: it is taken over, and then taken away."""
    deploy()

    judge = canary.judge

    def interfere(*seen, **options):
        (tried,) = copy.deepcopy(api.live["spec"]["canary"])
        api.edit(manager, ("spec", "canary"), [{**tried, "trafficPercent": 90}])
        return judge(*seen, **options)

    monkeypatch.setattr(canary, "judge", interfere)
    code, summary = try_canary(call, *BRIEF)
    assert (code, summary["rolled_back"]) == (1, True)
    assert f'.spec.canary: conflict with "{manager}"' in summary["error"]
    assert "canary" not in api.live["spec"]
    assert api.behaviour(CONTROL).has_traffic


def test_a_pod_whose_metrics_do_not_come_in_time_ends_the_step(api, deploy, call, monkeypatch):
    deploy()
    monkeypatch.setattr(cluster, "REQUEST_TIMEOUT_SECONDS", 0.2)
    pods = api.pods

    def slow(request):
        time.sleep(0.5 if "canary" in api.live["spec"] else 0)
        return pods(request)

    monkeypatch.setattr(api, "pods", slow)
    code, summary = try_canary(call, *BRIEF, "--step-timeout-seconds", "1")
    assert (code, summary["rolled_back"]) == (1, True)
    assert "timed out" in summary["error"].lower()
    assert "canary" not in api.live["spec"]
