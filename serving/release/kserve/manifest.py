"""The ``InferenceService`` for KServe, made of the KServe SDK's own types.

The transformer and the predictor are one process here, so one container holds both: no hop between
them, and a canary takes the whole path along. What a canary changes is in ``traffic``.
"""

import dataclasses
import enum
import re
from typing import Any

import kserve
from kserve.constants.constants import KSERVE_KIND_INFERENCESERVICE, KSERVE_V1BETA1
from kubernetes import client

Manifest = dict[str, Any]
"""An object of Kubernetes as JSON."""
CONTAINER = "kserve-container"
"""The name by which KServe knows the container that answers."""
HTTP_PORT, GRPC_PORT = 8080, 8081
MODEL_FOLDER = "/mnt/models"
"""Where KServe's storage initializer puts what ``STORAGE_URI`` names."""
STORAGE_URI = "STORAGE_URI"
VERSION_LABEL = "app.kubernetes.io/version"
MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
AUTOSCALER_ANNOTATION = "serving.kserve.io/autoscalerClass"
PASSED_ANNOTATION = "wukong-ranking/canary-passed"
"""The version whose canary has passed every step; it goes with the canary."""
MAX_LABEL_CHARACTERS = 63
_LEAVE_SECONDS = 5
"""Before a pod gets SIGTERM: until then the cluster goes on sending requests to it."""
_GRACE_SECONDS = 45
"""Until it is killed: that, what the server takes to drain, and to write its log of answers."""
_STORE_FOLDER = "/var/ranking/feast"
_USER_ID = 1000
_CPU_TARGET_PERCENT = 70
_CONCURRENCY_TARGET = 4
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")


class Mode(enum.Enum):
    """How KServe runs the pods."""

    STANDARD = "Standard"
    KNATIVE = "Knative"


class Autoscaler(enum.Enum):
    """What decides the number of pods; KPA is Knative's own."""

    HPA = "hpa"
    KEDA = "keda"
    KPA = "kpa"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """One exported ranker: its version, and where the cluster fetches its folder from."""

    version: str
    storage_uri: str

    def __post_init__(self) -> None:
        """Check what the cluster would reject only once the pod starts."""
        if not re.fullmatch(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?", self.version):
            raise ValueError(
                f"version: {self.version!r}; at most {MAX_LABEL_CHARACTERS} letters, digits, "
                "'-', '_' or '.', as in a label's value"
            )
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+", self.storage_uri):
            raise ValueError(f"storage_uri: {self.storage_uri!r}; such as s3://bucket/folder")

    @property
    def revision(self) -> str:
        """The version as a part of the names of Kubernetes objects."""
        return "v" + re.sub(r"[^a-z0-9]+", "-", self.version.lower()).strip("-")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service:
    """What stays when the model changes.

    ``store_claim`` is the volume claim with the Feast registry and online store. ``secret`` is the
    secret whose entries become the pod's environment, such as RANKING_TOKEN and RANKING_ONLINE.
    ``cpu`` and ``memory`` are requested for a pod; ``memory`` is its limit too.
    """

    name: str
    namespace: str
    dataset: str
    image: str
    store_claim: str
    secret: str = ""
    mode: Mode = Mode.STANDARD
    autoscaler: Autoscaler = Autoscaler.HPA
    min_replicas: int = 2
    max_replicas: int = 4
    cpu: str = "2"
    memory: str = "4Gi"

    def __post_init__(self) -> None:
        """ValueError with field, value and limit for what KServe would reject or ignore."""
        for field in ("name", "namespace", "store_claim"):
            if not _LABEL.fullmatch(value := getattr(self, field)):
                raise ValueError(f"{field}: {value!r}; lower-case letters, digits and '-'")
        if self.secret and not _LABEL.fullmatch(self.secret):
            raise ValueError(f"secret: {self.secret!r}; lower-case letters, digits and '-'")
        for field in ("cpu", "memory"):
            if not _QUANTITY.fullmatch(value := getattr(self, field)):
                raise ValueError(f"{field}: {value!r}; a quantity such as 500m or 4Gi")
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"min_replicas: {self.min_replicas}; from 1 to max_replicas, {self.max_replicas}"
            )
        if (self.mode is Mode.KNATIVE) != (self.autoscaler is Autoscaler.KPA):
            raise ValueError(
                f"autoscaler: {self.autoscaler.value}; hpa or keda in mode Standard, kpa in Knative"
            )


def render(service: Service, model: Model) -> Manifest:
    """The object to apply: one model that has all traffic."""
    predictor = kserve.V1beta1PredictorSpec(
        **_pod(service, model),
        **_scaling(service),
        # Knative names its revisions itself; in mode Standard the name is the model's.
        name=revision_name(service.name, model) if service.mode is Mode.STANDARD else None,
        min_replicas=service.min_replicas,
        max_replicas=service.max_replicas,
        labels={VERSION_LABEL: model.version},
    )
    annotations = {MODE_ANNOTATION: service.mode.value}
    if service.mode is Mode.STANDARD:
        annotations[AUTOSCALER_ANNOTATION] = service.autoscaler.value
    metadata = client.V1ObjectMeta(
        name=service.name, namespace=service.namespace, annotations=annotations
    )
    whole = kserve.V1beta1InferenceService(
        api_version=KSERVE_V1BETA1,
        kind=KSERVE_KIND_INFERENCESERVICE,
        metadata=_plain(metadata),
        spec=kserve.V1beta1InferenceServiceSpec(predictor=predictor),
    )
    rendered: Manifest = kserve.ApiClient().sanitize_for_serialization(whole)
    return rendered


def _plain(part: object) -> object:
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


def _pod(service: Service, model: Model) -> Manifest:
    claim = client.V1PersistentVolumeClaimVolumeSource(claim_name=service.store_claim)
    pod = {
        "containers": [_container(service, model)],
        "volumes": [
            client.V1Volume(name="scratch", empty_dir=client.V1EmptyDirVolumeSource()),
            client.V1Volume(name="store", persistent_volume_claim=claim),
        ],
        "security_context": client.V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=_USER_ID,
            fs_group=_USER_ID,
            seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault"),
        ),
        "automount_service_account_token": False,
    }
    if service.mode is Mode.STANDARD:  # Knative's own proxy drains a pod, and it rejects the field
        pod["termination_grace_period_seconds"] = _GRACE_SECONDS
    return {name: _plain(part) for name, part in pod.items()}


def _container(service: Service, model: Model) -> client.V1Container:
    serve = ["-m", "serving", "serve", "--dataset", service.dataset, "--host", "0.0.0.0"]
    ports = ["--http-port", str(HTTP_PORT), "--grpc-port", str(GRPC_PORT)]
    env = {STORAGE_URI: model.storage_uri, "HOME": "/tmp", "TMPDIR": "/tmp"}
    folders = ["--store", _STORE_FOLDER, "--model", MODEL_FOLDER, "--compiled", "/tmp/compiled"]
    secret = client.V1EnvFromSource(secret_ref=client.V1SecretEnvSource(name=service.secret))
    return client.V1Container(
        name=CONTAINER,
        image=service.image,
        command=["python"],
        args=[*serve, *ports, *folders],
        env=[client.V1EnvVar(name=name, value=value) for name, value in env.items()],
        env_from=[secret] if service.secret else None,
        ports=_ports(service.mode),
        resources=client.V1ResourceRequirements(
            requests={"cpu": service.cpu, "memory": service.memory},
            limits={"memory": service.memory},
        ),
        volume_mounts=[
            client.V1VolumeMount(name="scratch", mount_path="/tmp"),
            client.V1VolumeMount(name="store", mount_path=_STORE_FOLDER),
        ],
        security_context=client.V1SecurityContext(
            run_as_non_root=True,
            read_only_root_filesystem=True,
            allow_privilege_escalation=False,
            capabilities=client.V1Capabilities(drop=["ALL"]),
        ),
        lifecycle=_lifecycle(service.mode),
        **_probes(),
    )


def _lifecycle(mode: Mode) -> client.V1Lifecycle | None:
    if mode is Mode.KNATIVE:
        return None
    wait = client.V1ExecAction(command=["sleep", str(_LEAVE_SECONDS)])
    return client.V1Lifecycle(pre_stop=client.V1LifecycleHandler(_exec=wait))


def _ports(mode: Mode) -> list[client.V1ContainerPort]:
    ports = [client.V1ContainerPort(name="http1", container_port=HTTP_PORT, protocol="TCP")]
    if mode is Mode.STANDARD:  # a Knative service has one port
        grpc = client.V1ContainerPort(name="h2c", container_port=GRPC_PORT, protocol="TCP")
        ports.append(grpc)
    return ports


def _probes() -> dict[str, client.V1Probe]:
    """The server listens once its model is loaded and warm; until then the startup probe runs."""

    def get(path: str, **timing: int) -> client.V1Probe:
        action = client.V1HTTPGetAction(path=path, port=HTTP_PORT)
        return client.V1Probe(http_get=action, timeout_seconds=5, **timing)

    return {
        "startup_probe": get("/v2/health/live", period_seconds=5, failure_threshold=60),
        "readiness_probe": get("/v2/health/ready", period_seconds=5, failure_threshold=2),
        "liveness_probe": get("/v2/health/live", period_seconds=10, failure_threshold=6),
    }


def _scaling(service: Service) -> Manifest:
    if service.autoscaler is Autoscaler.KPA:
        return {"scale_metric": "concurrency", "scale_target": _CONCURRENCY_TARGET}
    if service.autoscaler is Autoscaler.HPA:
        return {"scale_metric": "cpu", "scale_target": _CPU_TARGET_PERCENT}
    target = kserve.V1beta1MetricTarget(type="Utilization", average_utilization=_CPU_TARGET_PERCENT)
    resource = kserve.V1beta1ResourceMetricSource(name="cpu", target=target)
    metric = kserve.V1beta1MetricsSpec(type="Resource", resource=resource)
    return {"auto_scaling": kserve.V1beta1AutoScalingSpec(metrics=[metric])}
