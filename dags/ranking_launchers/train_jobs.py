"""A job as a TrainJob of Kubeflow Trainer: one command on each of some nodes.

Trainer makes the pods and tells torchrun in each where the others are. A TrainJob whose pod the
cluster lost is started again within the same try, as a whole: training goes on from its newest
checkpoint.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import ranking_assets as assets
from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook, KubernetesHook
from airflow.providers.cncf.kubernetes.utils.pod_manager import AsyncPodManager
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes.client import ApiException
from kubernetes_asyncio.client import ApiException as AsyncApiException
from kubernetes_asyncio.client import CoreV1Api, CustomObjectsApi

from ranking_launchers import cluster
from ranking_launchers.job import Ended, JobSpec
from ranking_launchers.pods import CONFLICT, LOG_SECONDS, POLL_SECONDS
from ranking_launchers.sizes import Size

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
CONNECTION = "kubernetes_default"
CONTAINER, NODES = "node", "node"
"""In the pods of Trainer's runtimes, and their name for the training's part of the JobSet."""
_JOB_SET = "jobset.sigs.k8s.io/jobset-name"
_NODE = "batch.kubernetes.io/job-completion-index"
NOT_FOUND = 404
_NO_LOG_YET = {400, NOT_FOUND}


class TrainJobLauncher(cluster.ClusterLauncher):
    """Starts a job as a TrainJob, and sees it to its end."""

    def __init__(
        self, spec: JobSpec, context: Context, task: BaseOperator, *, size: Size, namespace: str
    ) -> None:
        """As the base class."""
        super().__init__(spec, context, task, size=size, namespace=namespace)
        self.hook = KubernetesHook(conn_id=CONNECTION)
        self.place = (GROUP, VERSION, namespace, PLURAL)
        self.launch: cluster.Launch | None = None

    def resume(self, event: Mapping[str, Any]) -> Ended:
        """What it has left, once it has ended; another one, where the cluster lost it."""
        restart = event["restart"]
        launch = self.launch = cluster.launch_of(self.context["ti"], restart)
        job = cluster.patiently(lambda: self._job(launch))
        if event["status"] == "ended" and job is not None and not _has_ended(job):
            return self._start(restart)  # the triggerer found no API server, and this task does
        pod = cluster.patiently(lambda: self._pod(launch, job)) if job else None
        message = _condition(job or {}, "Failed")
        cluster.patiently(self.kill)
        if event["status"] == "timeout":
            raise AirflowException(f"{self.spec.name}: {event['message']}")
        found = cluster.outcome(
            self.spec, launch, pod, container=CONTAINER, restart=restart, failure=message
        )
        return found or self._start(restart + 1)

    def kill(self) -> None:
        """Delete the TrainJob, and with it its pods."""
        if self.launch is None:
            return
        try:
            self.hook.custom_object_client.delete_namespaced_custom_object(
                *self.place, self.launch.name
            )
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise

    def _start(self, restart: int) -> Ended:
        launch = self.launch = cluster.launch_of(self.context["ti"], restart)
        cluster.patiently(lambda: self._create(launch))
        limit = self.task.execution_timeout
        raise TaskDeferred(
            trigger=TrainJobTrigger(
                name=launch.name,
                namespace=self.namespace,
                restart=restart,
                until=time.time() + limit.total_seconds() if limit else None,
            ),
            method_name="resume",
        )

    def _create(self, launch: cluster.Launch) -> None:
        api = self.hook.custom_object_client
        api.delete_collection_namespaced_custom_object(*self.place, label_selector=launch.others)
        manifest = train_job(self.spec, self.size, launch, namespace=self.namespace)
        try:
            api.create_namespaced_custom_object(*self.place, manifest)
        except ApiException as error:
            if error.status != CONFLICT:
                raise
            self.task.log.info("TrainJob %s was created before; following it", launch.name)

    def _job(self, launch: cluster.Launch) -> cluster.Manifest | None:
        try:
            job: cluster.Manifest = self.hook.custom_object_client.get_namespaced_custom_object(
                *self.place, launch.name
            )
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise
            return None
        return job

    def _pod(self, launch: cluster.Launch, job: cluster.Manifest) -> cluster.Manifest:
        """The pod that says how a TrainJob ended; empty where it has none any more."""
        listed = self.hook.core_v1_client.list_namespaced_pod(
            self.namespace, label_selector=f"{_JOB_SET}={launch.name}"
        )
        pods = self.hook.api_client.sanitize_for_serialization(listed.items)
        pods.sort(key=lambda pod: int(pod["metadata"]["labels"].get(_NODE, 0)))
        # The first node's, unless another was lost or has failed: then the first ends by torchrun.
        lost = [pod for pod in pods if cluster.lost_reason(pod)]
        failed = [pod for pod in pods if pod.get("status", {}).get("phase") == "Failed"]
        order = [*lost, *failed, *pods] if _condition(job, "Failed") else pods
        return order[0] if order else {}


class TrainJobTrigger(BaseTrigger):
    """Fires once a TrainJob has ended; its first node's log goes to the task's meanwhile."""

    def __init__(self, *, name: str, namespace: str, restart: int, until: float | None) -> None:
        """Args: the TrainJob, its number of restarts, and epoch seconds of its time-out."""
        super().__init__()
        self.name = name
        self.namespace = namespace
        self.restart = restart
        self.until = until
        self.hook = AsyncKubernetesHook(conn_id=CONNECTION)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """As Airflow keeps it, so that any triggerer goes on with it."""
        names = ("name", "namespace", "restart", "until")
        return f"{__name__}.TrainJobTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the TrainJob and at its log, until it has ended or a deadline is over."""
        logs = _Logs(self.hook, self.name, self.namespace)
        answered = time.monotonic()
        while True:
            try:
                if await self._is_over():
                    await asyncio.sleep(1)  # the lines of the current second are left to this look
                    await logs.look()
                    yield self._event("ended")
                    return
                await logs.look_sometimes()
                answered = time.monotonic()
            except (aiohttp.ClientError, OSError, AsyncApiException) as error:
                if not cluster.is_away(error):
                    raise
                self.log.warning("The Kubernetes API does not answer, waiting for it: %s", error)
                if time.monotonic() - answered > assets.API_AWAY_SECONDS:
                    yield self._event("ended")  # the task asks again, and says what it is told
                    return
            if self.until is not None and time.time() > self.until:
                yield self._event("timeout", f"TrainJob {self.name} ran into its time-out")
                return
            await asyncio.sleep(POLL_SECONDS)

    async def on_kill(self) -> None:
        """Delete the TrainJob: its task was cleared or marked by a person."""
        async with self.hook.get_conn() as connection:
            await CustomObjectsApi(connection).delete_namespaced_custom_object(
                GROUP, VERSION, self.namespace, PLURAL, self.name
            )

    async def _is_over(self) -> bool:
        async with self.hook.get_conn() as connection:
            try:
                job = await CustomObjectsApi(connection).get_namespaced_custom_object(
                    GROUP, VERSION, self.namespace, PLURAL, self.name
                )
            except AsyncApiException as error:
                if error.status != NOT_FOUND:
                    raise
                return True
        return _has_ended(job)

    def _event(self, status: str, message: str = "") -> TriggerEvent:
        return TriggerEvent({"status": status, "restart": self.restart, "message": message})


class _Logs:
    """The log of a TrainJob's first node, in the task's log."""

    def __init__(self, hook: AsyncKubernetesHook, name: str, namespace: str) -> None:
        self.hook = hook
        self.manager = AsyncPodManager(async_hook=hook)
        self.selector = f"{_JOB_SET}={name},{_NODE}=0"
        self.namespace = namespace
        self.seen: Any = None
        self.looked = 0.0

    async def look_sometimes(self) -> None:
        """Lines that have come since the last look, when that was long enough ago."""
        if time.monotonic() - self.looked > LOG_SECONDS:
            await self.look()

    async def look(self) -> None:
        """Lines that have come since the last look, but for those of this second."""
        self.looked = time.monotonic()
        async with self.hook.get_conn() as connection:
            pods = await CoreV1Api(connection).list_namespaced_pod(
                self.namespace, label_selector=self.selector
            )
        for pod in pods.items[:1]:
            try:
                self.seen = await self.manager.fetch_container_logs_before_current_sec(
                    pod, container_name=CONTAINER, since_time=self.seen
                )
            except AsyncApiException as error:
                if error.status not in _NO_LOG_YET:
                    raise


def _has_ended(job: cluster.Manifest) -> bool:
    return bool(_condition(job, "Complete") or _condition(job, "Failed"))


def _condition(job: cluster.Manifest, kind: str) -> str:
    """The message of a condition that holds; empty where it does not."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["type"] == kind and condition["status"] == "True":
            return str(condition.get("message") or kind)
    return ""


def train_job(
    spec: JobSpec, size: Size, launch: cluster.Launch, *, namespace: str
) -> cluster.Manifest:
    """The TrainJob of one start of a job, as Kubeflow Trainer takes it."""
    container = {
        "name": CONTAINER,
        "securityContext": cluster.CONTAINER_SECURITY,
        "volumeMounts": [cluster.SCRATCH],
    }
    pod = {
        "serviceAccountName": size.service_account,
        "nodeSelector": size.node_selector,
        "tolerations": size.tolerations,
        "securityContext": cluster.POD_SECURITY,
        "volumes": [cluster.SCRATCH_VOLUME],
        "containers": [container],
    }
    labels = {cluster.COMPONENT: size.component}
    template = {"spec": {"template": {"metadata": {"labels": labels}, "spec": pod}}}
    nodes = {"name": NODES, "template": template}
    patch = {"template": {"spec": {"replicatedJobs": [nodes]}}}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {"name": launch.name, "namespace": namespace, "labels": launch.labels},
        "spec": {
            "runtimeRef": {
                "apiGroup": GROUP,
                "kind": "ClusterTrainingRuntime",
                "name": size.runtime,
            },
            "trainer": {
                "image": size.image,
                "numNodes": size.num_nodes,
                "command": spec.command_line(cluster.PYTHON),
                "env": cluster.environment(spec, size, launch, namespace=namespace),
                "resourcesPerNode": size.resources(),
            },
            "runtimePatches": [
                {"manager": "ranking.airflow/jobs", "trainingRuntimeSpec": patch},
            ],
        },
    }
