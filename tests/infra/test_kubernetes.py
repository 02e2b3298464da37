"""The manifests: valid without a cluster, whole, contained, and with no right that nobody needs."""

import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "kubernetes"
VERSION = "1.36"
OPERATORS = {"monitoring.coreos.com/v1", "trainer.kubeflow.org/v1alpha1"}
"""APIs of operators, which the schemas of Kubernetes do not have."""
OF_THE_CLUSTER = {"Namespace", "ClusterTrainingRuntime"}
"""Kinds that are in no namespace."""
IMAGES = {path.name.partition(".")[0] for path in (ROOT / "infra/images").glob("*.Containerfile")}
OF_OTHERS = {"docker.io/library/redis:7.4", "docker.io/library/postgres:17"}

MAKES = {"create", "delete", "deletecollection", "get", "list", "watch"}
RIGHTS = {
    "ranking-launcher": {
        ("", "pods"): MAKES | {"patch"},
        ("", "pods/log"): {"get"},
        ("", "events"): {"list", "watch"},
        ("trainer.kubeflow.org", "trainjobs"): MAKES,
    },
    "ranking-spark": {("", "pods"): MAKES},
    # tests/serving/release/kserve/test_role.py holds it against what the commands ask for.
    "ranking-rollout": {
        ("serving.kserve.io", "inferenceservices"): {"get", "patch", "create"},
        ("apps", "deployments"): {"get"},
        ("gateway.networking.k8s.io", "httproutes"): {"get"},
        ("serving.knative.dev", "revisions"): {"get"},
        ("", "pods"): {"list"},
        ("", "pods/proxy"): {"get"},
    },
}
"""What the accounts of a role may do, by API group and resource."""
HOLDERS = {
    "ranking-launcher": {("airflow", "airflow-worker"), ("airflow", "airflow-triggerer")},
    "ranking-spark": {("ranking", "ranking-spark")},
    "ranking-rollout": {("ranking", "ranking-rollout")},
}
"""Who has a role, by namespace; every other account has no right."""


def read(*files: str) -> list[dict]:
    return [
        document for name in files for document in yaml.safe_load_all((FOLDER / name).read_text())
    ]


def resources(folder: str) -> list[str]:
    listed = yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text())["resources"]
    return [f"{folder}/{name}" for name in listed if name.endswith(".yaml")]


BASE = read(*resources("base"))
TRIAL = BASE + read(*resources("overlays/trial"))
SECRETS = read("secrets.yaml")[0]
VALUES = read("airflow-values.yaml")[0]


def named(document: dict) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def of_kind(kind: str, documents: list[dict] = TRIAL) -> dict[str, dict]:
    return {d["metadata"]["name"]: d for d in documents if d["kind"] == kind}


def pods() -> dict[str, dict]:
    """The pods' specifications, by the workload that has them."""
    workloads = {**of_kind("Deployment"), **of_kind("StatefulSet")}
    return {name: w["spec"]["template"]["spec"] for name, w in workloads.items()}


CONTAINERS = {
    f"{workload}/{container['name']}": container
    for workload, pod in pods().items()
    for container in [*pod.get("initContainers", []), *pod["containers"]]
}


def values_of(tree: object, key: str) -> list:
    """Everything that stands under a key, wherever in a document."""
    if isinstance(tree, dict):
        own = [tree[key]] if key in tree else []
        return own + [found for branch in tree.values() for found in values_of(branch, key)]
    if isinstance(tree, list):
        return [found for branch in tree for found in values_of(branch, key)]
    return []


@pytest.mark.parametrize("document", TRIAL, ids=named)
def test_a_manifest_is_what_the_api_server_takes(document):
    if document["apiVersion"] not in OPERATORS:
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_each_object_is_there_once_and_in_a_namespace_of_ours():
    assert len({named(document) for document in TRIAL}) == len(TRIAL)
    spaces = set(of_kind("Namespace"))
    placed = [d for d in TRIAL if d["kind"] not in OF_THE_CLUSTER]
    assert {d["metadata"].get("namespace") for d in placed} <= spaces


def test_every_file_of_the_folder_is_used():
    listed = {FOLDER / name for name in [*resources("base"), *resources("overlays/trial")]}
    found = {*FOLDER.glob("base/*.yaml"), *FOLDER.glob("overlays/*/*.yaml")}
    assert {path for path in found if path.name != "kustomization.yaml"} == listed


def test_images_accounts_and_environments_that_a_pod_names_are_there():
    for name, container in CONTAINERS.items():
        image = container["image"]
        assert image in OF_OTHERS or image.removeprefix("ranking-") in IMAGES, name
    accounts = {pod["serviceAccountName"] for pod in pods().values()}
    assert accounts <= set(of_kind("ServiceAccount"))
    maps = {found["name"] for found in values_of(TRIAL, "configMapRef")}
    assert maps <= set(of_kind("ConfigMap"))


SIZES = yaml.safe_load((FOLDER / "sizes.yaml").read_text())
CLASSES = {name: {**SIZES["defaults"], **own} for name, own in SIZES["sizes"].items()}


@pytest.mark.parametrize("name", CLASSES)
def test_what_a_size_class_names_is_there(name):
    """Images, accounts, secrets, and a component that the network policies know."""
    size = CLASSES[name]
    image = size["image"].removeprefix("ranking-").partition(":")[0]
    assert image.removesuffix("-cuda") in IMAGES
    assert size["service_account"] in of_kind("ServiceAccount")
    assert SIZES["namespace"] in of_kind("Namespace")
    for entry in size["secrets"].values():
        secret, _, key = entry.partition("/")
        assert key in SECRETS["ranking"][secret]
    components = {
        value
        for found in values_of(list(of_kind("NetworkPolicy").values()), "values")
        for value in found
    }
    assert size["component"] in components
    rights = {"spark": "ranking-spark", "rollout": "ranking-rollout"}
    assert size["service_account"] == rights.get(name, size["service_account"])


def test_secrets_are_named_with_their_keys_and_have_no_values():
    assert not of_kind("Secret")
    known = SECRETS["ranking"]
    whole = {found["name"] for found in values_of(TRIAL, "secretRef")}
    volumes = values_of(TRIAL, "secret")
    whole |= {found["secretName"] for found in volumes}
    accounts = of_kind("ServiceAccount").values()
    whole |= {found["name"] for account in accounts for found in account.get("secrets", ())}
    assert whole <= set(known)
    keyed = values_of(TRIAL, "secretKeyRef")
    keyed += [{"name": v["secretName"], **item} for v in volumes for item in v.get("items", ())]
    assert all(found["key"] in known[found["name"]] for found in keyed)
    # KServe's pods are made by `python -m serving deploy --secret`.
    assert set(known) == whole | {found["name"] for found in keyed} | {"ranking-endpoint"}


def test_the_page_makes_every_secret_with_its_keys():
    page = (ROOT / "docs" / "cluster.md").read_text().replace("\\\n", "")
    made = {
        (space, name): set(re.findall(r"--from-(?:literal|file)=([\w.-]+)", options))
        for space, name, options in re.findall(
            r"kubectl -n (\w+) create secret generic (\S+)(.*)", page
        )
    }
    listed = {(s, name): set(keys) for s, found in SECRETS.items() for name, keys in found.items()}
    assert made == listed


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_contained(name):
    container, pod = CONTAINERS[name], pods()[name.partition("/")[0]]
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}


def test_a_role_has_exactly_the_rights_that_are_listed():
    roles = {
        name: {
            (group, resource): set(rule["verbs"])
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
        for name, role in of_kind("Role").items()
    }
    assert roles == RIGHTS
    assert not of_kind("ClusterRole")
    assert not of_kind("ClusterRoleBinding")


def test_a_role_is_held_by_exactly_the_accounts_that_are_listed():
    holders = {
        binding["roleRef"]["name"]: {(s["namespace"], s["name"]) for s in binding["subjects"]}
        for binding in of_kind("RoleBinding").values()
    }
    assert holders == HOLDERS
    with_token = {
        name
        for name, account in of_kind("ServiceAccount").items()
        if account["automountServiceAccountToken"]
    }
    assert with_token == {name for found in HOLDERS.values() for s, name in found if s == "ranking"}


def test_accounts_and_secrets_of_airflows_chart_are_those_of_the_manifests():
    parts = ("workers", "triggerer", "scheduler", "dagProcessor", "apiServer")
    accounts = {part: VALUES[part]["serviceAccount"]["name"] for part in parts}
    launchers = {name for _, name in HOLDERS["ranking-launcher"]}
    assert {accounts["workers"], accounts["triggerer"]} == launchers
    assert not launchers & {accounts["scheduler"], accounts["dagProcessor"], accounts["apiServer"]}
    assert all(set(VALUES[part]["resources"]["limits"]) == {"cpu", "memory"} for part in parts)
    secrets = {value for key, value in VALUES.items() if key.endswith("SecretName")}
    secrets |= {VALUES["data"]["metadataSecretName"]}
    secrets |= set(re.findall(r"secretRef:\n *name: (\S+)", VALUES["extraEnvFrom"]))
    assert secrets == set(SECRETS["airflow"])
    contained = VALUES["securityContexts"]["containers"]
    assert contained["readOnlyRootFilesystem"] is True
    assert VALUES["securityContexts"]["pod"]["runAsNonRoot"] is True


def test_what_is_set_for_all_is_a_variable_of_the_product():
    page = (ROOT / "docs" / "configuration.md").read_text()
    ours = [n for n in of_kind("ConfigMap")["ranking"]["data"] if n.startswith("RANKING_")]
    assert all(f"| `{name}` |" in page for name in ours)


@pytest.mark.process
@pytest.mark.parametrize("overlay", ["trial", "production"])
def test_an_overlay_is_made_by_kustomize_and_valid(overlay):
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl, which has kustomize")
    made = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)],
        capture_output=True,
        text=True,
        check=True,
    )
    documents = list(yaml.safe_load_all(made.stdout))
    for document in documents:
        if document["apiVersion"] not in OPERATORS:
            kubernetes_validate.validate(document, VERSION, strict=True)
    assert {named(d) for d in documents} >= {named(d) for d in BASE}
    assert ("ranking-postgres" in of_kind("StatefulSet", documents)) == (overlay == "trial")
    own = {image for image in values_of(documents, "image") if "ranking-" in image}
    assert all(image.startswith("registry.example/") for image in own) == (overlay == "production")
