"""A Kubernetes API for jobs, over real HTTP, that keeps pods and TrainJobs as the real one does.

kmock serves and keeps the objects: 201 for a new one, 409 for a name that is there, 404 for one
that is not. What it lacks is added here: selectors, deletion of many, logs, phases, a watch that
has expired, and a server that does not answer. No pod runs: a test says how each one does.
"""

import datetime
from typing import Any

import aiohttp.web
from kmock import KubernetesEmulator, action, method

PODS, EVENTS = "v1/pods", "v1/events"
TRAIN_JOBS = "trainer.kubeflow.org/v1alpha1/trainjobs"
NAMESPACE = "ranking"


class JobCluster(KubernetesEmulator):
    """kmock's server with what launchers ask beyond it."""

    def start(self) -> None:
        self.resources[PODS] = {"kind": "Pod"}
        self.resources[EVENTS] = {"kind": "Event"}
        self.resources[TRAIN_JOBS] = {"kind": "TrainJob"}
        self.num_unanswered = 0
        """Calls that still find no server."""
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.logs: dict[str, list[str]] = {}
        self.keeps_deleted = False
        """Deleted pods stay, as on a node that does not answer."""

    def live(self, plural: str = "pods") -> dict[str, dict[str, Any]]:
        """What is there, by name."""
        return {
            name: found.raw
            for (resource, _, name), found in self.objects.items()
            if resource.plural == plural and not found.deleted
        }

    def post(self, name: str, *, labels: dict[str, str], spec: dict[str, Any]) -> None:
        """A pod that a controller makes."""
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
        status = {"phase": "Pending"}
        manifest = {"metadata": metadata, "spec": spec, "status": status}
        self.objects[PODS, NAMESPACE, name] = manifest

    def delete(self, name: str) -> None:
        """A pod that a controller has deleted."""
        self.objects[PODS, NAMESPACE, name].delete()

    def say(self, name: str, *lines: str) -> None:
        """More lines of a pod's log."""
        self.logs[name] += [f"{_now()} {line}" for line in lines]

    def condition(self, name: str, kind: str, message: str = "") -> None:
        """How a TrainJob has ended."""
        condition = {"type": kind, "status": "True", "message": message}
        self.objects[TRAIN_JOBS, NAMESPACE, name].patch({"status": {"conditions": [condition]}})

    def pod(self, name: str, **status: Any) -> None:
        """Set the status of a pod."""
        self.objects[PODS, NAMESPACE, name].patch({"status": status})

    def run(self, name: str, *lines: str, container: str = "base") -> None:
        """A container that runs and has written some lines a minute ago."""
        state = {"running": {"startedAt": _now()}}
        self.logs[name] = [f"{_now(-60)} {line}" for line in lines]
        self.pod(name, phase="Running", containerStatuses=[_container(container, state)])

    def end(
        self,
        name: str,
        exit_code: int = 0,
        *,
        message: str = "",
        reason: str = "",
        container: str = "base",
    ) -> None:
        """A container that has ended by itself."""
        reason = reason or ("Error" if exit_code else "Completed")
        ended = {"exitCode": exit_code, "reason": reason, "message": message, "finishedAt": _now()}
        phase = "Failed" if exit_code else "Succeeded"
        statuses = [_container(container, {"terminated": ended})]
        self.pod(name, phase=phase, containerStatuses=statuses)

    def evict(self, name: str, *, container: str = "base") -> None:
        """A pod whose node needs its memory for others."""
        self.end(name, 137, container=container)
        target = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
        self.pod(name, reason="Evicted", conditions=[{**target, "message": "node was low"}])

    async def _handle(self, request: Any) -> aiohttp.web.StreamResponse:
        if self.num_unanswered:
            self.num_unanswered -= 1
            return _status(503, "ServiceUnavailable", "the server is currently unable")
        if request.resource is None:
            return await super()._handle(request)
        if request.subresource == "log":
            oldest = _now(-float(request.params.get("sinceSeconds", "100000")))
            lines = [line for line in self.logs.get(request.name, ()) if line >= oldest]
            return aiohttp.web.Response(text="".join(f"{line}\n" for line in lines))
        if request.action == action.WATCH:
            return _status(410, "Expired", "too old resource version")
        if request.action == action.CREATE:
            return await self.create(request)
        if request.action == action.LIST or (request.method == method.DELETE and not request.name):
            return await self.many(request)
        if request.action == action.DELETE:
            self.deleted.append(request.name)
        return await super()._handle(request)

    async def create(self, request: Any) -> aiohttp.web.StreamResponse:
        name = request.data["metadata"]["name"]
        await super()._handle(request)
        key = (request.resource, request.namespace, name)
        self.objects[key].patch({"status": {"phase": "Pending"}, "metadata": {"uid": name}})
        self.created.append(name)
        return aiohttp.web.json_response(self.objects[key].raw, status=201)

    async def many(self, request: Any) -> aiohttp.web.StreamResponse:
        """List, or delete, what has the labels that are asked for."""
        asked = request.params.get("labelSelector", "")
        found = [
            entry
            for (resource, _, _), entry in self.objects.items()
            if resource == request.resource
            and not entry.deleted
            and _has(entry.raw["metadata"].get("labels", {}), asked)
        ]
        items = [entry.raw for entry in found]
        if request.method == method.DELETE:
            self.deleted += [item["metadata"]["name"] for item in items]
            for entry in found if not self.keeps_deleted else ():
                entry.delete()
        return aiohttp.web.json_response({"kind": "List", "metadata": {}, "items": items})


def _has(labels: dict[str, str], selector: str) -> bool:
    for one in filter(None, selector.split(",")):
        name, is_not, value = one.partition("!=")
        if is_not and labels.get(name) == value:
            return False
        name, is_equal, value = one.partition("=")
        if not is_not and is_equal and labels.get(name) != value:
            return False
    return True


def _container(name: str, state: dict[str, Any]) -> dict[str, Any]:
    names = {"imageID": "", "image": "ranking", "ready": False, "restartCount": 0}
    return {"name": name, "state": state, **names}


def _now(seconds: float = 0) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _status(code: int, reason: str, message: str) -> aiohttp.web.Response:
    whole = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    return aiohttp.web.json_response({**whole, "reason": reason, "message": message}, status=code)
