"""What pods and TrainJobs share: names, environment, results, and an API server that is away."""

import abc
import hashlib
import json
import logging
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import ranking_assets as assets
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException
from airflow.sdk.types import RuntimeTaskInstanceProtocol
from kubernetes.client import ApiException
from upath import UPath
from urllib3.exceptions import HTTPError

from ranking_launchers.job import Ended, JobSpec, error_in
from ranking_launchers.sizes import Size

PYTHON = "python"
"""Of the image."""
COMPONENT = "app.kubernetes.io/component"
"""Label by which network policies know a pod."""
JOB, LAUNCH = "ranking/job", "ranking/launch"
"""Labels: of the task that the job is for, and of one start of it."""
MAX_RESTARTS = 5
"""Starts of a job that the cluster lost, within one try of Airflow."""
API_POLL_SECONDS = 5.0
_LOST = {"Evicted", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated"}
"""Reasons of a pod's status that are the cluster's."""
_AWAY = {0, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)}
_SIGNALLED = 128
"""An exit code is the number of a signal and this, where one ended the container."""
_Got = TypeVar("_Got")
Manifest = dict[str, Any]
log = logging.getLogger(__name__)


class Launch(NamedTuple):
    """One start of a job: by its names, a second start is the same one."""

    job: str
    """Of the task instance, in any of its tries."""
    name: str
    """Of the pod or the TrainJob."""

    @property
    def labels(self) -> dict[str, str]:
        """By which it is found."""
        return {JOB: self.job, LAUNCH: self.name, "app.kubernetes.io/part-of": "ranking"}

    @property
    def others(self) -> str:
        """Selector of what earlier tries and starts have left."""
        return f"{JOB}={self.job},{LAUNCH}!={self.name}"

    @property
    def result(self) -> UPath:
        """Where the job puts its summary."""
        return assets.ROOT / "results" / f"{self.name}.json"


class ClusterLauncher(abc.ABC):
    """What starts one job on a cluster, and sees it to its end."""

    def __init__(
        self, spec: JobSpec, context: Context, task: BaseOperator, *, size: Size, namespace: str
    ) -> None:
        """Args: the job, its task, the size class, and the namespace of all jobs."""
        self.spec = spec
        self.context = context
        self.task = task
        self.size = size
        self.namespace = namespace

    def start(self) -> Ended:
        """Start the job and defer; returns where one that was started before has ended."""
        return self._start(restart=0)

    @abc.abstractmethod
    def resume(self, event: Mapping[str, Any]) -> Ended:
        """What the job has left, once it has ended; another start, where the cluster lost it."""

    @abc.abstractmethod
    def kill(self) -> None:
        """Delete it."""

    @abc.abstractmethod
    def _start(self, restart: int) -> Ended: ...


class ApiAwayError(AirflowException):
    """No API server has answered for as long as a task waits; another try may find one."""


def launch_of(ti: RuntimeTaskInstanceProtocol, restart: int) -> Launch:
    """The names follow from DAG, run, task, map index, try and restart, and from nothing else."""
    job = [ti.dag_id, ti.run_id, ti.task_id, ti.map_index]
    # The name of a TrainJob's pod is longer, and has 63 characters at most.
    words = re.sub(r"[^a-z0-9]+", "-", ti.task_id.lower()).strip("-")[:24]
    name = f"{words}-{_hash(*job, ti.try_number)}-{restart}"
    return Launch(_hash(*job), name)


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]


POD_SECURITY: Manifest = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Manifest = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
SCRATCH: Manifest = {"name": "scratch", "mountPath": "/tmp"}
"""The only folder that a job writes to."""
SCRATCH_VOLUME: Manifest = {"name": SCRATCH["name"], "emptyDir": {}}


def environment(spec: JobSpec, size: Size, launch: Launch, *, namespace: str) -> list[Manifest]:
    """The variables of the job's container."""
    shared = {**assets.shared_environment(), **size.environment}
    own = {**spec.environment, "RANKING_RESULT": str(launch.result)}
    variables: list[Manifest] = [
        {"name": name, "value": value} for name, value in {**shared, **own}.items()
    ]
    for name, key in size.secrets.items():
        secret, _, entry = key.partition("/")
        source = {"secretKeyRef": {"name": secret, "key": entry, "optional": True}}
        variables.append({"name": name, "valueFrom": source})
    if size.spark is not None:
        variables += _spark(size, shared, launch, namespace=namespace)
    return variables


def _spark(
    size: Size, shared: Mapping[str, str], launch: Launch, *, namespace: str
) -> list[Manifest]:
    """Of a driver in client mode: Spark itself reads the master and its settings from these."""
    spark = size.spark
    assert spark is not None
    settings = {
        # Executors find the driver by its pod's address, and end with the pod.
        "spark.driver.host": "$(SPARK_LOCAL_IP)",
        "spark.kubernetes.driver.pod.name": launch.name,
        "spark.kubernetes.namespace": namespace,
        "spark.kubernetes.container.image": size.image,
        "spark.executor.instances": spark.executors,
        "spark.executor.cores": spark.cores,
        "spark.executor.memory": spark.memory,
        "spark.driver.memory": spark.driver_memory,
        **{f"spark.executorEnv.{name}": value for name, value in shared.items()},
        **{f"spark.kubernetes.node.selector.{k}": v for k, v in size.node_selector.items()},
        **{
            f"spark.kubernetes.executor.secretKeyRef.{name}": key.replace("/", ":")
            for name, key in size.secrets.items()
        },
        **spark.settings,
    }
    given = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    return [
        {"name": "SPARK_MASTER", "value": spark.master},
        {"name": "SPARK_LOCAL_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "PYSPARK_SUBMIT_ARGS", "value": shlex.join([*given, "pyspark-shell"])},
    ]


def patiently(call: Callable[[], _Got]) -> _Got:
    """What a call of the API returns; while no server answers it is repeated, until a deadline."""
    deadline = time.monotonic() + assets.API_AWAY_SECONDS
    while True:
        try:
            return call()
        except (HTTPError, ApiException) as error:
            if not is_away(error):
                raise
            if time.monotonic() > deadline:
                raise ApiAwayError(
                    f"the Kubernetes API has not answered for {assets.API_AWAY_SECONDS} s; "
                    f"limit RANKING_API_AWAY_SECONDS: {error}"
                ) from error
            log.warning("The Kubernetes API does not answer, waiting for it: %s", error)
        time.sleep(API_POLL_SECONDS)


def is_away(error: Exception) -> bool:
    """Whether an error says that no API server has dealt with the call; of either client."""
    status = getattr(error, "status", None)
    return not isinstance(status, int) or status in _AWAY


def lost_reason(pod: Manifest | None) -> str:
    """Why the cluster and not the job ended a pod; empty where it did not."""
    if pod is None:
        return "it is gone, and left no result"
    status = pod.get("status", {})
    for condition in status.get("conditions") or ():
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"
    if status.get("reason") in _LOST:
        return f"{status['reason']}: {status.get('message', '')}"
    return ""


def outcome(
    spec: JobSpec,
    launch: Launch,
    pod: Manifest | None,
    *,
    container: str,
    restart: int,
    failure: str,
) -> Ended | None:
    """How a job ended; None where the cluster lost it, and it is to be started again.

    Args:
        spec: The job.
        launch: This start of it.
        pod: The pod that says how it ended; None where it is gone.
        container: Of the job, in that pod.
        restart: How often it was started again before.
        failure: What else is known, for the error.

    Raises:
        AirflowException: Nothing says how it ended, or the cluster lost it too often.
    """
    found, reason = _ended(launch, pod, container), lost_reason(pod)
    if found is not None and not (found.exit_code and reason):
        return found
    if not reason:
        raise AirflowException(f"{spec.name}: {launch.name}: {failure or 'it left no result'}")
    if restart >= MAX_RESTARTS:
        raise AirflowException(
            f"{spec.name}: lost by the cluster {restart + 1} times; limit {MAX_RESTARTS} restarts; "
            f"the last: {reason}"
        )
    log.warning("%s was lost, and is started again: %s", launch.name, reason)
    return None


def _ended(launch: Launch, pod: Manifest | None, container: str) -> Ended | None:
    """By its result object and its container; None where neither says so."""
    state = _terminated(pod, container)
    result = _read_result(launch.result)
    if not (state or result):
        return None
    code = int(state["exitCode"] if state else result["exit_code"])
    summary = result.get("summary")
    lines = str(state.get("message") or "").splitlines()
    reasons = [reason for line in lines if (reason := error_in(line))]
    said = state.get("reason") or ""
    reason = "" if said in {"Completed", "Error"} else said
    return Ended(
        exit_code=_SIGNALLED - code if code > _SIGNALLED else code,
        output=json.dumps(summary) if summary else "",
        source=f"result {launch.result}",
        error=str((summary or {}).get("error") or (reasons or [reason])[-1]),
    )


def _terminated(pod: Manifest | None, container: str) -> Manifest:
    statuses: Sequence[Manifest] = ((pod or {}).get("status", {})).get("containerStatuses") or ()
    found = [one["state"].get("terminated") for one in statuses if one["name"] == container]
    return (found or [None])[0] or {}


def _read_result(place: UPath) -> Manifest:
    """What the job has put, which nobody needs twice."""
    try:
        result: Manifest = json.loads(place.read_bytes())
    except FileNotFoundError:
        return {}
    place.unlink(missing_ok=True)
    return result
