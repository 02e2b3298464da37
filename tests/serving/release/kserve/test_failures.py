"""An API server that is away, slow or refuses: what is borne, what ends at once, what is said."""

import time

import pytest
from support.serving.release.kubernetes_api import REFUSED
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

from serving.release import canary
from serving.release.kserve import cluster, manifest, target

BEFORE = 6
"""Requests by which a deployment finds its rights and the service; they are not repeated."""
AWAY = [REFUSED, 500, 503, 429, 504]


@pytest.fixture(autouse=True)
def brief_attempts(monkeypatch):
    monkeypatch.setattr(canary, "ROLL_BACK_SECONDS", 1.0)
    monkeypatch.setattr(target, "_ATTEMPT_SECONDS", 0.3)


def once_applied(api, act):
    """Do something when the canary has its first share of the traffic."""
    controller, done = api.controller, []
    reconcile = controller.reconcile

    def watched(service):
        status = reconcile(service)
        if not done and controller.shares and controller.shares[-1] == 5:
            done.append(act())
        return status

    controller.reconcile = watched


@pytest.mark.parametrize("fault", AWAY)
def test_a_deployment_bears_an_api_server_that_is_away_for_a_while(api, deploy, fault):
    deploy()
    applied = []

    def faults(request):
        applied.append(request.method)
        return fault if BEFORE < len(applied) <= BEFORE + 5 else None

    api.fault_of = faults
    assert deploy("--min-replicas", "3", *PATIENT)[0] == 0
    assert len(applied) > BEFORE + 5


@pytest.mark.parametrize("fault", AWAY)
def test_a_canary_bears_an_api_server_that_is_away_for_a_while(api, deploy, call, fault):
    deploy()
    once_applied(api, lambda: api.faults.extend([fault] * 8))
    code, summary = try_canary(call, *BRIEF)
    assert (code, summary.get("error")) == (0, None)
    assert promote(call, *PATIENT)[0] == 0


@pytest.mark.parametrize("fault", AWAY)
def test_metrics_that_cannot_be_read_for_a_while_are_read_again(api, deploy, call, fault):
    deploy()
    readings = []

    def faults(request):
        if request.resource.plural != "pods" or not api.shares or api.shares[-1] != 5:
            return None
        readings.append(request)
        return fault if len(readings) <= 5 else None

    api.fault_of = faults
    assert try_canary(call, *BRIEF)[0] == 0
    assert len(readings) > 5


def test_an_api_server_that_hangs_ends_a_wait_at_its_deadline(api, deploy, monkeypatch):
    deploy()
    monkeypatch.setattr(cluster, "REQUEST_TIMEOUT_SECONDS", 30.0)
    seen = []

    def hang(request):
        seen.append(request)
        api.delay_seconds = 3.0 if len(seen) > BEFORE else 0.0

    api.fault_of = hang
    started = time.monotonic()
    code, summary = deploy("--min-replicas", "3", "--ready-timeout-seconds", "0.5")
    assert (code, "timed out" in summary["error"].lower()) == (1, True)
    assert time.monotonic() - started < 2.5
    # The client's own retries would each have had the time once more.
    assert len(seen) == BEFORE + 1
    api.delay_seconds = 0


@pytest.mark.parametrize("mode", [STANDARD, KNATIVE])
def test_a_service_that_is_deleted_ends_its_canary_at_once(api, deploy, call, mode):
    deploy(*mode)
    once_applied(api, lambda: setattr(api, "fault_of", delete_once(api)))
    started = time.monotonic()
    code, summary = try_canary(call, *BRIEF, "--step-timeout-seconds", "60")
    assert (code, summary["rolled_back"]) == (1, False)
    assert summary["error"].startswith("service ranking/ranker: does not exist")
    assert "all traffic is at" not in summary["error"]
    assert time.monotonic() - started < 10


def delete_once(api):
    def act(_):
        if api.stored is not None:
            api.delete()

    return act


def test_a_webhook_that_is_down_for_the_rollback_is_waited_for(api, deploy, call):
    deploy()
    api.behaviour(CANDIDATE).failed_share = 0.5
    seen = []

    def webhook(request):
        if request.method == "PATCH" and api.shares and api.shares[-1] == 5:
            seen.append(request)
            return 500 if len(seen) < 12 else None
        return None

    api.fault_of = webhook
    code, summary = try_canary(call, *BRIEF)
    assert (code, summary["rolled_back"]) == (1, True)
    assert len(seen) >= 12
    assert "canary" not in api.live["spec"]


def test_the_first_reason_is_kept_where_the_rollback_fails_too(api, deploy, call):
    deploy()
    api.behaviour(CANDIDATE).failed_share = 0.5
    once_applied(
        api,
        lambda: setattr(api, "fault_of", lambda one: 500 if one.method == "PATCH" else None),
    )
    code, summary = try_canary(call, *BRIEF)
    assert (code, summary["rolled_back"], summary["verdict"]) == (1, False, "broken")
    assert summary["error"].startswith(f"{CANDIDATE} at 5 %: error rate above the control's")
    assert "could not be rolled back in 1 s: " in summary["error"]
    assert "500; failed calling webhook; run `python -m serving rollback`" in summary["error"]
    assert "all traffic is at" not in summary["error"]


def test_traffic_is_said_to_be_back_only_when_the_route_says_so(api, deploy, call):
    """The service takes the change; KServe does not come to the route."""
    deploy()
    api.behaviour(CANDIDATE).failed_share = 0.5
    once_applied(api, lambda: setattr(api, "is_controller_away", True))
    code, summary = try_canary(call, *BRIEF)
    assert (code, summary["rolled_back"]) == (1, False)
    assert "canary" not in api.live["spec"]
    assert "all traffic is at" not in summary["error"]
    assert "HTTPRoute ranker: ranker-v2025-06-01-aaaa-predictor has 95 %" in summary["error"]


def test_a_token_that_is_renewed_in_its_file_is_read_again(api, deploy, call, tmp_path):
    api.token = "first"
    deploy()

    def renew():
        (tmp_path / "token").write_text("second")
        api.token = "second"

    once_applied(api, renew)
    assert try_canary(call, *BRIEF)[0] == 0
    assert promote(call, *PATIENT)[0] == 0


def test_a_token_that_is_revoked_leaves_the_reason_and_the_way_out(api, deploy, call):
    api.token = "first"
    deploy()
    once_applied(api, lambda: setattr(api, "token", "another"))
    code, summary = try_canary(call, *NEVER_READY, *BRIEF)
    assert (code, summary["rolled_back"]) == (1, False)
    assert "401; Unauthorized" in summary["error"]
    assert summary["error"].endswith("run `python -m serving rollback`")


RIGHTS = {
    ("get", "deployments"): STANDARD,
    ("get", "httproutes"): STANDARD,
    ("get", "revisions"): KNATIVE,
    ("list", "pods"): STANDARD,
    ("get", "pods/proxy"): KNATIVE,
    ("patch", "inferenceservices"): STANDARD,
}


@pytest.mark.parametrize(("right", "mode"), RIGHTS.items())
def test_a_right_that_is_missing_is_named_before_anything_changes(api, deploy, call, right, mode):
    deploy(*mode)
    api.missing = {right}
    code, summary = try_canary(call)
    assert (code, api.num_applies, api.num_dry_runs) == (1, 1, 0)
    assert f"rights in namespace ranking: no {' '.join(right)}" in summary["error"]
    assert "infra/kubernetes/base/rollout-role.yaml" in summary["error"]


def test_deploy_needs_the_right_to_create(api, deploy):
    api.missing = {("create", "inferenceservices")}
    code, summary = deploy()
    assert (code, api.num_applies) == (1, 0)
    assert "no create inferenceservices.serving.kserve.io; " in summary["error"]


def test_pods_that_answer_over_tls_are_read_over_tls(api, deploy, call):
    api.controller.has_tls = True
    deploy("--tls-secret", "certificate")
    assert try_canary(call, *BRIEF)[0] == 0


def test_pods_whose_metrics_cannot_be_read_keep_a_canary_from_beginning(api, deploy, call):
    deploy()
    api.controller.has_tls = True
    code, summary = try_canary(call)
    assert (code, api.num_applies) == (1, 1)
    assert "502; error trying to reach service" in summary["error"]


def test_pods_without_a_port_for_metrics_are_to_be_deployed_again(api, deploy, call, monkeypatch):
    monkeypatch.setattr(manifest, "METRICS_FLAG", "--grpc-port")
    deploy()
    code, summary = try_canary(call)
    assert (code, api.num_applies) == (1, 1)
    assert "its pods have no --metrics-port; `python -m serving deploy`" in summary["error"]


def test_more_cpus_than_kserves_default_limit_are_admitted(api, deploy):
    """KServe sets a limit of one CPU where there is none, and rejects a request above it."""
    assert deploy("--cpu", "2")[0] == 0
    (container,) = api.live["spec"]["predictor"]["containers"]
    assert container["resources"]["limits"]["cpu"] == "2"


def test_a_summary_says_who_has_the_traffic_after_a_rollback(api, deploy, call):
    deploy(*KNATIVE)
    assert try_canary(call, *BRIEF)[0] == 0
    code, summary = call("rollback")
    assert (code, summary["from"], summary["to"]) == (0, CANDIDATE, CONTROL)
