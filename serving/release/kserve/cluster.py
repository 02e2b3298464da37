"""One ``InferenceService`` and its namespace, by the Kubernetes API.

Objects are applied by server-side apply under one field manager, so that a field of another
manager is a conflict with a name, and is not overwritten in silence. ``until``, ``change`` and
``wait`` bear what may pass by itself to their deadline; all other calls fail at once.
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from kserve.constants.constants import (
    KSERVE_GROUP,
    KSERVE_PLURAL_INFERENCESERVICE,
    KSERVE_V1BETA1_VERSION,
)
from kubernetes import client

from serving.release.canary_target import CanaryTargetError, TargetLostError
from serving.release.kserve.api import Api, Live, NotFoundError, UnavailableError

FIELD_MANAGER = "wukong-ranking"
REQUEST_TIMEOUT_SECONDS = 10.0
PAUSE_SECONDS = 2.0
_LEAST_SECONDS = 0.05
"""What a request has that begins at its deadline."""
_GATEWAY, _KNATIVE = "gateway.networking.k8s.io/v1", "serving.knative.dev/v1"
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Cluster:
    """An ``InferenceService`` and what its namespace has of it.

    Args:
        connect: A client with an address and credentials; called again when they have expired.
        namespace: Where the service is.
        name: Its name.
        pause_seconds: Between two looks at it while waiting.
    """

    def __init__(
        self,
        connect: Callable[[], client.ApiClient],
        *,
        namespace: str,
        name: str,
        pause_seconds: float,
    ) -> None:
        self.name, self.namespace = name, namespace
        self.pause_seconds = pause_seconds
        self._api = Api(connect)
        self._deadline: float | None = None
        group = f"{KSERVE_GROUP}/{KSERVE_V1BETA1_VERSION}"
        self._path = f"{self._folder(group)}/{KSERVE_PLURAL_INFERENCESERVICE}/{name}"

    def __str__(self) -> str:
        """As errors name it."""
        return f"{self.namespace}/{self.name}"

    def service(self) -> Live:
        """The object as it is now; TargetLostError without one."""
        live = self.find()
        if live is None:
            raise TargetLostError(f"service {self}: does not exist")
        return live

    def find(self) -> Live | None:
        """The object as it is now; None without one."""
        return self._get(self._path)

    def deployment(self, name: str) -> Live | None:
        """A Deployment; None without one."""
        return self._get(f"{self._folder('apps/v1')}/deployments/{name}")

    def route(self, name: str) -> Live | None:
        """An HTTPRoute of the Gateway API; None without one, or without that API."""
        return self._get(f"{self._folder(_GATEWAY)}/httproutes/{name}")

    def revision(self, name: str) -> Live | None:
        """A revision of Knative; None without one."""
        return self._get(f"{self._folder(_KNATIVE)}/revisions/{name}")

    def pod_metrics(self, labels: Mapping[str, str], *, scheme: str, port: int) -> dict[str, str]:
        """Prometheus text of each ready pod with these labels, through the API server's proxy.

        The proxy takes the caller's token for itself, so none reaches the pod.
        """
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        folder = f"/api/v1/namespaces/{self.namespace}/pods"
        pods = json.loads(self._send("GET", folder, query={"labelSelector": selector}))["items"]
        prefix = "https:" if scheme == "HTTPS" else ""
        names = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in pods if _is_ready(pod)}
        return {
            uid: self._send("GET", f"{folder}/{prefix}{name}:{port}/proxy/metrics")
            for uid, name in names.items()
        }

    def may(self, *, action: str, group: str, resource: str) -> bool:
        """Whether this account has a right in the namespace; ``pods/proxy`` is a subresource."""
        kind, _, subresource = resource.partition("/")
        asked = {"namespace": self.namespace, "verb": action, "group": group, "resource": kind}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {**asked, "subresource": subresource}},
        }
        return bool(json.loads(self._send("POST", _REVIEWS, body=review))["status"]["allowed"])

    def apply(self, desired: Live, *, force: bool = False, is_dry_run: bool = False) -> Live:
        """Have the object be as described; a field left out that we had set is removed.

        Args:
            desired: The object. With the ``resourceVersion`` of what was read it is applied only if
                nothing has changed since.
            force: Take over fields that others manage.
            is_dry_run: Only have it checked, by the webhooks too.

        Raises:
            StaleError: The object is another one by now.
            CanaryTargetError: Another manager set a field to another value and there is no
                ``force``; or the cluster, or a webhook of KServe, rejected it.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        query |= {"force": "true"} if force else {}
        query |= {"dryRun": "All"} if is_dry_run else {}
        applied: Live = json.loads(self._send("PATCH", self._path, query=query, body=desired))
        return applied

    def change(
        self,
        desired_of: Callable[[Live], Live | None],
        *,
        force: bool = False,
        is_dry_run: bool = False,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Live:
        """Read, decide and apply, again from the start when somebody else came first.

        Args:
            desired_of: What to apply for what is live; None: nothing.
            force: Take over fields that others manage.
            is_dry_run: Only have it checked.
            timeout_seconds: For how long to bear what may pass by itself.
        """

        def once() -> Live:
            live = self.service()
            desired = desired_of(live)
            if desired is None:
                return live
            return self.apply(desired, force=force, is_dry_run=is_dry_run)

        return self.until(once, timeout_seconds=timeout_seconds)

    def until(self, call: Callable[[], _Result], *, timeout_seconds: float) -> _Result:
        """Repeat a call that fails with what may pass by itself; its last error at the end."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                with self._bounded(deadline):
                    return call()
            except UnavailableError as error:
                if time.monotonic() + self.pause_seconds > deadline:
                    raise
                logger.warning("%s; trying again", error)
                time.sleep(self.pause_seconds)

    def wait(self, pending: Callable[[], str], *, what: str, timeout_seconds: float) -> None:
        """Return when nothing is pending any more.

        Args:
            pending: Why it is not yet so; empty when it is.
            what: What is awaited, for the error.
            timeout_seconds: Until when.

        Raises:
            TargetLostError: The service was deleted.
            CanaryTargetError: It is not so in time; with what is pending.
        """
        deadline = time.monotonic() + timeout_seconds
        reason = ""
        while True:
            trouble = ""
            try:
                with self._bounded(deadline):
                    reason = pending()
            except UnavailableError as error:
                trouble = str(error)
            if not reason and not trouble:
                return
            if time.monotonic() > deadline:
                after = f"not {what} after {timeout_seconds:.3g} s"
                reasons = "; ".join(filter(None, (reason, trouble)))
                raise CanaryTargetError(f"service {self}: {after}; {reasons}")
            time.sleep(self.pause_seconds)

    @contextlib.contextmanager
    def _bounded(self, deadline: float) -> Iterator[None]:
        """Let no request wait beyond a deadline."""
        before, self._deadline = self._deadline, deadline
        try:
            yield
        finally:
            self._deadline = before

    def _folder(self, api: str) -> str:
        return f"/apis/{api}/namespaces/{self.namespace}"

    def _get(self, path: str) -> Live | None:
        try:
            found: Live = json.loads(self._send("GET", path))
        except NotFoundError:
            return None
        return found

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Live | None = None,
    ) -> str:
        timeout = REQUEST_TIMEOUT_SECONDS
        if self._deadline is not None:
            timeout = min(timeout, max(self._deadline - time.monotonic(), _LEAST_SECONDS))
        return self._api.send(method, path, query=query, body=body, timeout_seconds=timeout)


def _is_ready(pod: Live) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
