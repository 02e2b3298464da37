"""What an ``InferenceService`` asks for: pure reading of its annotations and its spec.

In mode Standard a canary stands in ``spec.canary``. In mode Knative it is ``spec.predictor``
itself, with ``canaryTrafficPercent`` as its share. What is in force is read in ``state``.
"""

from collections.abc import Mapping
from typing import Any

from serving.release.kserve.manifest import (
    CONTAINER,
    METRICS_FLAG,
    MODE_ANNOTATION,
    VERSION_LABEL,
)
from serving.release.kserve.service import Mode

PASSED_ANNOTATION = "wukong-ranking/canary-passed"
"""The version whose canary has passed every step; it goes with the canary."""
ROLLOUT_ANNOTATION = "wukong-ranking/rollout"
"""The run of ``canary`` that gave the canary its share; it goes with the canary."""
SHARE = "canaryTrafficPercent"
ALL = 100


def annotations_of(live: Mapping[str, Any]) -> Mapping[str, str]:
    """Its annotations; empty where it has none."""
    annotations: Mapping[str, str] = live["metadata"].get("annotations", {})
    return annotations


def mode_of(live: Mapping[str, Any]) -> Mode:
    """The mode that the annotation names; ValueError where it names none of ours."""
    name = annotations_of(live).get(MODE_ANNOTATION)
    if name not in {mode.value for mode in Mode}:
        raise ValueError(f"annotation {MODE_ANNOTATION}: {name!r}; Standard or Knative")
    return Mode(name)


def version_of(predictor: Mapping[str, Any]) -> str:
    """The version of a predictor, by its label."""
    try:
        return str(predictor["labels"][VERSION_LABEL])
    except KeyError as error:
        raise ValueError(
            f"predictor labels: no {VERSION_LABEL}; a service that `python -m serving deploy` made"
        ) from error


def stable_version(live: Mapping[str, Any]) -> str:
    """The version of the predictor in ``spec.predictor``."""
    return version_of(live["spec"]["predictor"])


def canary_of(live: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry in ``spec.canary`` of mode Standard; empty where there is none."""
    canary: Mapping[str, Any] = next(iter(live["spec"].get("canary") or ()), {})
    return canary


def canary_version(live: Mapping[str, Any]) -> str | None:
    """The canary's version; None where there is none."""
    if mode_of(live) is Mode.KNATIVE:
        return stable_version(live) if SHARE in live["spec"]["predictor"] else None
    canary = canary_of(live)
    return version_of(canary["predictor"]) if canary else None


def canary_predictor(live: Mapping[str, Any]) -> Mapping[str, Any]:
    """The predictor that is tried."""
    if mode_of(live) is Mode.KNATIVE:
        predictor: Mapping[str, Any] = live["spec"]["predictor"]
        return predictor
    tried: Mapping[str, Any] = canary_of(live)["predictor"]
    return tried


def canary_share(live: Mapping[str, Any]) -> int:
    """Percent of the traffic that the canary is to have; 0 without one."""
    if mode_of(live) is Mode.KNATIVE:
        return int(live["spec"]["predictor"].get(SHARE, 0))
    return int(canary_of(live).get("trafficPercent", 0))


def rollout_of(live: Mapping[str, Any]) -> str | None:
    """The run of ``canary`` that changed the service last; None after its end."""
    return annotations_of(live).get(ROLLOUT_ANNOTATION)


def is_under_way(live: Mapping[str, Any]) -> bool:
    """Whether a canary is being tried, waits for its promotion, or was left behind.

    In mode Knative one that went back stays as the newest revision with 0 %: that is none.
    """
    if mode_of(live) is Mode.STANDARD:
        return bool(canary_of(live))
    return canary_version(live) is not None and (
        canary_share(live) > 0 or rollout_of(live) is not None
    )


def require_canary(live: Mapping[str, Any]) -> str:
    """The canary's version; ValueError without one."""
    version = canary_version(live)
    if version is None:
        raise ValueError(f"service {live['metadata']['name']}: has no canary; start one first")
    return version


def require_none_under_way(live: Mapping[str, Any]) -> None:
    """ValueError where a canary is under way, whatever its share."""
    if is_under_way(live):
        raise ValueError(
            f"canary: {canary_version(live)} has {canary_share(live)} %; "
            "promote it or roll it back first"
        )


def require_passed(live: Mapping[str, Any], version: str) -> None:
    """ValueError where the canary is not of a version, or has not passed every step."""
    found, percent = canary_version(live), canary_share(live)
    if found != version:
        raise ValueError(f"canary: {found}; {version}, which is to be promoted: run its canary")
    if percent != ALL:
        raise ValueError(f"canary: {found} has {percent} % of the traffic; 100, after its steps")
    passed = annotations_of(live).get(PASSED_ANNOTATION)
    if passed != found:
        raise ValueError(
            f"annotation {PASSED_ANNOTATION}: {passed}; {found}, which `python -m serving canary` "
            "writes when every step is passed"
        )


def container_of(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """The container that answers, of a predictor or of a pod's spec."""
    return next(one for one in pod["containers"] if one["name"] == CONTAINER)


def metrics_address(live: Mapping[str, Any]) -> tuple[str, int]:
    """Scheme (HTTP or HTTPS) and port at which pods have their metrics without a token.

    Raises:
        ValueError: They have no such port.
    """
    container = container_of(live["spec"]["predictor"])
    arguments = container.get("args", ())
    if METRICS_FLAG not in arguments:
        raise ValueError(
            f"service {live['metadata']['name']}: its pods have no {METRICS_FLAG}; "
            "`python -m serving deploy` of the version that it has adds it"
        )
    scheme = container["readinessProbe"]["httpGet"].get("scheme", "HTTP")
    return scheme, int(arguments[arguments.index(METRICS_FLAG) + 1])
