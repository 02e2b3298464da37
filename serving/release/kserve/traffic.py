"""How an ``InferenceService`` changes when a model takes over: pure functions of what is live.

The stable side is applied again just as it is live, so a canary differs from it in the model, in
the image where one is named, and in nothing else. In mode Standard the canary stands in
``spec.canary``, and promotion gives its name to the stable predictor, whose pods go on running
(https://github.com/kserve/kserve/pull/5672). In mode Knative it is the newest revision, and
``canaryTrafficPercent`` is its share.
"""

import copy

from serving.release.kserve.manifest import (
    AUTOSCALER_ANNOTATION,
    CONTAINER,
    MODE_ANNOTATION,
    PASSED_ANNOTATION,
    STORAGE_URI,
    VERSION_LABEL,
    Manifest,
    Mode,
    Model,
    revision_name,
)

_SHARE = "canaryTrafficPercent"
_ALL = 100
_SERVICE_LABEL = "serving.kserve.io/inferenceservice"
_REVISION_LABEL = "serving.knative.dev/revision"
_SCALING = (
    *("minReplicas", "maxReplicas", "scaleMetric", "scaleMetricType", "scaleTarget"),
    "autoScaling",
)
"""KServe scales the stable predictor only and rejects or ignores these on a canary."""


def mode_of(live: Manifest) -> Mode:
    """The mode that the annotation names; ValueError where it names none of ours."""
    name = live["metadata"].get("annotations", {}).get(MODE_ANNOTATION)
    if name not in {mode.value for mode in Mode}:
        raise ValueError(f"annotation {MODE_ANNOTATION}: {name!r}; Standard or Knative")
    return Mode(name)


def stable_version(live: Manifest) -> str:
    """The version of the predictor in ``spec.predictor``."""
    return _version(live["spec"]["predictor"])


def canary_version(live: Manifest) -> str | None:
    """The canary's version; None where there is none."""
    if mode_of(live) is Mode.KNATIVE:
        return stable_version(live) if _SHARE in live["spec"]["predictor"] else None
    canaries = live["spec"].get("canary") or []
    return _version(canaries[0]["predictor"]) if canaries else None


def canary_share(live: Manifest) -> int:
    """Percent of the traffic that the canary is to have; 0 without one."""
    if mode_of(live) is Mode.KNATIVE:
        return int(live["spec"]["predictor"].get(_SHARE, 0))
    canaries = live["spec"].get("canary") or [{}]
    return int(canaries[0].get("trafficPercent", 0))


def control_of(live: Manifest) -> str:
    """What has the traffic now: a version or, in mode Knative, the name of a revision."""
    if mode_of(live) is Mode.STANDARD:
        return stable_version(live)
    return str(_component(live).get("latestRolledoutRevision"))


def is_stable(live: Manifest) -> bool:
    """Whether the service is ready and all traffic is at the model of ``spec.predictor``."""
    if mode_of(live) is Mode.STANDARD:
        return _is_ready(live) and not live.get("status", {}).get("canaryStatuses")
    return _is_ready(live) and _newest_share(live) == _ALL


def is_rolled_back(live: Manifest) -> bool:
    """Whether the canary has no traffic; it need not be ready, and may be why it went."""
    if mode_of(live) is Mode.STANDARD:
        return is_stable(live)
    return _newest_share(live) == 0


def has_share(live: Manifest, model: Model, *, percent: int) -> bool:
    """Whether the canary is ready and has its share of the traffic."""
    return _is_up(live, model.revision, percent=percent)


def _revision_of(live: Manifest) -> str:
    """The name of the canary's predictor; empty in mode Knative, which names revisions itself."""
    canaries = live["spec"].get("canary") or [{"predictor": {}}]
    return str(canaries[0]["predictor"].get("name", ""))


def _is_up(live: Manifest, revision: str, *, percent: int) -> bool:
    if mode_of(live) is Mode.KNATIVE:
        newest = _component(live).get("latestCreatedRevision")
        is_up = newest is not None and newest == _component(live).get("latestReadyRevision")
        return _is_ready(live) and is_up and _newest_share(live) == percent
    statuses = {one["name"]: one for one in live.get("status", {}).get("canaryStatuses", [])}
    status = statuses.get(revision, {})
    return (
        _is_ready(live) and status.get("ready") is True and status.get("trafficPercent") == percent
    )


def pod_labels(live: Manifest) -> tuple[dict[str, str], dict[str, str]]:
    """The labels of the canary's pods, and of the control's."""
    if mode_of(live) is Mode.KNATIVE:
        component = _component(live)
        newest, control = (component[f"latest{one}Revision"] for one in ("Ready", "Rolledout"))
        return {_REVISION_LABEL: newest}, {_REVISION_LABEL: control}
    service = {_SERVICE_LABEL: live["metadata"]["name"]}
    canary = str(canary_version(live))
    return {**service, VERSION_LABEL: canary}, {**service, VERSION_LABEL: stable_version(live)}


def with_share(live: Manifest, model: Model, *, percent: int, image: str | None = None) -> Manifest:
    """The object in which the model has a share of the traffic, in percent."""
    if not 0 <= percent <= _ALL:
        raise ValueError(f"percent: {percent}; from 0 to 100")
    desired = _ours(live)
    changed = _with_model(desired["spec"]["predictor"], model, image=image)
    if mode_of(live) is Mode.KNATIVE:
        desired["spec"]["predictor"] = {**changed, _SHARE: percent}
        return desired
    changed["name"] = revision_name(live["metadata"]["name"], model)
    if changed["name"] == desired["spec"]["predictor"].get("name"):
        raise ValueError(f"version: {model.version}; another name than {changed['name']}'s")
    alone = {name: value for name, value in changed.items() if name not in _SCALING}
    desired["spec"]["canary"] = [{"trafficPercent": percent, "predictor": alone}]
    return desired


def passed(live: Manifest, model: Model, *, image: str | None = None) -> Manifest:
    """The object in which the model has all traffic and is said to have passed every step."""
    desired = with_share(live, model, percent=_ALL, image=image)
    desired["metadata"]["annotations"][PASSED_ANNOTATION] = model.version
    return desired


def require_passed(live: Manifest) -> str:
    """The version of the canary that may be promoted.

    Raises:
        ValueError: There is none, it has not passed every step, or it is not ready with all
            traffic now. In mode Knative a model that went back stays as a canary of 0 %.
    """
    _require_canary(live)
    version, percent = str(canary_version(live)), canary_share(live)
    if percent != _ALL:
        raise ValueError(f"canary: {version} has {percent} % of the traffic; 100, after its steps")
    found = live["metadata"].get("annotations", {}).get(PASSED_ANNOTATION)
    if found != version:
        raise ValueError(
            f"annotation {PASSED_ANNOTATION}: {found}; {version}, which `python -m serving canary` "
            "writes when every step is passed"
        )
    if not _is_up(live, _revision_of(live), percent=_ALL):
        raise ValueError(f"canary: {version} is not ready with 100 % of the traffic; all of it")
    return version


def promoted(live: Manifest) -> Manifest:
    """The object in which the canary is the stable predictor and has all traffic."""
    _require_canary(live)
    desired = _ours(live)
    stable = desired["spec"]["predictor"]
    if mode_of(live) is Mode.KNATIVE:
        del stable[_SHARE]
        return desired
    canary = copy.deepcopy(live["spec"]["canary"][0]["predictor"])
    scaling = {name: stable[name] for name in _SCALING if name in stable}
    desired["spec"]["predictor"] = {**canary, **scaling}
    return desired


def rolled_back(live: Manifest) -> Manifest:
    """The object in which the canary has no traffic.

    In mode Standard it is gone. In mode Knative it stays as the newest revision with 0 %, and
    the revision before it has all traffic: what KServe documents as the way back.
    """
    _require_canary(live)
    desired = _ours(live)
    if mode_of(live) is Mode.KNATIVE:
        desired["spec"]["predictor"][_SHARE] = 0
    return desired


def taken_over(live: Manifest) -> Manifest:
    """The object in which a canary of mode Standard is ours, without traffic.

    A canary that another field manager changed is its own, and stays when we do not apply it.
    """
    desired = _ours(live)
    canary = copy.deepcopy(live["spec"]["canary"][0]["predictor"])
    desired["spec"]["canary"] = [{"trafficPercent": 0, "predictor": canary}]
    return desired


def _ours(live: Manifest) -> Manifest:
    """What we apply of a live object: its name, our annotations, the stable predictor as it is."""
    metadata = live["metadata"]
    annotations = metadata.get("annotations", {})
    ours = {
        name: annotations[name]
        for name in (MODE_ANNOTATION, AUTOSCALER_ANNOTATION)
        if name in annotations
    }
    return {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "annotations": ours,
        },
        "spec": {"predictor": copy.deepcopy(live["spec"]["predictor"])},
    }


def _with_model(predictor: Manifest, model: Model, *, image: str | None) -> Manifest:
    changed = copy.deepcopy(dict(predictor))
    changed["labels"] = {**changed.get("labels", {}), VERSION_LABEL: model.version}
    container = next(one for one in changed["containers"] if one["name"] == CONTAINER)
    container["env"] = [
        {**entry, "value": model.storage_uri} if entry["name"] == STORAGE_URI else entry
        for entry in container["env"]
    ]
    container["image"] = image or container["image"]
    return changed


def _version(predictor: Manifest) -> str:
    try:
        return str(predictor["labels"][VERSION_LABEL])
    except KeyError as error:
        raise ValueError(
            f"predictor labels: no {VERSION_LABEL}; a service that `python -m serving deploy` made"
        ) from error


def _require_canary(live: Manifest) -> None:
    if canary_version(live) is None:
        raise ValueError(f"service {live['metadata']['name']}: has no canary; start one first")


def _is_ready(live: Manifest) -> bool:
    return any(
        one["type"] == "Ready" and one["status"] == "True"
        for one in live.get("status", {}).get("conditions", [])
    )


def _component(live: Manifest) -> Manifest:
    component: Manifest = live.get("status", {}).get("components", {}).get("predictor", {})
    return component


def _newest_share(live: Manifest) -> int:
    """Percent that Knative sends to the newest ready revision."""
    component = _component(live)
    newest = component.get("latestReadyRevision")
    return sum(
        one.get("percent") or 0
        for one in component.get("traffic", [])
        if one.get("revisionName") == newest
    )
