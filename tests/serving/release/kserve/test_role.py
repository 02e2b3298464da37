"""The role for rollouts: it allows what the commands ask for, and nothing else."""

from pathlib import Path

import yaml
from support.serving.release.rollout_commands import BRIEF, KNATIVE, STANDARD, promote, try_canary

ROLE = Path(__file__).resolve().parents[4] / "infra/kubernetes/base/rollout-role.yaml"


def allowed():
    role = yaml.safe_load(ROLE.read_text())
    assert (role["kind"], role["apiVersion"]) == ("Role", "rbac.authorization.k8s.io/v1")
    return {
        (action, group, resource)
        for rule in role["rules"]
        for action in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_it_allows_exactly_what_the_commands_ask_for(api, deploy, call):
    """Every request of a whole rollout in both modes, a rollback included."""
    for mode in (STANDARD, KNATIVE):
        if api.stored is not None:
            api.delete()
        assert deploy(*mode)[0] == 0
        assert deploy(*mode, "--max-replicas", "6")[0] == 0
        assert try_canary(call, *BRIEF)[0] == 0
        assert call("rollback")[0] == 0
        assert try_canary(call, *BRIEF)[0] == 0
        assert promote(call)[0] == 0
    assert api.used == allowed()
    assert api.reviewed == allowed()
