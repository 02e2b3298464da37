"""What KServe, Knative and the gateway make of an InferenceService, as far as a rollout sees it.

Written after KServe's source: `observedGeneration` is a child's counter; `canaryStatuses` of KServe
0.20 have shares that no route has; later ones weigh the HTTPRoutes' backends and leave out those
that are not ready; a CPU limit of 1 is set where there is none.
"""

import dataclasses
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from serving.observability import metrics

VERSION = "app.kubernetes.io/version"
_REVISION = "serving.knative.dev/revision"


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


class Controller:
    """KServe; it keeps the children of the one service under kind and name."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.children: dict[tuple[str, str], dict[str, Any]] = {}
        self.shares: list[int] = []
        self.has_weights = True
        """KServe after 0.20 writes them."""
        self.has_grpc_weights = True
        self.has_gateway = True
        self.is_route_accepted = True
        self.has_tls = False
        self.num_revisions = 0

    def behaviour(self, version: str) -> Behaviour:
        return self.behaviours.setdefault(version, Behaviour())

    def version_of(self, selector: dict[str, str]) -> str:
        """The version of the pods that a selector finds."""
        if name := selector.get(_REVISION):
            return str(self.children["revisions", name]["metadata"]["labels"][VERSION])
        return selector[VERSION]

    def webhook(self, service: dict[str, Any]) -> str:
        """KServe's rules, in its words' stead; its defaulter sets what is not set."""
        stable, canaries = service["spec"]["predictor"], service["spec"].get("canary", [])
        for predictor in (stable, *(canary["predictor"] for canary in canaries)):
            resources = predictor["containers"][0]["resources"]
            resources.setdefault("limits", {}).setdefault("cpu", "1")
            if _cpus(resources["requests"]["cpu"]) > _cpus(limit := resources["limits"]["cpu"]):
                return f"requests: must be less than or equal to cpu limit of {limit}"
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

    def reconcile(self, service: dict[str, Any]) -> dict[str, Any]:
        """The status, once the children are as asked for."""
        standard = service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
        for behaviour in self.behaviours.values():
            behaviour.has_traffic = False
        reconcile = self.standard if standard == "Standard" else self.knative
        return reconcile(service)

    def standard(self, service: dict[str, Any]) -> dict[str, Any]:
        name, spec = service["metadata"]["name"], service["spec"]
        stable, canaries = spec["predictor"], spec.get("canary", [])
        predictors = {f"{name}-{stable['name']}-predictor": stable}
        weights = {f"{name}-{stable['name']}-predictor": 100}
        conditions, statuses = [_condition("Ready", self.trouble(stable))], []
        for canary in canaries:
            predictor, share = canary["predictor"], canary["trafficPercent"]
            trouble, child = self.trouble(predictor), f"{name}-{predictor['name']}-predictor"
            predictors[child] = predictor
            conditions.append(_condition("CanaryPredictorReady", trouble))
            status = {"name": predictor["name"], "ready": not trouble, "trafficPercent": share}
            statuses.append(status)
            self.shares.append(share)
            if self.has_weights and not trouble:
                weights[child] = share
                weights[next(iter(weights))] -= share
        # A Deployment that is not asked for any more is deleted at once.
        old, self.children = self.children, {}
        for child, predictor in predictors.items():
            least = stable["minReplicas"] if predictor is stable else 1
            self.children["deployments", child] = self.deployment(
                child, predictor, old.get(("deployments", child)), least=least
            )
            self.behaviour(predictor["labels"][VERSION]).has_traffic = weights.get(child, 0) > 0
        if self.has_gateway:
            for route in (name, f"{name}-predictor"):
                self.children["httproutes", route] = self.route(route, weights)
        seen = next(iter(self.children.values()))["status"]["observedGeneration"]
        status = {"conditions": conditions, "canaryStatuses": statuses, "url": "http://ranker"}
        return {**status, "observedGeneration": seen}

    def deployment(
        self, name: str, predictor: dict[str, Any], old: dict[str, Any] | None, *, least: int
    ) -> dict[str, Any]:
        labels, containers = predictor["labels"], predictor["containers"]
        pod = {"containers": containers, "volumes": predictor["volumes"]}
        if "serviceAccountName" in predictor:
            pod["serviceAccountName"] = predictor["serviceAccountName"]
        spec = {
            "replicas": max(least, old["spec"]["replicas"] if old else 0),
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }
        generation = old["metadata"]["generation"] + (spec != old["spec"]) if old else 1
        counts = dict.fromkeys(("replicas", "updatedReplicas"), spec["replicas"])
        counts["availableReplicas"] = 0 if self.trouble(predictor) else spec["replicas"]
        return {
            "metadata": {"name": name, "generation": generation},
            "spec": spec,
            "status": {**counts, "observedGeneration": generation},
        }

    def route(self, name: str, weights: dict[str, int]) -> dict[str, Any]:
        """As KServe writes it: a rule for gRPC, and one for all else."""
        of_grpc = weights if self.has_grpc_weights else dict.fromkeys([*weights][:1], 100)
        rules = [_rule(8081, of_grpc), _rule(80, weights)]
        status = "True" if self.is_route_accepted else "False"
        conditions = [{"type": "Accepted", "status": status, "observedGeneration": 1}]
        return {
            "metadata": {"name": name, "generation": 1},
            "spec": {"rules": rules},
            "status": {"parents": [{"conditions": conditions}]},
        }

    def knative(self, service: dict[str, Any]) -> dict[str, Any]:
        predictor = service["spec"]["predictor"]
        old = service.get("status", {}).get("components", {}).get("predictor", {})
        labels, containers = predictor["labels"], predictor["containers"]
        spec = {"containers": containers, "volumes": predictor["volumes"]}
        newest = old.get("latestCreatedRevision")
        made = self.children.get(("revisions", newest), {"spec": None})
        if made["spec"] != spec or made["metadata"]["labels"] != labels:
            self.num_revisions += 1
            newest = f"ranker-predictor-{self.num_revisions:05}"
        trouble = self.trouble(predictor)
        self.children["revisions", newest] = {
            "metadata": {"name": newest, "labels": labels},
            "spec": spec,
            "status": {"conditions": [_condition("Ready", trouble)]},
        }
        ready = old.get("latestReadyRevision") if trouble else newest
        traffic = self.traffic(predictor, old, ready)
        rolled_out = ready if traffic.get(ready) == 100 else old.get("latestRolledoutRevision")
        for name, share in traffic.items():
            version = self.children["revisions", name]["metadata"]["labels"][VERSION]
            self.behaviour(version).has_traffic = share > 0
        before = old.get("latestRolledoutRevision")
        component = {
            "latestCreatedRevision": newest,
            "latestReadyRevision": ready,
            "latestRolledoutRevision": rolled_out,
            "previousRolledoutRevision": (
                old.get("previousRolledoutRevision") if before == rolled_out else before
            ),
            "traffic": [{"revisionName": name, "percent": n} for name, n in traffic.items()],
        }
        status = {"conditions": [_condition("Ready", trouble)], "url": "http://ranker"}
        # The Knative service's counter, which a change of annotations does not move.
        return {**status, "components": {"predictor": component}, "observedGeneration": 1}

    def traffic(
        self, predictor: dict[str, Any], old: dict[str, Any], ready: str | None
    ) -> dict[str, int]:
        """Percent by revision: the rest is the one's that was rolled out before."""
        share, before = predictor.get("canaryTrafficPercent"), old.get("latestRolledoutRevision")
        self.shares.append(100 if share is None else share)
        if ready is None:
            return {}
        if share is None or before is None:
            return {ready: 100}
        if share < 100 and ready == before:
            before = old.get("previousRolledoutRevision") or before
        return {ready: share, before: 100 - share} if ready != before else {ready: 100}

    def trouble(self, predictor: dict[str, Any]) -> str:
        return self.behaviour(predictor["labels"][VERSION]).never_ready


def _rule(port: int, weights: dict[str, int]) -> dict[str, Any]:
    """Without weights where there is one backend."""
    backends: list[dict[str, Any]] = [
        {"kind": "Service", "name": backend, "port": port, "weight": weight}
        for backend, weight in weights.items()
    ]
    if len(backends) == 1:
        del backends[0]["weight"]
    return {"backendRefs": backends}


def _condition(kind: str, trouble: str) -> dict[str, str]:
    return {"type": kind, "status": "False" if trouble else "True", "message": trouble}


def _cpus(quantity: str) -> float:
    return float(quantity.removesuffix("m")) / (1000 if quantity.endswith("m") else 1)
