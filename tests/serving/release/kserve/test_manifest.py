"""The manifest: what KServe's and Kubernetes' own types and schemas say of it."""

import kserve
import kubernetes_validate
import pytest
from kubernetes import client

from serving.release.kserve.changes import promoted, with_share
from serving.release.kserve.manifest import render
from serving.release.kserve.service import Autoscaler, Mode, Model, Service
from serving.settings import Limits

MODEL = Model(version="1998-04-19-5f2c01ab", storage_uri="s3://models/1998-04-19-5f2c01ab")
KINDS = [
    (Mode.STANDARD, Autoscaler.HPA),
    (Mode.STANDARD, Autoscaler.KEDA),
    (Mode.KNATIVE, Autoscaler.KPA),
]


def service(**changes):
    fields = {
        "service": "ranker",
        "namespace": "ranking",
        "dataset": "synthetic",
        "image": "registry.example/ranking:1",
        "store_claim": "online-store",
    }
    return Service(**{**fields, **changes})


def assert_known(kind, content):
    """Every key is a field of the SDK's type, down to the Kubernetes parts."""
    names = {json: python for python, json in kind.attribute_map.items()}
    assert set(content) <= set(names)
    for name, value in content.items():
        inner = kind.openapi_types[names[name]]
        item = getattr(kserve, inner.removeprefix("list[").removesuffix("]"), None)
        if item is not None:
            for one in value if isinstance(value, list) else [value]:
                assert_known(item, one)


@pytest.mark.parametrize(("mode", "autoscaler"), KINDS)
def test_it_has_only_fields_that_the_sdk_knows(mode, autoscaler):
    rendered = render(service(mode=mode, autoscaler=autoscaler), MODEL)
    assert_known(kserve.V1beta1InferenceServiceSpec, rendered["spec"])
    annotations = rendered["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == mode.value
    assert (
        annotations.get("serving.kserve.io/autoscalerClass", "kpa"),
        "autoScaling" in rendered["spec"]["predictor"],
    ) == (autoscaler.value, autoscaler is Autoscaler.KEDA)


@pytest.mark.parametrize(("mode", "autoscaler"), KINDS)
def test_its_pod_is_valid_by_the_strict_schema_of_kubernetes(mode, autoscaler):
    predictor = render(service(mode=mode, autoscaler=autoscaler), MODEL)["spec"]["predictor"]
    known = set(client.V1PodSpec.attribute_map.values())
    spec = {name: value for name, value in predictor.items() if name in known}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
    kubernetes_validate.validate(pod, "1.33", strict=True)


@pytest.mark.parametrize(("mode", "autoscaler"), KINDS)
def test_a_canary_of_it_is_known_and_valid_too(mode, autoscaler):
    """At 5 % and promoted: what the rollout applies is held against the same types and schemas."""
    other = Model(version="1998-04-20-77e09d3c", storage_uri="s3://models/1998-04-20-77e09d3c")
    live = render(service(mode=mode, autoscaler=autoscaler), MODEL)
    shared = with_share(live, other, percent=5, rollout="r")
    known = set(client.V1PodSpec.attribute_map.values())
    for desired in (shared, promoted(shared)):
        assert_known(kserve.V1beta1InferenceServiceSpec, desired["spec"])
        spec = desired["spec"]
        predictors = [spec["predictor"], *(one["predictor"] for one in spec.get("canary", []))]
        for predictor in predictors:
            pod = {name: value for name, value in predictor.items() if name in known}
            whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod}
            kubernetes_validate.validate(whole, "1.33", strict=True)
    assert (len(shared["spec"].get("canary", [])) == 1) == (mode is Mode.STANDARD)


def test_its_container_may_write_nowhere_but_in_scratch_and_store():
    predictor = render(service(), MODEL)["spec"]["predictor"]
    (container,) = predictor["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["runAsNonRoot"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert predictor["securityContext"]["runAsUser"] > 0
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert mounted == ["/tmp", "/var/ranking/feast"]


def test_its_container_serves_the_folder_that_kserve_fills():
    (container,) = render(service(), MODEL)["spec"]["predictor"]["containers"]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    assert (container["name"], env["STORAGE_URI"]) == ("kserve-container", MODEL.storage_uri)
    from serving.__main__ import command_line

    options = command_line().parser.parse_args(container["args"][2:])
    assert (str(options.model), options.http_port, options.host) == ("/mnt/models", 8080, "0.0.0.0")
    probes = {name: value for name, value in container.items() if name.endswith("Probe")}
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {8080}
    assert probes["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"service": "Ranker"}, "service: 'Ranker'"),
        ({"min_replicas": 5}, "min_replicas: 5; from 1 to max_replicas, 4"),
        ({"memory": "4 GB"}, "memory: '4 GB'"),
        ({"mode": Mode.KNATIVE, "autoscaler": Autoscaler.HPA}, "autoscaler: hpa"),
        ({"service": "a" * 40}, "at most 63"),
    ],
)
def test_what_kserve_would_refuse_is_refused_with_field_value_and_limit(changes, says):
    with pytest.raises(ValueError, match=says):
        render(service(**changes), MODEL)


def test_secrets_reach_the_pod_as_its_environment_and_stand_in_no_manifest():
    predictor = render(service(secret="ranker-environment"), MODEL)["spec"]["predictor"]
    (container,) = predictor["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "ranker-environment"}}]
    assert "envFrom" not in render(service(), MODEL)["spec"]["predictor"]["containers"][0]


def test_a_pod_waits_until_no_one_is_sent_to_it_and_may_drain_before_it_is_killed():
    spec = render(service(), MODEL)["spec"]["predictor"]
    (container,) = spec["containers"]
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert spec["terminationGracePeriodSeconds"] >= int(seconds) + 3 * Limits().drain_seconds
    knative = render(service(mode=Mode.KNATIVE, autoscaler=Autoscaler.KPA), MODEL)
    assert "terminationGracePeriodSeconds" not in knative["spec"]["predictor"]
    assert "lifecycle" not in knative["spec"]["predictor"]["containers"][0]


def test_pods_have_a_port_of_their_own_for_metrics_and_limits_like_their_requests():
    (container,) = render(service(cpu="3"), MODEL)["spec"]["predictor"]["containers"]
    arguments = container["args"]
    assert arguments[arguments.index("--metrics-port") + 1] == "8082"
    # In no list of ports: a Service would offer it to callers.
    assert 8082 not in {port["containerPort"] for port in container["ports"]}
    amounts = {"cpu": "3", "memory": "4Gi"}
    assert container["resources"] == {"requests": amounts, "limits": amounts}


def test_pods_answer_over_tls_with_a_mounted_certificate():
    predictor = render(service(tls_secret="certificate"), MODEL)["spec"]["predictor"]
    (container,) = predictor["containers"]
    probes = [value for name, value in container.items() if name.endswith("Probe")]
    assert {probe["httpGet"]["scheme"] for probe in probes} == {"HTTPS"}
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "tls")
    assert env["RANKING_TLS_CERTIFICATE"] == f"{mount['mountPath']}/tls.crt"
    assert env["RANKING_TLS_KEY"] == f"{mount['mountPath']}/tls.key"
    assert {"name": "tls", "secret": {"secretName": "certificate"}} in predictor["volumes"]
    with pytest.raises(ValueError, match="tls_secret: certificate; in mode Standard"):
        service(tls_secret="certificate", mode=Mode.KNATIVE)


def test_pods_have_the_service_account_that_is_named():
    predictor = render(service(service_account="models-reader"), MODEL)["spec"]["predictor"]
    assert predictor["serviceAccountName"] == "models-reader"
    assert not predictor["automountServiceAccountToken"]
    assert "serviceAccountName" not in render(service(), MODEL)["spec"]["predictor"]


def test_keda_scales_by_the_requests_that_prometheus_counts():
    scaled = service(autoscaler=Autoscaler.KEDA, prometheus="http://prometheus.monitoring:9090")
    spec = render(scaled, MODEL)["spec"]
    assert_known(kserve.V1beta1InferenceServiceSpec, spec)
    pods = 'namespace="ranking",pod=~"ranker-.*"'
    assert spec["predictor"]["autoScaling"]["metrics"] == [
        {
            "type": "External",
            "external": {
                "metric": {
                    "backend": "prometheus",
                    "serverAddress": "http://prometheus.monitoring:9090",
                    "query": f"sum(ranking_requests_in_flight{{{pods}}})",
                },
                "target": {"type": "Value", "value": "4"},
            },
        }
    ]
    with pytest.raises(ValueError, match=r"prometheus: .*keda only"):
        service(prometheus="http://prometheus.monitoring:9090")


def test_pods_get_the_variables_that_say_what_a_data_set_is():
    """Without its schema file a pod would not know the data set, or expect other features."""
    environment = {"RANKING_SCHEMAS": "/etc/ranking/schemas", "RANKING_PUSH": "on", "OTHER": "x"}
    environment |= {"RANKING_LOG_SHARE": "0.1", "RANKING_LOG_FOLDER": "s3://bucket/log"}
    environment |= {"RANKING_LOG_HASH_KEY": "secret"}
    rendered = render(service(), MODEL, environment=environment)
    (container,) = rendered["spec"]["predictor"]["containers"]
    given = {one["name"]: one["value"] for one in container["env"]}
    assert (given["RANKING_SCHEMAS"], given["RANKING_PUSH"]) == ("/etc/ranking/schemas", "on")
    logged = ("0.1", "s3://bucket/log")
    assert (given["RANKING_LOG_SHARE"], given["RANKING_LOG_FOLDER"]) == logged
    assert "RANKING_LOG_HASH_KEY" not in given
    assert "OTHER" not in given
    (container,) = render(service(), MODEL, environment={"RANKING_PUSH": ""})["spec"]["predictor"][
        "containers"
    ]
    assert {"RANKING_SCHEMAS", "RANKING_PUSH"} & {one["name"] for one in container["env"]} == set()
