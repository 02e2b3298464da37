"""The commands of ``python -m serving``: what each does with its request.

Each imports what it needs when it runs, for a quick start.
"""

import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar, cast

from features.cli import Command, FailedError, SkippedError, Summary
from features.datasets.catalog import schema_of
from serving.cli.decision import decision_of
from serving.cli.policy import POLICY
from serving.cli.requests import (
    CanaryRequest,
    DeployRequest,
    OfCandidate,
    OfCluster,
    PromoteRequest,
    PruneLogRequest,
    RollbackRequest,
    ServeRequest,
    ShadowRequest,
)
from serving.release.endpoint_client import Endpoint, NoEndpointError
from serving.release.kserve.service import Model

if TYPE_CHECKING:
    from serving.release.canary_target import CanaryTarget
    from serving.release.kserve.cluster import Cluster
    from training.registry.mlflow_registry import Registry

_Value = TypeVar("_Value")


def _serve(request: ServeRequest) -> Summary:
    # Read when torch is imported. Threads of libgomp look for work for milliseconds before they
    # sleep, on cores that the rest of a request needs; a thousand looks are some microseconds.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from serving.processes.options import Options
    from serving.processes.start import serve

    options = Options(
        schemas=tuple(map(schema_of, request.datasets)),
        store=request.store,
        artifacts=request.artifacts,
        tracking=request.tracking,
        host=request.host,
        http_port=request.http_port,
        grpc_port=request.grpc_port,
        metrics_port=request.metrics_port,
        model=request.model,
        compiled=request.compiled,
    )
    return {"versions": serve(options), "stopped": True}


def _deploy(request: DeployRequest) -> Summary:
    from serving.release.kserve import manifest, rollout

    model = Model(version=request.version, storage_uri=request.storage_uri)
    summary = {"service": request.service, "version": model.version}
    if request.dry_run:
        import yaml

        text = yaml.safe_dump(manifest.render(request, model), sort_keys=False)
        return {**summary, "applied": False, "document": text}
    url = rollout.deploy(
        _cluster(request),
        request,
        model,
        force=request.force,
        is_canary_ended=request.end_canary,
        timeout_seconds=request.ready_timeout_seconds,
    )
    return {**summary, "applied": True, "url": url}


def _canary(request: CanaryRequest) -> Summary:
    from serving.release.canary import Canary
    from serving.release.promotion import WentBackError

    decision = decision_of(request) if request.date else {}
    try:
        target = (_service_target if request.service else _local_target)(request, decision)
    except WentBackError as error:
        # Not skipped: a task that is tried a second time must not end better than the first.
        raise FailedError(str(error)) from error
    if target is None:
        return {"canary": None, "note": "nothing to compare with; the gate alone decides"}
    agreement = cast("Mapping[str, float | None] | None", decision.get("agreement"))
    limits = request.with_agreement(agreement)
    # A job that gets SIGTERM must not leave its canary behind: it rolls back, as by Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return {"service": request.service, **Canary(target=target, limits=limits).run()}
    finally:
        signal.signal(signal.SIGTERM, before)


def _service_target(request: CanaryRequest, decision: Mapping[str, object]) -> "CanaryTarget":
    from serving.release.kserve.target import ServiceTarget

    version = request.version or _candidate(request, decision)
    uri = _given(request.storage_uri).replace("{version}", version)
    return ServiceTarget(
        cluster=_cluster(request),
        model=Model(version=version, storage_uri=uri),
        image=request.image,
        force=request.force,
        registry=_registry(request) if request.dataset else None,
    )


def _local_target(request: CanaryRequest, decision: Mapping[str, object]) -> "CanaryTarget | None":
    """Where the local server tries a version; None where no champion or no server is."""
    from serving.release.local_target import LocalTarget
    from training.registry.aliases import CHAMPION

    version = request.version or _candidate(request, decision)
    registry = _registry(request)
    endpoint = _endpoint(request)
    try:
        endpoint.version()
    except NoEndpointError:
        return None
    if registry.alias(CHAMPION) in {None, version}:
        return None
    return LocalTarget(registry=registry, endpoint=endpoint, version=version)


def _promote(request: PromoteRequest) -> Summary:
    if request.service:
        return _promote_on_cluster(request)
    from serving.release import promotion

    decision, day = decision_of(request), _given(request.date)
    done = promotion.promote(
        _registry(request),
        decision=decision,
        day=day,
        endpoint=_endpoint(request),
        again=request.again,
    )
    parity = decision["parity"]
    return {"dataset": request.dataset, "date": day.isoformat(), "parity": parity, **done}


def _promote_on_cluster(request: PromoteRequest) -> Summary:
    """Make a service's passed canary its stable model; for a day's candidate, the champion too."""
    from serving.release import promotion
    from serving.release.kserve import rollout

    version = request.version or _candidate(request, decision_of(request))
    cluster, timeout_seconds = _cluster(request), request.ready_timeout_seconds
    if request.date and rollout.is_promoted(cluster.service(), version):
        # By a run that ended before it had seen so.
        rollout.wait_for_stable(cluster, version, timeout_seconds=timeout_seconds)
    else:
        rollout.promote(cluster, version, force=request.force, timeout_seconds=timeout_seconds)
    if request.date:
        promotion.install(_registry(request), version)
    return {"service": request.service, "version": version}


def _rollback(request: RollbackRequest) -> Summary:
    if request.service:
        return _rollback_on_cluster(request)
    from serving.release.rollback import roll_back

    return roll_back(
        _registry(request),
        to=request.to,
        endpoint=_endpoint(request),
        artifacts=request.artifacts / _given(request.dataset),
    )


def _rollback_on_cluster(request: RollbackRequest) -> Summary:
    """Take all traffic from a service's canary."""
    from serving.release.kserve import rollout

    version, control = rollout.roll_back(
        _cluster(request), timeout_seconds=request.ready_timeout_seconds
    )
    return {"service": request.service, "from": version, "to": control}


def _shadow(request: ShadowRequest) -> Summary:
    from serving.routing import traffic_split
    from training.registry import aliases

    registry = _registry(request)
    version = request.version or registry.alias(aliases.CHALLENGER)
    if not request.percent:
        traffic_split.clear_share(registry, aliases.SHADOW)
    elif version is None:
        raise ValueError(f"alias {aliases.CHALLENGER}: not set; --version names a version")
    else:
        share = traffic_split.Share(version=version, percent=request.percent)
        traffic_split.write_share(registry, aliases.SHADOW, share)
    try:
        versions = _endpoint(request).follow()
    except NoEndpointError:
        return {"served": False, "note": "no endpoint answers; the next start follows"}
    return {"served": True, "shadow": versions.get(aliases.SHADOW)}


def _prune_log(request: PruneLogRequest) -> Summary:
    from features.prediction_log.settings import Logging
    from features.prediction_log.table import table_root, tidy

    settings = Logging.from_environment()
    if request.log is None and not settings.has_folder:
        raise SkippedError("RANKING_LOG_FOLDER: not set; there is no log of answers")
    root = table_root(request.log or settings.folder, request.dataset)
    done = tidy(
        root,
        until=request.date,
        keep_days=settings.keep_days,
        grace_hours=request.grace_hours,
    )
    if done is None:
        raise SkippedError(f"{root}: no log of answers yet")
    deleted = {"files": done.deleted.num_files, "bytes": done.deleted.num_bytes}
    return {"log": str(root), **done._asdict(), "deleted": deleted}


def _candidate(request: OfCandidate, decision: Mapping[str, object]) -> str:
    """The version of a day that may be promoted; SkippedError where there is none."""
    from serving.release.promotion import candidate_of

    return candidate_of(
        _registry(request),
        decision=decision,
        day=_given(request.date),
        again=request.again,
        endpoint=None if request.service else _endpoint(request),
    )


def _endpoint(request: OfCandidate | RollbackRequest | ShadowRequest) -> Endpoint:
    return Endpoint.from_environment(request.endpoint, model=_given(request.dataset))


def _registry(request: OfCandidate | RollbackRequest | ShadowRequest) -> "Registry":
    from training.registry.mlflow_registry import Registry

    return Registry(request.tracking, _given(request.dataset))


def _cluster(request: OfCluster) -> "Cluster":
    from serving.release.kserve import cluster
    from serving.release.kserve.api import connect

    return cluster.Cluster(
        lambda: connect(kubeconfig=request.kubeconfig, context=request.context),
        namespace=request.namespace,
        name=_given(request.service),
        pause_seconds=cluster.PAUSE_SECONDS,
    )


def _given(value: _Value | None) -> _Value:
    """What its request holds to be given."""
    assert value is not None
    return value


COMMANDS: dict[str, Command] = {
    "serve": _serve,
    "deploy": _deploy,
    "canary": _canary,
    "promote": _promote,
    "rollback": _rollback,
    "shadow": _shadow,
    "prune-log": _prune_log,
    **POLICY,
}
"""What answers requests, what changes the models that do, the log of answers, the policy."""
