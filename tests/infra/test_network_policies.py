"""Which pod reaches which, by the network policies of the manifests: both ends must allow it."""

from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "infra" / "kubernetes"
POLICIES = [
    document["spec"]
    for name in ("base/network.yaml", "overlays/trial/postgres.yaml")
    for document in yaml.safe_load_all((FOLDER / name).read_text())
    if document["kind"] == "NetworkPolicy"
]
COMPONENTS = ("job", "mlflow", "online", "postgres", "push", "rollout", "spark", "train")
ENDPOINT = {"serving.kserve.io/inferenceservice": "ranker"}
PODS = {name: {"app.kubernetes.io/component": name} for name in COMPONENTS} | {"serve": ENDPOINT}
PATHS = {
    (("job", "push", "spark"), "online", 6379),
    (("serve",), "online", 6379),
    (("job", "mlflow", "push", "spark"), "postgres", 5432),
    (("job", "rollout", "train"), "mlflow", 5000),
    (("spark",), "spark", 7079),
    (("train",), "train", 29500),
}
"""All ways between pods, by the port of the far end."""
FROM_OUTSIDE = {
    ("monitoring", "push", 8083),
    ("envoy-gateway-system", "serve", 8080),
    ("envoy-gateway-system", "serve", 8081),
    ("airflow", "postgres", 5432),
}
"""Ways into pods, by the namespace that they come from."""
TO_OUTSIDE = {
    443: {"job", "push", "rollout", "serve", "spark", "train"},
    6443: {"rollout", "spark"},
    5432: {"job", "mlflow", "push", "spark"},
}
"""Who reaches an address outside of the cluster, by the port."""


def selects(selector: dict, labels: dict[str, str]) -> bool:
    """Whether a label selector takes a pod, or a namespace, with these labels."""
    by_name = selector.get("matchLabels", {})
    if any(labels.get(name) != value for name, value in by_name.items()):
        return False
    return all(
        labels.get(one["key"]) in one["values"] if one["operator"] == "In" else one["key"] in labels
        for one in selector.get("matchExpressions", ())
    )


def lets(rule: dict, peers: str, port: int, *, pod: dict | None, space: str) -> bool:
    """Whether a rule takes a peer: a pod of our namespace, or whatever is in another one."""
    if port not in [entry["port"] for entry in rule.get("ports", [{"port": port}])]:
        return False
    name = {"kubernetes.io/metadata.name": space}
    return any(
        (pod is not None and "podSelector" in peer and selects(peer["podSelector"], pod))
        or ("namespaceSelector" in peer and selects(peer["namespaceSelector"], name))
        or ("ipBlock" in peer)
        for peer in rule[peers]
    )


def allowed(
    direction: str, labels: dict[str, str], port: int, *, pod: dict | None, space: str = "ranking"
) -> bool:
    """Whether some policy of a pod allows it to reach a peer, or to be reached by it."""
    peers = {"ingress": "from", "egress": "to"}[direction]
    mine = [policy for policy in POLICIES if selects(policy["podSelector"], labels)]
    assert any(direction.capitalize() in policy["policyTypes"] for policy in mine)
    rules = [rule for policy in mine for rule in policy.get(direction, ())]
    return any(lets(rule, peers, port, pod=pod, space=space) for rule in rules)


def reaches(near: str, far: str, port: int) -> bool:
    out = allowed("egress", PODS[near], port, pod=PODS[far])
    return out and allowed("ingress", PODS[far], port, pod=PODS[near])


def test_pods_reach_one_another_on_the_listed_ways_and_no_others():
    ports = {port for _, _, port in PATHS} | {8080, 8081, 8083, 80, 443}
    expected = {(near, far, port) for nears, far, port in PATHS for near in nears}
    # All ports are open among executors and among the nodes of a training.
    expected |= {(name, name, port) for name in ("spark", "train") for port in ports}
    found = {
        (near, far, port)
        for near in PODS
        for far in PODS
        for port in ports
        if reaches(near, far, port)
    }
    assert found == expected


def test_other_namespaces_reach_pods_on_the_listed_ways_and_no_others():
    spaces = {space for space, _, _ in FROM_OUTSIDE} | {"default", "kube-system"}
    ports = {port for _, _, port in FROM_OUTSIDE} | {5000, 6379}
    found = {
        (space, far, port)
        for space in spaces
        for far in PODS
        for port in ports
        if allowed("ingress", PODS[far], port, pod=None, space=space)
    }
    assert found == FROM_OUTSIDE


@pytest.mark.parametrize("port", [*TO_OUTSIDE, 80, 22])
def test_pods_reach_outside_the_cluster_what_they_need(port):
    found = {
        near for near in PODS if allowed("egress", PODS[near], port, pod=None, space="outside")
    }
    assert found == TO_OUTSIDE.get(port, set())


def test_whoever_asks_gets_the_endpoints_metrics():
    assert all(
        allowed("ingress", PODS["serve"], 8082, pod=None, space=space)
        for space in ("monitoring", "outside")
    )


def test_every_pod_finds_names():
    assert all(allowed("egress", PODS[n], 53, pod=None, space="kube-system") for n in PODS)
