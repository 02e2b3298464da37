"""What is in force of what was asked for: which pods run, and where the traffic goes.

``status.observedGeneration`` is not asked: KServe copies it from a child object, whose counter is
another one (https://github.com/kserve/kserve/issues/6081). In mode Standard the Deployment says
which pods run and the HTTPRoute's weights where requests go; in mode Knative the revision, and the
traffic in the service's status. What is named ``pending`` returns a reason, empty when there is
none left.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from serving.release.canary_target import CanaryTargetError
from serving.release.kserve import spec
from serving.release.kserve.cluster import Cluster
from serving.release.kserve.manifest import VERSION_LABEL
from serving.release.kserve.service import Mode

_SERVICE_LABEL = "serving.kserve.io/inferenceservice"
_REVISION_LABEL = "serving.knative.dev/revision"
_OF_CONTAINER = ("image", "args", "env", "envFrom", "volumeMounts")
_OF_POD = ("volumes", "serviceAccountName")
"""What a deployment or a canary changes. KServe adds to them, and changes other fields itself."""
Part = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Control:
    """What has all traffic before a canary."""

    version: str
    name: str
    """Of its Deployment and Service, or of its revision in mode Knative."""
    pod_labels: Mapping[str, str]


def control_of(cluster: Cluster, live: Part) -> Control:
    """What has all traffic now; CanaryTargetError where it is not one version."""
    if spec.mode_of(live) is Mode.STANDARD:
        predictor = live["spec"]["predictor"]
        version = spec.version_of(predictor)
        labels = _labels(live, version)
        return Control(version=version, name=_child(live, predictor), pod_labels=labels)
    shares = {name: percent for name, percent in _traffic(live).items() if percent}
    if list(shares.values()) != [spec.ALL]:
        raise CanaryTargetError(f"service {cluster}: its traffic goes to {shares}; to one revision")
    (name,) = shares
    revision = cluster.revision(name) or {"metadata": {}}
    version = str(revision["metadata"].get("labels", {}).get(VERSION_LABEL))
    return Control(version=version, name=name, pod_labels={_REVISION_LABEL: name})


def serving_version(cluster: Cluster, live: Part) -> str:
    """The version that has the traffic without the canary, if there is one."""
    has_canary = spec.canary_version(live) is not None
    if has_canary and spec.mode_of(live) is Mode.KNATIVE and not spec.canary_share(live):
        return control_of(cluster, live).version
    return spec.stable_version(live)


def canary_labels(live: Part) -> dict[str, str]:
    """The labels of the canary's pods."""
    if spec.mode_of(live) is Mode.KNATIVE:
        return {_REVISION_LABEL: str(_component(live).get("latestCreatedRevision"))}
    return _labels(live, str(spec.canary_version(live)))


def pending_share(cluster: Cluster, live: Part, *, percent: int) -> str:
    """Why the canary is not ready with its share of the traffic, in percent."""
    predictor = spec.canary_predictor(live)
    if spec.mode_of(live) is Mode.KNATIVE:
        return _with_complaints(live, _pending_revision(cluster, live, percent=percent))
    name = _child(live, predictor)
    reason = _pending_deployment(cluster, name, predictor) or _not_ready(live)
    if reason:
        return _with_complaints(live, reason)
    return _pending_routes(cluster, live, name, percent=percent, is_required=True)


def pending_stable(cluster: Cluster, live: Part) -> str:
    """Why the predictor of ``spec.predictor`` is not ready with all traffic."""
    predictor = live["spec"]["predictor"]
    if spec.mode_of(live) is Mode.KNATIVE:
        reason = _pending_revision(cluster, live, percent=spec.ALL)
    else:
        name = _child(live, predictor)
        reason = _pending_deployment(
            cluster, name, predictor, least=predictor["minReplicas"]
        ) or _pending_routes(cluster, live, name, percent=spec.ALL)
    return _with_complaints(live, reason or _not_ready(live))


def pending_rollback(cluster: Cluster, live: Part) -> str:
    """Why the canary may have traffic still; it need not be ready, and may be why it went."""
    if spec.mode_of(live) is Mode.STANDARD:
        if spec.canary_of(live):
            return f"spec.canary: {spec.canary_version(live)} is there still"
        name = _child(live, live["spec"]["predictor"])
        return _pending_routes(cluster, live, name, percent=spec.ALL)
    newest, shares = _component(live).get("latestCreatedRevision"), _traffic(live)
    others = sum(percent for name, percent in shares.items() if name != newest)
    return "" if others == spec.ALL else f"traffic of revisions: {shares}; none for {newest}"


def pending_route(cluster: Cluster, live: Part) -> str:
    """Why this cluster cannot give a canary a share."""
    if spec.mode_of(live) is Mode.KNATIVE:
        return ""
    name = _child(live, live["spec"]["predictor"])
    return _pending_routes(cluster, live, name, percent=spec.ALL, is_required=True)


def _labels(live: Part, version: str) -> dict[str, str]:
    return {_SERVICE_LABEL: live["metadata"]["name"], VERSION_LABEL: version}


def _child(live: Part, predictor: Part) -> str:
    """What KServe calls a predictor's Deployment and Service."""
    return f"{live['metadata']['name']}-{predictor['name']}-predictor"


def _pending_deployment(cluster: Cluster, name: str, predictor: Part, *, least: int = 1) -> str:
    deployment, what = cluster.deployment(name), f"Deployment {name}"
    if deployment is None:
        return f"{what}: does not exist"
    asked, status = deployment["spec"], deployment.get("status", {})
    template = asked["template"]
    labels = template.get("metadata", {}).get("labels", {})
    if difference := _difference(labels, template["spec"], predictor):
        return f"{what}: {difference}"
    generation, seen = deployment["metadata"]["generation"], status.get("observedGeneration", 0)
    if seen < generation:
        return f"{what}: generation {seen} of {generation} is in force"
    wanted = asked.get("replicas", 1)
    if wanted < least:
        return f"{what}: {wanted} replicas; at least {least}"
    num_ready = min(status.get(f"{kind}Replicas", 0) for kind in ("updated", "available"))
    # While old pods end, their Deployment counts more than it wants.
    if num_ready < wanted or status.get("replicas", 0) > wanted:
        return f"{what}: {num_ready} of {wanted} replicas available"
    return ""


def _pending_routes(
    cluster: Cluster, live: Part, backend: str, *, percent: int, is_required: bool = False
) -> str:
    """Why a Service does not have its share of each of the service's routes.

    Without a route (KServe without the Gateway API) all traffic is the stable model's.
    """
    service = live["metadata"]["name"]
    routes = [cluster.route(name) for name in (service, f"{service}-predictor")]
    found = [route for route in routes if route is not None]
    if is_required and not found:
        return f"HTTPRoute {service}: does not exist; KServe after 0.20 with enableGatewayApi: true"
    for route in found:
        what = f"HTTPRoute {route['metadata']['name']}"
        for share in _shares(route, backend):
            if round(share, 3) != percent:
                return (
                    f"{what}: {backend} has {share:g} % of the traffic; {percent} "
                    "(KServe after 0.20 writes weights)"
                )
        if not _is_accepted(route):
            return f"{what}: its gateway has not accepted it as it is"
    return ""


def _shares(route: Part, backend: str) -> Iterator[float]:
    """Percent of each rule's requests that a Service gets."""
    for rule in route["spec"].get("rules", ()):
        weights = [(one["name"], one.get("weight", 1)) for one in rule.get("backendRefs", ())]
        total = sum(weight for _, weight in weights)
        own = sum(weight for name, weight in weights if name == backend)
        yield spec.ALL * own / total if total else 0.0


def _is_accepted(route: Part) -> bool:
    """Whether no gateway says that it has another generation, or refuses this one."""
    generation = route["metadata"].get("generation", 0)
    return all(
        one["status"] == "True" and one.get("observedGeneration", generation) >= generation
        for parent in route.get("status", {}).get("parents", ())
        for one in parent.get("conditions", ())
        if one["type"] == "Accepted"
    )


def _pending_revision(cluster: Cluster, live: Part, *, percent: int) -> str:
    newest = str(_component(live).get("latestCreatedRevision", ""))
    revision = cluster.revision(newest) if newest else None
    if revision is None:
        return f"revision {newest or 'of the service'}: does not exist"
    labels = revision["metadata"].get("labels", {})
    if difference := _difference(labels, revision["spec"], live["spec"]["predictor"]):
        return f"revision {newest}: {difference}"
    status = revision.get("status", {})
    if newest != _component(live).get("latestReadyRevision") or not _is_true(status, "Ready"):
        return f"revision {newest}: not ready; {_complaints(status)}"
    num_pods, wanted = (status.get(f"{kind}Replicas", 0) for kind in ("actual", "desired"))
    if num_pods < wanted:
        return f"revision {newest}: {num_pods} of {wanted} replicas"
    if (share := _traffic(live).get(newest, 0)) != percent:
        return f"revision {newest}: has {share} % of the traffic; {percent}"
    return _not_ready(live)


def _component(live: Part) -> Part:
    component: Part = live.get("status", {}).get("components", {}).get("predictor", {})
    return component


def _traffic(live: Part) -> dict[str, int]:
    """Percent that Knative sends to each revision."""
    shares: dict[str, int] = {}
    for one in _component(live).get("traffic", ()):
        name = one.get("revisionName", "")
        shares[name] = shares.get(name, 0) + (one.get("percent") or 0)
    return shares


def _difference(labels: Part, pod: Part, predictor: Part) -> str:
    """What pods that are described so lack of a predictor; empty where nothing."""
    version = spec.version_of(predictor)
    if labels.get(VERSION_LABEL) != version:
        return f"its pods have version {labels.get(VERSION_LABEL)}; {version}"
    found, wanted = spec.container_of(pod), spec.container_of(predictor)
    pairs = {name: (found.get(name), wanted.get(name)) for name in _OF_CONTAINER}
    pairs |= {name: (pod.get(name), predictor.get(name)) for name in _OF_POD}
    pairs["resources"] = _amounts(found), _amounts(wanted)
    lacking = [name for name, (one, other) in pairs.items() if not _has(one, other)]
    return f"its pods do not have the {lacking[0]} that was asked for" if lacking else ""


def _has(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; more may be."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            _has(found.get(name), value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return all(any(_has(one, other) for one in found or ()) for other in wanted)
    return wanted is None or bool(found == wanted)


def _amounts(container: Part) -> dict[str, object]:
    """Requests and limits as numbers: the API server writes 500m for 0.5."""
    return {
        f"{kind} {name}": parse_quantity(amount)
        for kind, amounts in container.get("resources", {}).items()
        for name, amount in amounts.items()
    }


def _is_true(status: Part, kind: str) -> bool:
    conditions = status.get("conditions") or ()
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)


def _not_ready(live: Part) -> str:
    return "" if _is_true(live.get("status", {}), "Ready") else "the service is not Ready"


def _with_complaints(live: Part, reason: str) -> str:
    return f"{reason}; {_complaints(live.get('status', {}))}" if reason else ""


def _complaints(status: Part) -> str:
    """What conditions, and models that do not load, say."""
    found = [
        f"{one['type']} is {one['status']}: {one.get('message') or one.get('reason', 'no message')}"
        for one in status.get("conditions") or ()
        if one["status"] != "True"
    ]
    for model in (status, *status.get("canaryStatuses", ())):
        failure = (model.get("modelStatus") or {}).get("lastFailureInfo") or {}
        if failure:
            found.append(f"model: {failure.get('message') or failure.get('reason')}")
    return "; ".join(found) or "its conditions say nothing"
