"""Two who change one service: each change is of what was read, and each rollback of one's own."""

import copy

import pytest
from support.serving.release.rollout_commands import (
    BRIEF,
    CANDIDATE,
    CANDIDATE_MODEL,
    CONTROL,
    KNATIVE,
    STANDARD,
    promote,
    try_canary,
)

from serving.release import canary
from serving.release.kserve import spec, target

OTHER = ["--version", "third", "--storage-uri", "s3://models/third"]


def at_first_check(monkeypatch, *acts):
    """Do something once when a canary is judged for the first time."""
    judge, left = canary.judge, list(acts)

    def interfere(*seen, **options):
        while left:
            left.pop(0)()
        return judge(*seen, **options)

    monkeypatch.setattr(canary, "judge", interfere)


def end_canary(api):
    """What a rollback, or a deployment that ends the canary, leaves."""
    live = copy.deepcopy(api.live)
    del live["spec"]["canary"], live["metadata"]["annotations"][spec.ROLLOUT_ANNOTATION]
    api.write(live, api.live)


def test_a_status_that_is_written_meanwhile_is_read_again(api, deploy, call):
    deploy()
    api.before_apply = api.touch
    assert try_canary(call, *BRIEF)[0] == 0
    api.before_apply = api.touch
    assert promote(call)[0] == 0
    assert api.live["spec"]["predictor"]["labels"]["app.kubernetes.io/version"] == CANDIDATE


def begin_another(api):
    """What the first apply of another rollout leaves."""
    live = copy.deepcopy(api.live)
    predictor = live["spec"]["predictor"]
    tried = {name: predictor[name] for name in ("containers", "volumes")}
    labels = {"app.kubernetes.io/version": "third"}
    api.write(
        {
            **live,
            "metadata": {
                **live["metadata"],
                "annotations": {**live["metadata"]["annotations"], spec.ROLLOUT_ANNOTATION: "o"},
            },
            "spec": {
                "predictor": predictor,
                "canary": [
                    {
                        "trafficPercent": 0,
                        "predictor": {**tried, "name": "vthird", "labels": labels},
                    }
                ],
            },
        },
        live,
    )


def test_of_two_canaries_that_begin_at_once_the_second_one_does_not(api, deploy, call):
    """Between its reading and its applying the other one has begun, at 0 %."""
    deploy()
    api.before_apply = lambda: begin_another(api)
    code, summary = try_canary(call, *BRIEF)
    assert code == 1
    assert summary["error"].startswith("canary: third has 0 %; promote it or roll it back first")
    assert not summary["rolled_back"]
    assert "its canary is third, of another rollout; it is left as it is" in summary["error"]
    (tried,) = api.live["spec"]["canary"]
    assert tried["predictor"]["labels"]["app.kubernetes.io/version"] == "third"


def test_a_canary_at_0_percent_keeps_another_one_from_beginning(api, deploy, call):
    deploy()
    begin_another(api)
    code, summary = try_canary(call)
    assert code == 1
    assert summary["error"] == "canary: third has 0 %; promote it or roll it back first"


def test_a_rollout_whose_canary_was_taken_away_ends_at_once(api, deploy, call, monkeypatch):
    deploy()
    at_first_check(monkeypatch, lambda: end_canary(api))
    code, summary = try_canary(call, *BRIEF)
    assert code == 1
    assert "its canary was taken away; it is left as it is" in summary["error"]
    assert "canary" not in api.live["spec"]


def test_a_rollout_takes_no_other_canary_back(api, deploy, call, monkeypatch):
    deploy()
    at_first_check(monkeypatch, lambda: end_canary(api), lambda: begin_another(api))
    code, summary = try_canary(call, *BRIEF)
    assert (code, summary["rolled_back"]) == (1, False)
    assert "of another rollout; it is left as it is" in summary["error"]
    assert "all traffic is at" not in summary["error"]
    assert api.live["spec"]["canary"][0]["predictor"]["name"] == "vthird"


@pytest.mark.parametrize("mode", [STANDARD, KNATIVE])
def test_deploy_refuses_during_a_canary_unless_it_is_to_end_it(api, deploy, call, mode):
    deploy(*mode)
    assert try_canary(call, *BRIEF)[0] == 0
    code, summary = deploy(*mode)
    assert (code, summary["error"].startswith(f"canary: {CANDIDATE} is under way")) == (1, True)
    code, summary = deploy(*mode, "--end-canary")
    if mode is STANDARD:
        assert code == 0
        assert "canary" not in api.live["spec"]
        assert api.behaviour(CONTROL).has_traffic


def test_in_knative_no_deployment_promotes_a_canary(api, deploy, call, monkeypatch):
    """The canary is the predictor: without its share it would have all traffic."""
    deploy(*KNATIVE)
    monkeypatch.setattr(canary, "STEPS", ())
    monkeypatch.setattr(canary, "LAST", 5)
    monkeypatch.setattr(target.ServiceTarget, "conclude", lambda *_: None)
    assert try_canary(call)[0] == 0
    for version in (CANDIDATE_MODEL, []):
        code, summary = deploy(*KNATIVE, *version, "--end-canary")
        assert code == 1
        assert summary["error"].endswith("promote it or roll it back first")
    assert api.live["spec"]["predictor"]["canaryTrafficPercent"] == 5


@pytest.mark.parametrize("mode", [STANDARD, KNATIVE])
def test_deploy_takes_no_other_version_to_a_live_service(api, deploy, call, mode):
    deploy(*mode)
    before = copy.deepcopy(api.live["spec"])
    code, summary = deploy(*mode, *CANDIDATE_MODEL)
    assert code == 1
    assert summary["error"].startswith(f"version: {CANDIDATE}; {CONTROL}, which serves: ")
    assert summary["error"].endswith("`python -m serving canary` changes the version")
    assert api.live["spec"] == before


def test_in_knative_deploy_knows_who_serves_after_a_rollback(api, deploy, call):
    deploy(*KNATIVE)
    api.behaviour(CANDIDATE).failed_share = 0.5
    assert try_canary(call, *BRIEF)[0] == 1
    assert deploy(*KNATIVE, *CANDIDATE_MODEL)[0] == 1
    assert deploy(*KNATIVE)[0] == 0
    assert api.behaviour(CONTROL).has_traffic


def test_a_manifest_that_kubectl_applied_conflicts_with_nothing(api, deploy, call):
    """The limits are written out: KServe's defaulter adds none that only kubectl would manage."""
    deploy()
    api.owners["kubectl-client-side-apply"] = set(api.owners["wukong-ranking"])
    assert deploy()[0] == 0
    (container,) = api.live["spec"]["predictor"]["containers"]
    assert container["resources"]["limits"] == container["resources"]["requests"]


def test_what_promotion_would_conflict_with_keeps_a_canary_from_beginning(api, deploy, call):
    deploy()
    api.owners["kubectl-edit"] = {("spec", "predictor", "containers")}
    code, summary = try_canary(call)
    assert (code, api.num_applies) == (1, 1)
    assert '.spec.predictor.containers: conflict with "kubectl-edit"' in summary["error"]
    assert try_canary(call, *BRIEF, "--force")[0] == 0
    assert promote(call, "--force")[0] == 0


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("another", f"canary: {CANDIDATE}; another, which is to be promoted"),
        (CONTROL, f"canary: {CANDIDATE}; {CONTROL}, which is to be promoted"),
    ],
)
def test_promote_takes_only_the_version_that_is_named(api, deploy, call, named, says):
    deploy()
    assert try_canary(call, *BRIEF)[0] == 0
    before = copy.deepcopy(api.live["spec"])
    code, summary = call("promote", "--version", named)
    assert (code, says in summary["error"]) == (1, True)
    assert api.live["spec"] == before
