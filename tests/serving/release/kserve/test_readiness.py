"""What counts as in force on a cluster: pods as asked for, and the route's weights."""

import copy

import pytest
from support.serving.release.rollout_commands import (
    BRIEF,
    CANDIDATE,
    CONTROL,
    KNATIVE,
    NEVER_READY,
    PATIENT,
    STANDARD,
    promote,
    try_canary,
)

from serving.release.kserve import spec

STABLE, TRIED = (f"ranker-v{version}-predictor" for version in (CONTROL, CANDIDATE))


@pytest.mark.parametrize("mode", [STANDARD, KNATIVE])
def test_a_whole_rollout_works_where_observed_generation_is_a_childs_counter(
    api, deploy, call, mode
):
    """From the first deployment, which is created (201), to a second canary."""
    assert deploy(*mode)[0] == 0
    assert deploy(*mode)[0] == 0
    assert api.live["metadata"]["generation"] == 1
    assert try_canary(call, *BRIEF)[0] == 0
    assert promote(call)[0] == 0
    status, metadata = api.live["status"], api.live["metadata"]
    assert status["observedGeneration"] < metadata["generation"]
    assert spec.ROLLOUT_ANNOTATION not in metadata["annotations"]
    third = ["--version", "third", "--storage-uri", "s3://models/third"]
    assert call("canary", *third, *PATIENT, *BRIEF)[0] == 0
    code, summary = call("rollback")
    assert (code, summary["from"], summary["to"]) == (0, "third", CANDIDATE)
    assert api.behaviour(CANDIDATE).has_traffic
    assert not api.behaviour("third").has_traffic


def test_a_field_that_changes_no_pod_is_ready_at_once(api, deploy):
    deploy()
    assert deploy("--max-replicas", "6")[0] == 0
    assert api.live["status"]["observedGeneration"] == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--image", "ranking:2"], "its pods do not have the image that was asked for"),
        (["--memory", "8Gi"], "its pods do not have the resources that was asked for"),
        (["--secret", "other"], "its pods do not have the envFrom that was asked for"),
        (["--store-claim", "other"], "its pods do not have the volumes that was asked for"),
    ],
)
def test_pods_of_before_do_not_count_as_those_that_were_asked_for(api, deploy, change, says):
    deploy()
    api.is_controller_away = True
    code, summary = deploy("--ready-timeout-seconds", "1", *change)
    assert (code, f"Deployment {STABLE}: {says}" in summary["error"]) == (1, True)


def test_an_amount_that_the_api_server_writes_otherwise_is_the_same_amount(api, deploy):
    deploy("--cpu", "500m")
    deployment = api.controller.children["deployments", STABLE]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    api.is_controller_away = True
    amounts = {"cpu": "0.5", "memory": "4096Mi"}
    container["resources"] = {"requests": amounts, "limits": amounts}
    assert deploy("--cpu", "500m")[0] == 0


def test_a_deployment_whose_own_controller_is_behind_is_not_ready(api, deploy, call):
    deploy()
    api.controller.children["deployments", STABLE]["metadata"]["generation"] = 7
    api.is_controller_away = True
    code, summary = deploy("--ready-timeout-seconds", "1")
    assert (code, "generation 1 of 7 is in force" in summary["error"]) == (1, True)


def test_shares_that_kserve_reports_and_no_route_has_are_none(api, deploy, call):
    """KServe 0.20 with the Gateway API: canaryStatuses say 5 %, the route has one backend."""
    deploy()
    api.controller.has_weights = False
    before = copy.deepcopy(api.live["spec"])
    code, summary = try_canary(call, *NEVER_READY, *BRIEF)
    assert (code, summary["rolled_back"]) == (1, True)
    assert f"HTTPRoute ranker: {TRIED} has 0 % of the traffic; 5" in summary["error"]
    assert "KServe after 0.20" in summary["error"]
    assert max(api.shares) == 5
    assert api.live["spec"] == before


def test_grpc_calls_have_the_share_too(api, deploy, call):
    """The route has a rule of its own for them: KServe knows the port by its name, h2c."""
    deploy()
    (container,) = api.live["spec"]["predictor"]["containers"]
    assert {"name": "h2c", "containerPort": 8081, "protocol": "TCP"} in container["ports"]
    api.controller.has_grpc_weights = False
    code, summary = try_canary(call, *NEVER_READY, *BRIEF)
    assert (code, f"{TRIED} has 0 % of the traffic; 5" in summary["error"]) == (1, True)
    api.controller.has_grpc_weights = True
    assert try_canary(call, *BRIEF)[0] == 0


@pytest.mark.parametrize(
    ("mode", "says"),
    [(STANDARD, f"HTTPRoute ranker: {TRIED} has 0 %"), (KNATIVE, "00002: has 0 % of the traffic")],
)
def test_a_share_that_is_only_asked_for_is_none(api, deploy, call, mode, says):
    """KServe or Knative stops after 0 %."""
    deploy(*mode)
    reconcile = api.controller.reconcile

    def once(service):
        status = reconcile(service)
        api.is_controller_away = api.shares[-1:] == [0]
        return status

    api.controller.reconcile = once
    code, summary = try_canary(call, *NEVER_READY, *BRIEF)
    assert (code, summary["steps"], says in summary["error"]) == (1, [], True)


def test_without_the_gateway_api_no_canary_begins(api, deploy, call):
    api.controller.has_gateway = False
    assert deploy()[0] == 0
    code, summary = try_canary(call)
    assert (code, api.num_applies) == (1, 1)
    assert "HTTPRoute ranker: does not exist; KServe after 0.20 with enable" in summary["error"]


def test_a_route_that_its_gateway_refuses_gives_no_share(api, deploy, call):
    deploy()
    api.controller.is_route_accepted = False
    api.touch()
    code, summary = try_canary(call)
    assert (code, api.num_applies) == (1, 1)
    assert "its gateway has not accepted it as it is" in summary["error"]


@pytest.mark.parametrize(
    ("mode", "says"),
    [(STANDARD, f"Deployment {TRIED}: 0 of 1 replicas available"), (KNATIVE, "not ready")],
)
def test_a_canary_whose_pods_do_not_come_never_gets_a_request(api, deploy, call, mode, says):
    deploy(*mode)
    api.behaviour(CANDIDATE).never_ready = "quota is used up"
    code, summary = try_canary(call, *NEVER_READY, *BRIEF)
    assert (code, summary["rolled_back"]) == (1, True)
    assert says in summary["error"]
    assert "is False: quota is used up" in summary["error"]
    assert "all traffic is at " in summary["error"]
    assert not api.behaviour(CANDIDATE).has_traffic


def test_a_canary_of_a_service_scaled_by_keda_has_no_scaling_and_gets_it_when_promoted(
    api, deploy, call
):
    deploy("--autoscaler", "keda")
    scaling = api.live["spec"]["predictor"]["autoScaling"]
    assert try_canary(call, *BRIEF)[0] == 0
    assert "autoScaling" not in api.live["spec"]["canary"][0]["predictor"]
    assert promote(call)[0] == 0
    assert api.live["spec"]["predictor"]["autoScaling"] == scaling
