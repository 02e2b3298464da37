"""What the commands do. Each imports what it needs when it runs, for a quick start."""

import argparse
import dataclasses
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from features.cli import FailedError, SkippedError, Summary
from serving.release.analysis import Limits, limits_of_gate

if TYPE_CHECKING:
    from serving.release.canary_target import CanaryTarget
    from serving.release.kserve.cluster import Cluster
    from serving.release.kserve.manifest import Model


def deploy(options: argparse.Namespace) -> Summary:
    """Apply a service with one model that has all traffic."""
    from serving.release.kserve import manifest, traffic

    mode = manifest.Mode(options.mode)
    default = "hpa" if mode is manifest.Mode.STANDARD else "kpa"
    service = manifest.Service(
        name=options.service,
        namespace=options.namespace,
        dataset=options.dataset,
        image=options.image,
        store_claim=options.store_claim,
        secret=options.secret,
        mode=mode,
        autoscaler=manifest.Autoscaler(options.autoscaler or default),
        min_replicas=options.min_replicas,
        max_replicas=options.max_replicas,
        cpu=options.cpu,
        memory=options.memory,
    )
    model = _model(options)
    desired = manifest.render(service, model)
    summary = {"service": options.service, "version": model.version}
    if options.dry_run:
        import yaml

        return {**summary, "applied": False, "markdown": yaml.safe_dump(desired, sort_keys=False)}
    cluster = _cluster(options)
    applied = cluster.apply(desired, force=options.force)
    live = cluster.wait(
        traffic.is_stable,
        generation=applied["metadata"]["generation"],
        what=f"ready with {model.version}",
        timeout_seconds=options.ready_timeout_seconds,
    )
    return {**summary, "applied": True, "url": live["status"].get("url")}


def canary(options: argparse.Namespace) -> Summary:
    """Try a version on the local server, or on a service."""
    from serving.release.canary import Canary

    if bool(options.date) == bool(options.version):
        options.misused("--date or --version: one of them")
    if options.date and not options.dataset:
        options.misused("--date: with --dataset only")
    decision = _decision(options) if options.date else {}
    target = _target(options, decision)
    if target is None:
        return {"canary": None, "note": "nothing to compare with; the gate alone decides"}
    limits = _limits(options, decision)
    # A job that gets SIGTERM must not leave its canary behind: it rolls back, as by Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return {"service": options.service, **Canary(target=target, limits=limits).run()}
    finally:
        signal.signal(signal.SIGTERM, before)


def _target(options: argparse.Namespace, decision: Mapping[str, Any]) -> "CanaryTarget | None":
    from serving.release.promotion import WentBackError

    try:
        return (_service_target if options.service else _local_target)(options, decision)
    except WentBackError as error:
        # Not skipped: a task that is tried a second time must not end better than the first.
        raise FailedError(str(error)) from error


def _limits(options: argparse.Namespace, decision: Mapping[str, Any]) -> Limits:
    """The limits of the command line; else what the gate saw; else the defaults."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(Limits)}
    given = {name: value for name, value in values.items() if value is not None}
    return Limits(**{**limits_of_gate(decision.get("agreement")), **given})


def _decision(options: argparse.Namespace) -> dict[str, Any]:
    """What the gate decided on a day; SkippedError where that was not to promote."""
    from serving.release import promotion

    decision = promotion.read_decision(
        options.reports,
        dataset=options.dataset,
        day=options.date,
        is_upscaled=options.upscaled,
    )
    if decision["decision"] != "promote":
        raise SkippedError(promotion.why_not(decision))
    return decision


def _candidate(options: argparse.Namespace, decision: Mapping[str, Any]) -> str:
    """The version of a day that may be promoted; SkippedError where there is none."""
    from serving.release import promotion
    from serving.release.endpoint_client import Endpoint
    from training.registry.mlflow_registry import Registry

    endpoint = None if options.service else Endpoint.from_environment(options.endpoint)
    return promotion.candidate_of(
        Registry(options.tracking, options.dataset),
        decision=decision,
        day=options.date,
        again=options.again,
        endpoint=endpoint,
    )


def _service_target(options: argparse.Namespace, decision: Mapping[str, Any]) -> "CanaryTarget":
    from serving.release.kserve.manifest import Model
    from serving.release.kserve.target import ServiceTarget

    if not options.storage_uri:
        options.misused("--storage-uri: required with --service")
    version = options.version or _candidate(options, decision)
    registry = None
    if options.dataset:
        from training.registry.mlflow_registry import Registry

        registry = Registry(options.tracking, options.dataset)
    uri = options.storage_uri.replace("{version}", version)
    return ServiceTarget(
        cluster=_cluster(options),
        model=Model(version=version, storage_uri=uri),
        image=options.image,
        force=options.force,
        registry=registry,
    )


def _local_target(
    options: argparse.Namespace, decision: Mapping[str, Any]
) -> "CanaryTarget | None":
    """Where the local server tries a version; None where no champion or no server is."""
    from serving.release.endpoint_client import Endpoint, NoEndpointError
    from serving.release.local_target import LocalTarget

    if not options.dataset:
        options.misused("--dataset is required, or --service for a cluster")
    version = options.version or _candidate(options, decision)
    from training.registry.aliases import CHAMPION
    from training.registry.mlflow_registry import Registry

    registry = Registry(options.tracking, options.dataset)
    endpoint = Endpoint.from_environment(options.endpoint)
    try:
        endpoint.version()
    except NoEndpointError:
        return None
    if registry.alias(CHAMPION) in {None, version}:
        return None
    return LocalTarget(registry=registry, endpoint=endpoint, version=version)


def rollback(options: argparse.Namespace) -> Summary:
    """Undo the newest change on the local server, or take a service's canary away."""
    if bool(options.service) == bool(options.dataset):
        options.misused("--dataset for the local server, or --service for a cluster")
    if options.dataset:
        from serving.release.endpoint_client import Endpoint
        from serving.release.rollback import roll_back
        from training.registry.mlflow_registry import Registry

        return roll_back(
            Registry(options.tracking, options.dataset),
            to=options.to,
            endpoint=Endpoint.from_environment(options.endpoint),
            artifacts=options.artifacts / options.dataset,
        )
    if options.to:
        options.misused("--to: not with --service")
    return _rollback_service(options)


def _rollback_service(options: argparse.Namespace) -> Summary:
    from serving.release.kserve import traffic
    from serving.release.kserve.target import take_back

    cluster = _cluster(options)
    version = traffic.canary_version(cluster.read())
    live = cluster.wait(
        traffic.is_rolled_back,
        generation=take_back(cluster),
        what=f"ready without traffic for {version}",
        timeout_seconds=options.ready_timeout_seconds,
    )
    return {"service": options.service, "from": version, "to": traffic.control_of(live)}


def shadow(options: argparse.Namespace) -> Summary:
    """Begin, change or end a challenger's share of copies."""
    from serving.release.endpoint_client import Endpoint, NoEndpointError
    from serving.routing import traffic_split
    from training.registry import aliases
    from training.registry.mlflow_registry import Registry

    registry = Registry(options.tracking, options.dataset)
    version = options.version or registry.alias(aliases.CHALLENGER)
    if not options.percent:
        traffic_split.clear_share(registry, aliases.SHADOW)
    elif version is None:
        raise ValueError(f"alias {aliases.CHALLENGER}: not set; --version names a version")
    else:
        share = traffic_split.Share(version=version, percent=options.percent)
        traffic_split.write_share(registry, aliases.SHADOW, share)
    try:
        versions = Endpoint.from_environment(options.endpoint).follow()
    except NoEndpointError:
        return {"served": False, "note": "no endpoint answers; the next start follows"}
    return {"served": True, "shadow": versions.get(aliases.SHADOW)}


def _cluster(options: argparse.Namespace) -> "Cluster":
    from serving.release.kserve import cluster

    api = cluster.connect(kubeconfig=options.kubeconfig, context=options.context)
    return cluster.Cluster(
        api,
        namespace=options.namespace,
        name=options.service,
        pause_seconds=cluster.PAUSE_SECONDS,
    )


def _model(options: argparse.Namespace) -> "Model":
    from serving.release.kserve.manifest import Model

    return Model(version=options.version, storage_uri=options.storage_uri)


def promote(options: argparse.Namespace) -> Summary:
    """Make a service's passed canary its stable model; for a day's candidate, the champion too."""
    from serving.release.kserve import traffic

    candidate = _candidate(options, _decision(options)) if options.date else None
    cluster = _cluster(options)
    live = cluster.read()
    version = traffic.canary_version(live)
    if candidate is not None and version != candidate:
        raise ValueError(f"canary: {version}; the day's candidate, {candidate}: run its canary")
    version = traffic.require_passed(live)
    applied = cluster.apply(traffic.promoted(live), force=options.force)
    cluster.wait(
        traffic.is_stable,
        generation=applied["metadata"]["generation"],
        what=f"ready with all traffic at {version}",
        timeout_seconds=options.ready_timeout_seconds,
    )
    if candidate is not None:
        from serving.release import promotion
        from training.registry.mlflow_registry import Registry

        promotion.install(Registry(options.tracking, options.dataset), candidate)
    return {"service": options.service, "version": version}
