"""The ``InferenceService`` for KServe, made of the KServe SDK's own types.

The transformer and the predictor are one process here, so one container holds both: no hop between
them, and a canary takes the whole path along. What a canary changes is in ``changes``.
"""

import os
from collections.abc import Mapping
from typing import Any

import kserve
from kserve.constants.constants import KSERVE_KIND_INFERENCESERVICE, KSERVE_V1BETA1
from kubernetes import client

from features.datasets.catalog import PUSH
from features.datasets.schema_files.discovery import SCHEMAS
from serving.release.kserve.service import (
    MAX_LABEL_CHARACTERS,
    Autoscaler,
    Mode,
    Model,
    Service,
)

CONTAINER = "kserve-container"
"""The name by which KServe knows the container that answers."""
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8080, 8081, 8082
METRICS_FLAG = "--metrics-port"
"""Of the server: the API server's proxy, by which a canary reads metrics, passes no token on."""
MODEL_FOLDER = "/mnt/models"
"""Where KServe's storage initializer puts what ``STORAGE_URI`` names."""
STORAGE_URI = "STORAGE_URI"
VERSION_LABEL = "app.kubernetes.io/version"
MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
AUTOSCALER_ANNOTATION = "serving.kserve.io/autoscalerClass"
_LEAVE_SECONDS = 5
"""Before a pod gets SIGTERM: until then the cluster goes on sending requests to it."""
_GRACE_SECONDS = 45
"""Until it is killed: that, what the server takes to drain, and to write its log of answers."""
_PASSED_ON = (SCHEMAS, PUSH, "RANKING_LOG_SHARE", "RANKING_LOG_FOLDER", "RANKING_LOG_SECONDS")
"""What a data set is, without which a pod would not know it or expect other features; and which of
its answers are logged, and where. The key that hashes ids is a secret's."""
_STORE_FOLDER, _TLS_FOLDER = "/var/ranking/feast", "/etc/ranking/tls"
_USER_ID = 1000
_CPU_TARGET_PERCENT = 70
_CONCURRENCY_TARGET = 4


def render(
    service: Service, model: Model, *, environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """The object to apply: one model that has all traffic.

    Args:
        service: What stays when the model changes.
        model: The model.
        environment: Of who deploys: the pods get what it says of data sets and the log.
    """
    deployment = {name: environment[name] for name in _PASSED_ON if environment.get(name)}
    predictor = kserve.V1beta1PredictorSpec(
        **_pod(service, model, deployment),
        **_scaling(service),
        # Knative names its revisions itself; in mode Standard the name is the model's.
        name=revision_name(service.service, model) if service.mode is Mode.STANDARD else None,
        min_replicas=service.min_replicas,
        max_replicas=service.max_replicas,
        labels={VERSION_LABEL: model.version},
    )
    annotations = {MODE_ANNOTATION: service.mode.value}
    if service.mode is Mode.STANDARD:
        annotations[AUTOSCALER_ANNOTATION] = service.scaled_by.value
    metadata = client.V1ObjectMeta(
        name=service.service, namespace=service.namespace, annotations=annotations
    )
    whole = kserve.V1beta1InferenceService(
        api_version=KSERVE_V1BETA1,
        kind=KSERVE_KIND_INFERENCESERVICE,
        metadata=_plain(metadata),
        spec=kserve.V1beta1InferenceServiceSpec(predictor=predictor),
    )
    rendered: dict[str, Any] = kserve.ApiClient().sanitize_for_serialization(whole)
    return rendered


def _plain(part: Any) -> Any:
    """A type of the Kubernetes client as JSON.

    Neither library's client writes the other's types: given KServe's, that of Kubernetes 37 writes
    Python's names for their fields, which the API server takes for unknown ones.
    """
    return client.ApiClient().sanitize_for_serialization(part)


def revision_name(service_name: str, model: Model) -> str:
    """The predictor's name; ValueError where the Deployment's name would be too long."""
    deployment = f"{service_name}-{model.revision}-predictor"
    if len(deployment) > MAX_LABEL_CHARACTERS:
        raise ValueError(
            f"name and version: {deployment!r}, the Deployment's name, has {len(deployment)} "
            f"characters; at most {MAX_LABEL_CHARACTERS}"
        )
    return model.revision


def _pod(service: Service, model: Model, deployment: Mapping[str, str]) -> dict[str, Any]:
    claim = client.V1PersistentVolumeClaimVolumeSource(claim_name=service.store_claim)
    volumes = [
        client.V1Volume(name="scratch", empty_dir=client.V1EmptyDirVolumeSource()),
        client.V1Volume(name="store", persistent_volume_claim=claim),
    ]
    if service.tls_secret:
        source = client.V1SecretVolumeSource(secret_name=service.tls_secret)
        volumes.append(client.V1Volume(name="tls", secret=source))
    pod = {
        "containers": [_container(service, model, deployment)],
        "volumes": volumes,
        "security_context": client.V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=_USER_ID,
            fs_group=_USER_ID,
            seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault"),
        ),
        "automount_service_account_token": False,
    }
    if service.service_account:
        pod["service_account_name"] = service.service_account
    if service.mode is Mode.STANDARD:  # Knative's own proxy drains a pod, and it rejects the field
        pod["termination_grace_period_seconds"] = _GRACE_SECONDS
    return {name: _plain(part) for name, part in pod.items()}


def _container(service: Service, model: Model, deployment: Mapping[str, str]) -> client.V1Container:
    serve = ["-m", "serving", "serve", "--dataset", service.dataset, "--host", "0.0.0.0"]
    ports = ["--http-port", str(HTTP_PORT), "--grpc-port", str(GRPC_PORT)]
    ports += [METRICS_FLAG, str(METRICS_PORT)]
    env = {STORAGE_URI: model.storage_uri, "HOME": "/tmp", "TMPDIR": "/tmp", **deployment}
    mounts = [
        client.V1VolumeMount(name="scratch", mount_path="/tmp"),
        client.V1VolumeMount(name="store", mount_path=_STORE_FOLDER),
    ]
    if service.tls_secret:
        env["RANKING_TLS_CERTIFICATE"] = f"{_TLS_FOLDER}/tls.crt"
        env["RANKING_TLS_KEY"] = f"{_TLS_FOLDER}/tls.key"
        mounts.append(client.V1VolumeMount(name="tls", mount_path=_TLS_FOLDER, read_only=True))
    amounts = {"cpu": service.cpu, "memory": service.memory}
    folders = ["--store", _STORE_FOLDER, "--model", MODEL_FOLDER, "--compiled", "/tmp/compiled"]
    # Knative's own proxy drains a pod, and its service has one port.
    wait = client.V1ExecAction(command=["sleep", str(_LEAVE_SECONDS)])
    lifecycle = client.V1Lifecycle(pre_stop=client.V1LifecycleHandler(_exec=wait))
    http = client.V1ContainerPort(name="http1", container_port=HTTP_PORT, protocol="TCP")
    grpc = client.V1ContainerPort(name="h2c", container_port=GRPC_PORT, protocol="TCP")
    secret = client.V1EnvFromSource(secret_ref=client.V1SecretEnvSource(name=service.secret))
    return client.V1Container(
        name=CONTAINER,
        image=service.image,
        command=["python"],
        args=[*serve, *ports, *folders],
        env=[client.V1EnvVar(name=name, value=value) for name, value in env.items()],
        env_from=[secret] if service.secret else None,
        ports=[http] if service.mode is Mode.KNATIVE else [http, grpc],
        # Where no limit is set, KServe's defaulter sets one CPU, which may be below the request.
        resources=client.V1ResourceRequirements(requests=amounts, limits=amounts),
        volume_mounts=mounts,
        security_context=client.V1SecurityContext(
            run_as_non_root=True,
            read_only_root_filesystem=True,
            allow_privilege_escalation=False,
            capabilities=client.V1Capabilities(drop=["ALL"]),
        ),
        lifecycle=None if service.mode is Mode.KNATIVE else lifecycle,
        **_probes("HTTPS" if service.tls_secret else "HTTP"),
    )


def _probes(scheme: str) -> dict[str, client.V1Probe]:
    """The server listens once its model is loaded and warm; until then the startup probe runs."""

    def get(path: str, **timing: int) -> client.V1Probe:
        action = client.V1HTTPGetAction(path=path, port=HTTP_PORT, scheme=scheme)
        return client.V1Probe(http_get=action, timeout_seconds=5, **timing)

    return {
        "startup_probe": get("/v2/health/live", period_seconds=5, failure_threshold=60),
        "readiness_probe": get("/v2/health/ready", period_seconds=5, failure_threshold=2),
        "liveness_probe": get("/v2/health/live", period_seconds=10, failure_threshold=6),
    }


def _scaling(service: Service) -> dict[str, Any]:
    if service.scaled_by is Autoscaler.KPA:
        return {"scale_metric": "concurrency", "scale_target": _CONCURRENCY_TARGET}
    if service.scaled_by is Autoscaler.HPA:
        return {"scale_metric": "cpu", "scale_target": _CPU_TARGET_PERCENT}
    return {"auto_scaling": kserve.V1beta1AutoScalingSpec(metrics=[_keda_metric(service)])}


def _keda_metric(service: Service) -> kserve.V1beta1MetricsSpec:
    """Requests at one time in a pod, which Prometheus knows; without it the processor's time."""
    if not service.prometheus:
        target = kserve.V1beta1MetricTarget(
            type="Utilization", average_utilization=_CPU_TARGET_PERCENT
        )
        resource = kserve.V1beta1ResourceMetricSource(name="cpu", target=target)
        return kserve.V1beta1MetricsSpec(type="Resource", resource=resource)
    pods = f'namespace="{service.namespace}",pod=~"{service.service}-.*"'
    metric = kserve.V1beta1ExternalMetrics(
        backend="prometheus",
        server_address=service.prometheus,
        query=f"sum(ranking_requests_in_flight{{{pods}}})",
    )
    # KServe hands the value to KEDA, which divides the sum by it: so many pods there are.
    target = kserve.V1beta1MetricTarget(type="Value", value=str(_CONCURRENCY_TARGET))
    external = kserve.V1beta1ExternalMetricSource(metric=metric, target=target)
    return kserve.V1beta1MetricsSpec(type="External", external=external)
