"""A job as a pod: Airflow's operator for pods, with names that are given and a longer patience.

The operator makes the pod, streams its log, waits in the triggerer, and deletes it. Here is what it
does not do: a name that is there already is the same start and is taken over; an API server that
does not answer is waited for; a pod that the cluster lost is started again within the same try.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NoReturn

import aiohttp
import ranking_assets as assets
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodNotFoundException
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes.client import ApiException, V1Pod
from kubernetes_asyncio.client import ApiException as AsyncApiException
from kubernetes_asyncio.client import VersionApi

from ranking_launchers import cluster
from ranking_launchers.job import Ended, JobSpec
from ranking_launchers.sizes import Size

CONTAINER = "base"
CONFLICT = 409
POLL_SECONDS = 5.0
LOG_SECONDS = 10
"""Between two looks at a job's log."""


class JobPod(KubernetesPodOperator):
    """The provider's operator for one start of a job; the job's task defers in its stead."""

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Context) -> V1Pod:
        """The pod of this name; what earlier starts of the job have left is deleted."""
        name, namespace = pod_request_obj.metadata.name, pod_request_obj.metadata.namespace
        others = cluster.launch_of(context["ti"], self.trigger_kwargs["restart"]).others
        self.client.delete_collection_namespaced_pod(namespace, label_selector=others)
        try:
            return self.client.create_namespaced_pod(namespace, pod_request_obj)
        except ApiException as error:
            if error.status != CONFLICT:
                raise
        self.log.info("Pod %s was started before; following it", name)
        return self.hook.get_pod(name, namespace)

    def defer(self, *, trigger: BaseTrigger, timeout: object = None, **_: object) -> NoReturn:
        """Wait with our trigger, and go on in the task."""
        _, arguments = trigger.serialize()
        raise TaskDeferred(
            trigger=JobPodTrigger(**arguments), method_name="resume", timeout=timeout
        )


class JobPodTrigger(KubernetesPodTrigger):
    """The provider's trigger, which waits for an API server that is away."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """As Airflow keeps it."""
        _, arguments = super().serialize()
        return f"{__name__}.JobPodTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the pod; go on with it once an API server answers again."""
        while True:
            event = await anext(super().run())
            self._fired_event = False  # else a pod whose task is cleared meanwhile would stay
            if event.payload["status"] != "error" or not await self._came_back():
                self._fired_event = True
                yield event
                return

    async def _came_back(self) -> bool:
        """Wait while no API server answers; False where one answers at once, or none does."""
        deadline = time.monotonic() + assets.API_AWAY_SECONDS
        was_away = False
        while time.monotonic() < deadline:
            try:
                async with self.hook.get_conn() as connection:
                    await VersionApi(connection).get_code()
            except (aiohttp.ClientError, OSError, AsyncApiException) as error:
                if not cluster.is_away(error):
                    return was_away
                self.log.warning("The Kubernetes API does not answer, waiting for it: %s", error)
                was_away = True
            else:
                return was_away
            await asyncio.sleep(self.poll_interval)
        return False


class PodLauncher(cluster.ClusterLauncher):
    """Starts a job as a pod, and sees it to its end."""

    def __init__(
        self, spec: JobSpec, context: Context, task: BaseOperator, *, size: Size, namespace: str
    ) -> None:
        """As the base class."""
        super().__init__(spec, context, task, size=size, namespace=namespace)
        self.pod: JobPod | None = None

    def resume(self, event: Mapping[str, Any]) -> Ended:
        """What the pod has left, once it has ended; another one, where the cluster lost it."""
        return self._follow(lambda pod: pod.trigger_reentry(self.context, event), event["restart"])

    def kill(self) -> None:
        """Delete the pod."""
        if self.pod is not None:
            self.pod.on_kill()

    def _start(self, restart: int) -> Ended:
        return self._follow(lambda pod: pod.execute_async(self.context), restart)

    def _follow(self, act: Callable[[JobPod], object], restart: int) -> Ended:
        launch = cluster.launch_of(self.context["ti"], restart)
        pod = self.pod = self._operator(launch, restart)
        failure, is_gone = "", False
        try:
            cluster.patiently(lambda: act(pod))
        except cluster.ApiAwayError:
            raise
        except PodNotFoundException:
            is_gone = True
        except AirflowException as error:  # the pod's own state says more
            failure = str(error)
        serialize = pod.client.api_client.sanitize_for_serialization
        left = None if is_gone else serialize(pod.pod) or {}
        found = cluster.outcome(
            self.spec, launch, left, container=CONTAINER, restart=restart, failure=failure
        )
        return found or self._start(restart + 1)

    def _operator(self, launch: cluster.Launch, restart: int) -> JobPod:
        return JobPod(
            task_id=self.task.task_id,
            name=launch.name,
            namespace=self.namespace,
            pod_template_dict=pod_manifest(self.spec, self.size, launch, namespace=self.namespace),
            base_container_name=CONTAINER,
            random_name_suffix=False,
            deferrable=True,
            do_xcom_push=False,
            on_finish_action="delete_pod",
            schedule_timeout_seconds=assets.POD_START_SECONDS,
            startup_timeout_seconds=assets.POD_START_SECONDS,
            startup_check_interval_seconds=POLL_SECONDS,
            poll_interval=POLL_SECONDS,
            logging_interval=LOG_SECONDS,
            execution_timeout=self.task.execution_timeout,
            termination_message_policy="FallbackToLogsOnError",
            trigger_kwargs={"restart": restart},
        )


def pod_manifest(
    spec: JobSpec, size: Size, launch: cluster.Launch, *, namespace: str
) -> cluster.Manifest:
    """The pod of one start of a job, as Kubernetes takes it."""
    container = {
        "name": CONTAINER,
        "image": size.image,
        "command": spec.command_line(cluster.PYTHON),
        "env": cluster.environment(spec, size, launch, namespace=namespace),
        "resources": size.resources(),
        # The end of the log is where a job that leaves no result says why.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": cluster.CONTAINER_SECURITY,
        "volumeMounts": [cluster.SCRATCH],
    }
    labels = {**launch.labels, cluster.COMPONENT: size.component}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": launch.name, "namespace": namespace, "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": cluster.POD_SECURITY,
            "volumes": [cluster.SCRATCH_VOLUME],
            "serviceAccountName": size.service_account,
            "nodeSelector": size.node_selector,
            "tolerations": size.tolerations,
            "containers": [container],
        },
    }
