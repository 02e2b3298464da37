"""A Kubernetes API that keeps state, over real HTTP, with KServe's controller behind it.

kmock serves and keeps the objects. What it lacks is added here: server-side apply with owners of
fields, KServe's webhook, and what its controller writes into a status. It is a stand-in for a
cluster: no pod runs.
"""

import asyncio
import copy
import dataclasses
from typing import Any

import aiohttp.web
import yaml
from kmock import KubernetesEmulator
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from serving.observability import metrics

APPLY = "application/apply-patch+yaml"
SERVICES = "serving.kserve.io/v1beta1/inferenceservices"
VERSION = "app.kubernetes.io/version"


@dataclasses.dataclass
class Behaviour:
    """How the pods of a version do; each scrape finds new requests, while it has traffic."""

    failed_share: float = 0.0
    is_full: bool = False
    """Its failures are requests that found no place."""
    seconds: float = 0.03
    score: float = 0.35
    requests_per_scrape: int = 200
    never_ready: str = ""
    has_traffic: bool = False

    def __post_init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["version", "outcome"]
        of_all = Counter("ranking_version_requests", "-", labels, registry=self.registry)
        self.requests = {
            outcome: of_all.labels("of-the-pod", outcome) for outcome in ("complete", "failed")
        }
        self.turned_away = Counter("ranking_turned_away", "-", registry=self.registry)
        self.latency = Histogram("ranking_request_seconds", "-", registry=self.registry)
        scores = Histogram(
            *("ranking_version_mean_score", "-", ["version"]),
            buckets=metrics.MEAN_SCORE_BUCKETS,
            registry=self.registry,
        )
        self.scores = scores.labels("of-the-pod")

    def scrape(self) -> bytes:
        for number in range(self.requests_per_scrape if self.has_traffic else 0):
            if number < self.failed_share * self.requests_per_scrape:
                (self.turned_away if self.is_full else self.requests["failed"]).inc()
                continue
            self.requests["complete"].inc()
            self.latency.observe(self.seconds)
            self.scores.observe(self.score)
        return generate_latest(self.registry)


class ApiServer(KubernetesEmulator):
    """kmock's server with server-side apply, and with KServe behind it."""

    def start(self) -> None:
        self.resources[SERVICES] = {"kind": "InferenceService"}
        self.behaviours: dict[str, Behaviour] = {}
        self.owners: dict[str, set[tuple[str, ...]]] = {}
        self.shares: list[int] = []
        self.delay_seconds = 0.0
        self.is_controller_away = False
        self.refused_applies: list[str] = []
        self.num_applies = 0

    @property
    def live(self) -> dict[str, Any]:
        return self.objects[SERVICES, "ranking", "ranker"].raw

    def behaviour(self, version: str) -> Behaviour:
        return self.behaviours.setdefault(version, Behaviour())

    async def _handle(self, request: Any) -> aiohttp.web.StreamResponse:
        await asyncio.sleep(self.delay_seconds)
        if request.headers.get("Content-Type") == APPLY:
            return self.apply(request)
        if request.resource is not None and request.resource.plural == "pods":
            return self.pods(request)
        return await super()._handle(request)

    def apply(self, request: Any) -> aiohttp.web.Response:
        self.num_applies += 1
        manager, force = request.params["fieldManager"], request.params.get("force") == "true"
        body = yaml.safe_load(request.body)
        key = (request.resource, request.namespace, request.name)
        live = copy.deepcopy(self.objects[key].raw) if key in self.objects else {}
        if conflicts := self.conflicts(live, body, manager=manager, force=force):
            return _status(409, "Conflict", "Apply failed", causes=conflicts)
        new = _merged(live, body, removed=self.owners.get(manager, set()) - _leaves(body))
        if reason := _webhook(new) or (self.refused_applies or [""]).pop():
            return _status(422, "Invalid", reason)
        self.owners[manager] = _leaves(body)
        generation = live.get("metadata", {}).get("generation", 0)
        new["metadata"]["generation"] = generation + (new["spec"] != live.get("spec"))
        new["status"] = live["status"] if self.is_controller_away else self.reconciled(new)
        self.objects[key] = new
        return aiohttp.web.json_response(new)

    def conflicts(
        self, live: dict[str, Any], body: dict[str, Any], *, manager: str, force: bool
    ) -> list[dict[str, str]]:
        found = []
        for other, paths in self.owners.items():
            for path in sorted(paths & _leaves(body)):
                if other == manager or _at(live, path) == _at(body, path):
                    continue
                if force:
                    paths.discard(path)
                    continue
                reason, field = "FieldManagerConflict", "." + ".".join(path)
                found.append(
                    {"reason": reason, "message": f'conflict with "{other}"', "field": field}
                )
        return found

    def edit(self, manager: str, path: tuple[str, ...], value: Any) -> None:
        """Set a field as another manager."""
        node = self.live
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value
        self.owners.setdefault(manager, set()).add(path)
        self.owners["wukong-ranking"].discard(path)

    def reconciled(self, service: dict[str, Any]) -> dict[str, Any]:
        standard = service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
        reconcile = self.standard if standard == "Standard" else self.knative
        status = reconcile(service["spec"], service.get("status", {}))
        return {**status, "observedGeneration": service["metadata"]["generation"]}

    def standard(self, spec: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
        canaries = spec.get("canary", [])
        given = sum(canary["trafficPercent"] for canary in canaries)
        for behaviour in self.behaviours.values():
            behaviour.has_traffic = False
        stable = self.behaviour(spec["predictor"]["labels"][VERSION])
        stable.has_traffic = given < 100
        conditions = [_condition("Ready", stable.never_ready)]
        statuses = []
        for canary in canaries:
            behaviour = self.behaviour(canary["predictor"]["labels"][VERSION])
            behaviour.has_traffic = canary["trafficPercent"] > 0
            conditions.append(_condition("CanaryPredictorReady", behaviour.never_ready))
            statuses.append(
                {
                    "name": canary["predictor"]["name"],
                    "ready": not behaviour.never_ready,
                    "trafficPercent": canary["trafficPercent"],
                }
            )
            self.shares.append(canary["trafficPercent"])
        return {"conditions": conditions, "canaryStatuses": statuses, "url": "http://ranker"}

    def knative(self, spec: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
        predictor = spec["predictor"]
        version, share = predictor["labels"][VERSION], predictor.get("canaryTrafficPercent", 100)
        self.shares.append(share)
        control = old.get("components", {}).get("predictor", {}).get("latestRolledoutRevision")
        names = (version, control or version)
        for behaviour in self.behaviours.values():
            behaviour.has_traffic = False
        self.behaviour(names[1]).has_traffic = share < 100 or names[0] == names[1]
        self.behaviour(version).has_traffic |= share > 0
        component = {
            "latestCreatedRevision": version,
            "latestReadyRevision": version,
            "latestRolledoutRevision": (
                names[1] if "canaryTrafficPercent" in predictor else version
            ),
            "traffic": [
                {"revisionName": version, "percent": share},
                {"revisionName": names[1], "percent": 100 - share},
            ],
        }
        return {"conditions": [_condition("Ready", "")], "components": {"predictor": component}}

    def pods(self, request: Any) -> aiohttp.web.Response:
        if request.name is None:
            selector = dict(one.split("=") for one in request.params["labelSelector"].split(","))
            version = selector.get(VERSION) or selector["serving.knative.dev/revision"]
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            pod = {"metadata": {"name": f"pod-{version}", "uid": version}, "status": ready}
            return aiohttp.web.json_response(
                {"kind": "PodList", "apiVersion": "v1", "items": [pod]}
            )
        version = request.name.removeprefix("pod-").removesuffix(":8080")
        assert request.subresource == "proxy/metrics"
        return aiohttp.web.Response(
            body=self.behaviour(version).scrape(), content_type="text/plain"
        )


def _condition(kind: str, trouble: str) -> dict[str, str]:
    return {"type": kind, "status": "False" if trouble else "True", "message": trouble}


def _status(code: int, reason: str, message: str, **details: Any) -> aiohttp.web.Response:
    whole = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    whole |= {"reason": reason, "message": message, "details": details}
    return aiohttp.web.json_response(whole, status=code)


def _webhook(service: dict[str, Any]) -> str:
    """KServe's rules for a canary, in its words' stead."""
    stable, canaries = service["spec"]["predictor"], service["spec"].get("canary", [])
    mode = service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
    if mode == "Standard" and "canaryTrafficPercent" in stable:
        return "canaryTrafficPercent is for Knative"
    if canaries and mode != "Standard":
        return "canary is for Standard"
    for canary in canaries:
        scaling = {"maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"}
        if scaling & set(canary["predictor"]):
            return "canary: no autoscaling fields"
    names = [canary["predictor"]["name"] for canary in canaries]
    if len({*names, stable.get("name")}) <= len(names):
        return "canary: names must be unique"
    return ""


def _leaves(node: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Paths of all fields; a list is one, as in a resource without keys for its lists."""
    if not isinstance(node, dict) or not node:
        return {path}
    if path == ("metadata",):
        node = {name: value for name, value in node.items() if name == "annotations"}
    return set().union(*(_leaves(value, (*path, name)) for name, value in node.items()))


def _at(node: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _merged(live: Any, body: Any, *, removed: set[tuple[str, ...]]) -> Any:
    new = copy.deepcopy(live)
    for path in removed:
        parent = _at(new, path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
    return _overlaid(new, body)


def _overlaid(live: Any, body: Any) -> Any:
    if not (isinstance(live, dict) and isinstance(body, dict)):
        return body
    return {**live, **{name: _overlaid(live.get(name), value) for name, value in body.items()}}
