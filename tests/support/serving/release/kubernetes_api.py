"""A Kubernetes API that keeps state, over real HTTP, with KServe's controller behind it.

kmock serves. What a real API server does with the one service of these tests is added here:
server-side apply with owners of fields, 201 for what is created, 409 for a stale resourceVersion
and for fields of others, dry runs, webhooks, access reviews, refused and expired tokens, and the
ways in which it is away. It is a stand-in for a cluster: no pod runs.
"""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import aiohttp.web
import yaml
from kmock import KubernetesEmulator
from support.serving.release import field_owners
from support.serving.release.kserve_controller import Behaviour, Controller

APPLY = "application/apply-patch+yaml"
SERVICES = "serving.kserve.io/v1beta1/inferenceservices"
REFUSED = "refused"
"""A fault: the connection ends without an answer."""


class ApiServer(KubernetesEmulator):
    """kmock's server with the state of one service, and with KServe behind it."""

    def start(self) -> None:
        self.resources[SERVICES] = {"kind": "InferenceService"}
        self.controller = Controller()
        self.stored: dict[str, Any] | None = None
        self.owners: dict[str, set[tuple[str, ...]]] = {}
        self.delay_seconds = 0.0
        self.is_controller_away = False
        self.faults: list[int | str] = []
        """What the next requests get instead of their answers, oldest first."""
        self.fault_of: Callable[[Any], int | str | None] = lambda request: None
        """The same, by the request."""
        self.before_apply: Callable[[], None] | None = None
        """Called once, between a client's reading and its applying."""
        self.refused_applies: list[str] = []
        self.missing: set[tuple[str, str]] = set()
        """Rights that the account lacks: action and resource."""
        self.token: str | None = None
        self.num_applies = 0
        self.num_dry_runs = 0
        self.used: set[tuple[str, str, str]] = set()
        """Action, group and resource of each request, as a role names them."""
        self.reviewed: set[tuple[str, str, str]] = set()
        """The same of each access review."""

    @property
    def live(self) -> dict[str, Any]:
        assert self.stored is not None
        return self.stored

    @property
    def shares(self) -> list[int]:
        return self.controller.shares

    def behaviour(self, version: str) -> Behaviour:
        return self.controller.behaviour(version)

    async def _handle(self, request: Any) -> aiohttp.web.StreamResponse:
        await asyncio.sleep(self.delay_seconds)
        if (refusal := self.refusal(request)) is not None:
            return refusal
        if request.resource.plural == "selfsubjectaccessreviews":
            return self.review(request)
        if request.headers.get("Content-Type") == APPLY:
            return self.apply(request)
        if request.resource.plural == "pods":
            return self.pods(request)
        found = self.controller.children.get((request.resource.plural, request.name))
        if request.resource.plural == "inferenceservices":
            found = self.stored
        if found is None:
            return _status(404, "NotFound", f"{request.resource.plural} {request.name} not found")
        return aiohttp.web.json_response(found)

    def refusal(self, request: Any) -> aiohttp.web.Response | None:
        """What a request gets in place of its answer."""
        fault = self.fault_of(request) or (self.faults.pop(0) if self.faults else None)
        if fault == REFUSED:
            request._raw_request.transport.abort()
            return aiohttp.web.Response()
        if isinstance(fault, int):
            return _status(fault, "Fault", "failed calling webhook" if fault == 500 else "away")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        if request.resource.plural == "selfsubjectaccessreviews":
            return None
        for right in _rights(request, exists=self.stored is not None):
            self.used.add(right)
            if (right[0], right[2]) in self.missing:
                return _status(403, "Forbidden", f"cannot {right[0]} {right[2]}")
        return None

    def delete(self) -> None:
        self.stored = None
        self.controller.children.clear()

    def review(self, request: Any) -> aiohttp.web.Response:
        asked = request.data["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked["subresource"])))
        self.reviewed.add((asked["verb"], asked["group"], resource))
        allowed = (asked["verb"], resource) not in self.missing
        return aiohttp.web.json_response({"status": {"allowed": allowed}}, status=201)

    def apply(self, request: Any) -> aiohttp.web.Response:
        is_dry_run = request.params.get("dryRun") == "All"
        if self.before_apply and not is_dry_run:
            hook, self.before_apply = self.before_apply, None
            hook()
        manager, force = request.params["fieldManager"], request.params.get("force") == "true"
        body = yaml.safe_load(request.body)
        is_new = self.stored is None
        live: dict[str, Any] = {} if is_new else copy.deepcopy(self.live)
        read = body["metadata"].pop("resourceVersion", None)
        if read is not None and read != live.get("metadata", {}).get("resourceVersion"):
            return _status(409, "Conflict", "the object has been modified")
        owners = copy.deepcopy(self.owners) if is_dry_run else self.owners
        if found := field_owners.conflicts(owners, live, body, manager=manager, force=force):
            return _status(409, "Conflict", "Apply failed", causes=found)
        new = field_owners.merged(live, body, owners=owners, manager=manager)
        reason = "" if is_dry_run else (self.refused_applies or [""]).pop(0)
        if reason := self.controller.webhook(new) or reason:
            return _status(422, "Invalid", reason)
        if is_dry_run:
            self.num_dry_runs += 1
            return aiohttp.web.json_response(new)
        self.num_applies += 1
        field_owners.own(owners, body, manager=manager)
        self.write(new, live)
        return aiohttp.web.json_response(self.live, status=201 if is_new else 200)

    def edit(self, manager: str, path: tuple[str, ...], value: Any) -> None:
        """Set a field as another manager."""
        new = copy.deepcopy(self.live)
        node = new
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value
        self.owners.setdefault(manager, set()).add(path)
        self.owners["wukong-ranking"].discard(path)
        self.write(new, self.live)

    def write(self, new: dict[str, Any], live: dict[str, Any]) -> None:
        """Keep an object; KServe then writes into its status, which is another version again."""
        metadata = new["metadata"]
        of_spec = live.get("metadata", {}).get("generation", 0)
        metadata["generation"] = of_spec + (new["spec"] != live.get("spec"))
        metadata["resourceVersion"] = str(int(metadata.get("resourceVersion", "0")) + 1)
        if not self.is_controller_away:
            new["status"] = self.controller.reconcile(new)
        self.stored = new

    def touch(self) -> None:
        """A status that somebody writes: the object is another version, with the same spec."""
        self.write(copy.deepcopy(self.live), self.live)

    def pods(self, request: Any) -> aiohttp.web.Response:
        if request.name is None:
            selector = dict(one.split("=") for one in request.params["labelSelector"].split(","))
            version = self.controller.version_of(selector)
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            pod = {"metadata": {"name": f"pod-{version}", "uid": version}, "status": ready}
            found = {"kind": "PodList", "apiVersion": "v1", "items": [pod]}
            return aiohttp.web.json_response(found)
        assert request.subresource == "proxy/metrics"
        # The proxy keeps the token for itself: the pod's own port would answer 401.
        prefix, suffix = "https:pod-" if self.controller.has_tls else "pod-", ":8082"
        if not (request.name.startswith(prefix) and request.name.endswith(suffix)):
            return _status(502, "BadGateway", "error trying to reach service")
        text = self.behaviour(request.name.removeprefix(prefix).removesuffix(suffix)).scrape()
        return aiohttp.web.Response(body=text, content_type="text/plain")


def _rights(request: Any, *, exists: bool) -> list[tuple[str, str, str]]:
    """What a role must allow for a request; an apply that creates needs two rights."""
    actions = {"GET": "get" if request.name else "list", "PATCH": "patch"}
    resource = request.resource.plural
    if request.subresource:
        resource += f"/{request.subresource.split('/')[0]}"
    found = [(actions[str(request.method.value)], request.resource.group or "", resource)]
    if request.headers.get("Content-Type") == APPLY and not exists:
        found.append(("create", *found[0][1:]))
    return found


def _status(code: int, reason: str, message: str, **details: Any) -> aiohttp.web.Response:
    whole = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    whole |= {"reason": reason, "message": message, "details": details}
    return aiohttp.web.json_response(whole, status=code)
