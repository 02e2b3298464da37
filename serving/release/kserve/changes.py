"""What is applied to an ``InferenceService``: pure functions of what is live.

The stable side is applied again just as it is live, so a canary differs from it in the model, in
the image where one is named, and in nothing else. In mode Standard the canary stands in
``spec.canary``, and promotion gives its name to the stable predictor, whose pods go on running
(https://github.com/kserve/kserve/pull/5672). In mode Knative it is the newest revision, and
``canaryTrafficPercent`` is its share. Each change has the ``resourceVersion`` of what it was made
of: when somebody else came first, the API server rejects it.
"""

import copy
from collections.abc import Mapping
from typing import Any

from serving.release.kserve import spec
from serving.release.kserve.manifest import (
    AUTOSCALER_ANNOTATION,
    CONTAINER,
    MODE_ANNOTATION,
    STORAGE_URI,
    VERSION_LABEL,
    revision_name,
)
from serving.release.kserve.service import Mode, Model
from serving.release.kserve.spec import ALL, PASSED_ANNOTATION, ROLLOUT_ANNOTATION, SHARE

Manifest = dict[str, Any]
_SCALING = (
    *("minReplicas", "maxReplicas", "scaleMetric", "scaleMetricType", "scaleTarget"),
    "autoScaling",
)
"""KServe scales the stable predictor only and rejects or ignores these on a canary."""


def replacing(live: Mapping[str, Any], rendered: Manifest) -> Manifest:
    """A rendered object, to be applied in place of what is live and of nothing newer."""
    return {**rendered, "metadata": {**rendered["metadata"], **_as_read(live)}}


def with_share(
    live: Mapping[str, Any],
    model: Model,
    *,
    percent: int,
    rollout: str,
    image: str | None = None,
) -> Manifest:
    """The object in which the model has a share of the traffic, in percent, by a rollout."""
    if not 0 <= percent <= ALL:
        raise ValueError(f"percent: {percent}; from 0 to 100")
    desired = _ours(live)
    desired["metadata"]["annotations"][ROLLOUT_ANNOTATION] = rollout
    changed = _with_model(desired["spec"]["predictor"], model, image=image)
    if spec.mode_of(live) is Mode.KNATIVE:
        desired["spec"]["predictor"] = {**changed, SHARE: percent}
        return desired
    changed["name"] = revision_name(live["metadata"]["name"], model)
    if changed["name"] == desired["spec"]["predictor"].get("name"):
        raise ValueError(f"version: {model.version}; another name than {changed['name']}'s")
    alone = {name: value for name, value in changed.items() if name not in _SCALING}
    desired["spec"]["canary"] = [{"trafficPercent": percent, "predictor": alone}]
    return desired


def passed(
    live: Mapping[str, Any], model: Model, *, rollout: str, image: str | None = None
) -> Manifest:
    """The object in which the model has all traffic and is said to have passed every step."""
    desired = with_share(live, model, percent=ALL, rollout=rollout, image=image)
    desired["metadata"]["annotations"][PASSED_ANNOTATION] = model.version
    return desired


def promoted(live: Mapping[str, Any]) -> Manifest:
    """The object in which the canary is the stable predictor and has all traffic."""
    spec.require_canary(live)
    desired = _ours(live)
    stable = desired["spec"]["predictor"]
    if spec.mode_of(live) is Mode.KNATIVE:
        del stable[SHARE]
        return desired
    canary = copy.deepcopy(dict(spec.canary_predictor(live)))
    scaling = {name: stable[name] for name in _SCALING if name in stable}
    desired["spec"]["predictor"] = {**canary, **scaling}
    return desired


def rolled_back(live: Mapping[str, Any]) -> Manifest:
    """The object in which the canary has no traffic.

    In mode Standard it is gone. In mode Knative it stays as the newest revision with 0 %, and
    the revision before it has all traffic: what KServe documents as the way back.
    """
    spec.require_canary(live)
    desired = _ours(live)
    if spec.mode_of(live) is Mode.KNATIVE:
        desired["spec"]["predictor"][SHARE] = 0
    return desired


def taken_over(live: Mapping[str, Any]) -> Manifest:
    """The object in which the canary is ours, whoever changed it last, and has no traffic.

    In mode Standard a canary that another field manager changed is its own: it stays when we leave
    it out of what we apply, and goes only once it is ours.
    """
    spec.require_canary(live)
    desired = _ours(live)
    if rollout := spec.rollout_of(live):
        desired["metadata"]["annotations"][ROLLOUT_ANNOTATION] = rollout
    if spec.mode_of(live) is Mode.KNATIVE:
        desired["spec"]["predictor"][SHARE] = 0
        return desired
    canary = copy.deepcopy(dict(spec.canary_predictor(live)))
    desired["spec"]["canary"] = [{"trafficPercent": 0, "predictor": canary}]
    return desired


def _ours(live: Mapping[str, Any]) -> Manifest:
    """What we apply of a live object: its name, our annotations, the stable predictor as it is."""
    metadata, annotations = live["metadata"], spec.annotations_of(live)
    names = (MODE_ANNOTATION, AUTOSCALER_ANNOTATION)
    return {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            **_as_read(live),
            "annotations": {name: annotations[name] for name in names if name in annotations},
        },
        "spec": {"predictor": copy.deepcopy(live["spec"]["predictor"])},
    }


def _as_read(live: Mapping[str, Any]) -> dict[str, str]:
    """The version of what was read; a manifest that was only rendered has none."""
    found = live["metadata"].get("resourceVersion")
    return {"resourceVersion": found} if found else {}


def _with_model(predictor: Mapping[str, Any], model: Model, *, image: str | None) -> Manifest:
    changed = copy.deepcopy(dict(predictor))
    changed["labels"] = {**changed.get("labels", {}), VERSION_LABEL: model.version}
    container = next(one for one in changed["containers"] if one["name"] == CONTAINER)
    container["env"] = [
        {**entry, "value": model.storage_uri} if entry["name"] == STORAGE_URI else entry
        for entry in container["env"]
    ]
    container["image"] = image or container["image"]
    return changed
