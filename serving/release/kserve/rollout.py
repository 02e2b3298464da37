"""What changes a service at once: its deployment, the promotion of its canary, the way back."""

from serving.release.kserve import access, changes, manifest, spec, state
from serving.release.kserve.api import Live
from serving.release.kserve.cluster import Cluster
from serving.release.kserve.service import Mode, Model, Service
from serving.release.kserve.target import take_back


def deploy(
    cluster: Cluster,
    service: Service,
    model: Model,
    *,
    force: bool,
    is_canary_ended: bool,
    timeout_seconds: float,
) -> str | None:
    """Apply a service with the model that it has or begins with; its URL once it is ready.

    Args:
        cluster: Where it is, or will be.
        service: What stays when the model changes.
        model: The first one, or the one that is live.
        force: Take over fields that others manage.
        is_canary_ended: A canary that is under way ends.
        timeout_seconds: Until it must be ready.

    Raises:
        ValueError: Another version is live, which would go before this one is ready; or a canary
            is under way.
        CanaryTargetError: The cluster or KServe rejected it, or it is not ready in time.
    """
    desired = manifest.render(service, model)
    access.require(cluster, service.mode, *access.CREATE)
    if cluster.find() is None:
        cluster.until(lambda: cluster.apply(desired, force=force), timeout_seconds=timeout_seconds)
    else:

        def change(live: Live) -> Live:
            _require_no_canary(live, is_ended=is_canary_ended)
            _require_same_version(cluster, live, model)
            return changes.replacing(live, desired)

        cluster.change(change, force=force, timeout_seconds=timeout_seconds)
    wait_for_stable(cluster, model.version, timeout_seconds=timeout_seconds)
    url = cluster.service()["status"].get("url")
    return None if url is None else str(url)


def _require_no_canary(live: Live, *, is_ended: bool) -> None:
    if not spec.is_under_way(live):
        return
    ways = "promote it or roll it back first"
    if spec.mode_of(live) is Mode.STANDARD:
        if is_ended:
            return
        ways += ", or end it with --end-canary"
    # In mode Knative the canary is the predictor itself: without its share it would be promoted.
    raise ValueError(f"canary: {spec.canary_version(live)} is under way; {ways}")


def _require_same_version(cluster: Cluster, live: Live, model: Model) -> None:
    version = state.serving_version(cluster, live)
    if version != model.version:
        raise ValueError(
            f"version: {model.version}; {version}, which serves: its pods would end before those "
            "of another one are ready. `python -m serving canary` changes the version"
        )


def promote(cluster: Cluster, version: str, *, force: bool, timeout_seconds: float) -> None:
    """Make the canary, which must have passed its steps and be whole, the stable model.

    Args:
        cluster: The service.
        version: Of the canary.
        force: Take over fields that others manage.
        timeout_seconds: Until all traffic must be at it as the stable model.

    Raises:
        ValueError: There is no canary of this version, or it has not passed every step.
        CanaryTargetError: Not all its pods are ready, or it does not have all traffic; or the
            change failed.
    """
    live = cluster.service()
    access.require(cluster, spec.mode_of(live))
    spec.require_passed(live, version)

    def change(live: Live) -> Live | None:
        if is_promoted(live, version):
            return None  # By an attempt whose answer was lost.
        spec.require_passed(live, version)
        if reason := state.pending_share(cluster, live, percent=spec.ALL):
            raise ValueError(f"canary: {version} is not ready with 100 % of the traffic; {reason}")
        return changes.promoted(live)

    cluster.change(change, force=force, timeout_seconds=timeout_seconds)
    wait_for_stable(cluster, version, timeout_seconds=timeout_seconds)


def is_promoted(live: Live, version: str) -> bool:
    """Whether a version is the stable one, and no canary is there."""
    return spec.canary_version(live) is None and spec.stable_version(live) == version


def wait_for_stable(cluster: Cluster, version: str, *, timeout_seconds: float) -> None:
    """Return when all traffic is at a version that is the stable one."""
    cluster.wait(
        lambda: state.pending_stable(cluster, cluster.service()),
        what=f"ready with all traffic at {version}",
        timeout_seconds=timeout_seconds,
    )


def roll_back(cluster: Cluster, *, timeout_seconds: float) -> tuple[str, str]:
    """Take all traffic from the canary, whoever began it; its version, and who has it all now."""
    live = cluster.service()
    access.require(cluster, spec.mode_of(live))
    version = spec.require_canary(live)
    take_back(cluster, rollout=None, timeout_seconds=timeout_seconds)
    return version, state.control_of(cluster, cluster.service()).version
