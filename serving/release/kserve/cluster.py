"""The Kubernetes API as a rollout needs it: apply, wait, read the pods' metrics.

Objects are applied by server-side apply under one field manager, so that a field of another
manager is a conflict with a name, and is not overwritten in silence.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TypeVar

from kserve.constants.constants import (
    KSERVE_GROUP,
    KSERVE_PLURAL_INFERENCESERVICE,
    KSERVE_V1BETA1_VERSION,
)
from kubernetes import client, config

from serving.release.canary_target import CanaryTargetError, ConflictError, NotReadyError
from serving.release.kserve.manifest import HTTP_PORT, Manifest

FIELD_MANAGER = "wukong-ranking"
REQUEST_TIMEOUT_SECONDS = 10.0
PAUSE_SECONDS = 2.0
_APPLY = "application/apply-patch+yaml"

logger = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


class ClusterError(CanaryTargetError):
    """The cluster returned an error, or could not be reached; the text says what and why."""


class ClusterConflictError(ClusterError, ConflictError):
    """Fields belong to another manager."""


class ClusterNotReadyError(ClusterError, NotReadyError):
    """The service did not get ready in time; the text has what its conditions say."""


class Cluster:
    """One ``InferenceService`` of one namespace.

    Args:
        api: A client with an address and credentials.
        namespace: Where the service is.
        name: Its name.
        pause_seconds: Between two looks at it while waiting.
    """

    def __init__(
        self,
        api: client.ApiClient,
        *,
        namespace: str,
        name: str,
        pause_seconds: float,
    ) -> None:
        self.name = name
        self.pause_seconds = pause_seconds
        self._objects = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._namespace = namespace
        self._place = {
            "group": KSERVE_GROUP,
            "version": KSERVE_V1BETA1_VERSION,
            "namespace": namespace,
            "plural": KSERVE_PLURAL_INFERENCESERVICE,
            "name": name,
            "_request_timeout": REQUEST_TIMEOUT_SECONDS,
        }

    def read(self) -> Manifest:
        """The object as it is now."""
        return self._call("read", lambda: self._objects.get_namespaced_custom_object(**self._place))

    def apply(self, desired: Manifest, *, force: bool = False) -> Manifest:
        """Have the object be as described; a field left out that we had set is removed.

        Raises:
            ClusterConflictError: Another manager set a field to another value; no ``force``.
            ClusterError: The cluster, or a webhook of KServe, rejected it.
        """

        def patch() -> Manifest:
            answer: Manifest = self._objects.patch_namespaced_custom_object(
                **self._place,
                body=desired,
                field_manager=FIELD_MANAGER,
                field_validation="Strict",
                force=force,
                _content_type=_APPLY,
            )
            return answer

        return self._call("apply", patch)

    def wait(
        self,
        is_done: Callable[[Manifest], bool],
        *,
        generation: int,
        what: str,
        timeout_seconds: float,
    ) -> Manifest:
        """Return the object once KServe has seen this generation and it is as wanted.

        Raises:
            ClusterNotReadyError: It is not so in time; with the messages of what is not ready.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            live = self.read()
            seen = live.get("status", {}).get("observedGeneration", 0)
            if seen >= generation and is_done(live):
                return live
            if time.monotonic() > deadline:
                raise ClusterNotReadyError(
                    f"service {self._namespace}/{self.name}: not {what} after "
                    f"{timeout_seconds:g} s; {_complaints(live, generation)}"
                )
            time.sleep(self.pause_seconds)

    def pod_metrics(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Prometheus text of each ready pod with these labels, through the API server's proxy."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        timeout = {"_request_timeout": REQUEST_TIMEOUT_SECONDS}
        pods = self._call(
            "list pods",
            lambda: self._core.list_namespaced_pod(
                self._namespace, label_selector=selector, **timeout
            ),
        )
        return {
            pod.metadata.uid or pod.metadata.name: self._metrics(pod.metadata.name)
            for pod in pods.items
            if _answers(pod)
        }

    def _metrics(self, pod: str) -> str:
        def get() -> str:
            # As it came: the client would read text as JSON where it can.
            answer = self._core.connect_get_namespaced_pod_proxy_with_path(
                f"{pod}:{HTTP_PORT}",
                self._namespace,
                "metrics",
                _preload_content=False,
                _request_timeout=REQUEST_TIMEOUT_SECONDS,
            )
            if answer.status != HTTPStatus.OK:
                raise client.ApiException(status=answer.status, reason=answer.reason)
            return str(answer.data.decode())

        return self._call(f"metrics of pod {pod}", get)

    def _call(self, what: str, call: Callable[[], _Answer]) -> _Answer:
        resource = f"{what} {self._namespace}/{self.name}"
        try:
            return call()
        except client.ApiException as error:
            raise _error_of(resource, error) from error
        except OSError as error:
            raise ClusterError(f"{resource}: {error}") from error
        except Exception as error:
            # urllib3's errors share no base with OSError, and the client does not wrap them.
            if not type(error).__module__.startswith("urllib3"):
                raise
            raise ClusterError(f"{resource}: {error}") from error


def connect(*, kubeconfig: str | None, context: str | None) -> client.ApiClient:
    """A client by a kubeconfig's context or, inside a pod without one, by the pod's account."""
    try:
        return config.new_client_from_config(config_file=kubeconfig, context=context)
    except config.ConfigException as error:
        try:
            configuration = client.Configuration()
            config.load_incluster_config(configuration)
        except config.ConfigException:
            raise ClusterError(f"kubeconfig {kubeconfig or 'default'}: {error}") from error
        return client.ApiClient(configuration)


def _answers(pod: client.V1Pod) -> bool:
    conditions = (pod.status.conditions if pod.status else None) or []
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


def _complaints(live: Manifest, generation: int) -> str:
    status = live.get("status", {})
    seen = status.get("observedGeneration", 0)
    if seen < generation:
        return f"KServe has seen generation {seen} of {generation}"
    found = [
        f"{one['type']} is {one['status']}: {one.get('message') or one.get('reason', 'no message')}"
        for one in status.get("conditions", [])
        if one["status"] != "True"
    ]
    models = [status, *status.get("canaryStatuses", [])]
    for model in models:
        failure = (model.get("modelStatus") or {}).get("lastFailureInfo") or {}
        if failure:
            found.append(f"model: {failure.get('message') or failure.get('reason')}")
    return "; ".join(found) or "its conditions say nothing"


def _error_of(resource: str, error: client.ApiException) -> ClusterError:
    try:
        status = json.loads(error.body or "{}")
    except ValueError:
        status = {}
    causes = (status.get("details") or {}).get("causes") or []
    conflicts = [one for one in causes if one.get("reason") == "FieldManagerConflict"]
    if conflicts:
        fields = "; ".join(f"{one.get('field')}: {one.get('message')}" for one in conflicts)
        return ClusterConflictError(f"{resource}: {fields}; --force takes the fields over")
    message = status.get("message") or error.reason or error.body
    return ClusterError(f"{resource}: {error.status}; {message}")
