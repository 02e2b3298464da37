"""The verbs that work on a cluster, and their flags; nothing heavy until one of them runs."""

import argparse
import dataclasses
import datetime
import signal
from typing import TYPE_CHECKING

from features.catalog import SCHEMAS
from features.door import Door, SkippedError, Summary
from serving.rollout.verdict import Limits

if TYPE_CHECKING:
    from serving.rollout.cluster import Cluster
    from serving.rollout.manifest import Model
    from serving.rollout.place import Place

ENDPOINT = "http://127.0.0.1:8081"


def add_deploy(door: Door) -> None:
    """`deploy`: one model that has all traffic."""
    verb = door.verb(
        "deploy",
        _deploy,
        "Apply an InferenceService to a Kubernetes cluster with KServe and wait until it is ready. "
        "One model, which has all traffic at once: for the first one, or to change what stays "
        "around the model. A new model takes over by `canary`. Prints the manifest with "
        "--dry-run, and needs no cluster then.",
        has_dataset=False,
    )
    verb.add_argument("--dataset", required=True, choices=sorted(SCHEMAS), help="the data set")
    _add_place(verb)
    _add_model(verb)
    verb.add_argument("--image", required=True, help="container image with this package")
    verb.add_argument("--store-claim", required=True, help="volume claim with the online store")
    verb.add_argument(
        "--mode", choices=("Standard", "Knative"), default="Standard", help="of KServe"
    )
    verb.add_argument(
        "--autoscaler", choices=("hpa", "keda", "kpa"), help="hpa, or kpa in mode Knative"
    )
    verb.add_argument("--min-replicas", type=int, default=2, help="pods at least")
    verb.add_argument("--max-replicas", type=int, default=4, help="pods at most")
    verb.add_argument("--cpu", default="2", help="CPUs requested for a pod")
    verb.add_argument("--memory", default="4Gi", help="memory requested for a pod, and its limit")
    verb.add_argument("--dry-run", action="store_true", help="print the manifest as YAML only")
    _add_force(verb)
    _add_ready(verb)


def add_canary(door: Door) -> None:
    """`canary`: a new model beside the stable one, with more and more traffic."""
    verb = door.verb(
        "canary",
        _canary,
        "Give a new model 0, 5, 25, 50 and 100 percent of the traffic, checking each step. "
        "At 0 it must get ready. From 5 on its metrics are held against those of the "
        "stable model over the same time: enough requests, error rate, p95, mean scores. At "
        "100 the stable model stays up; `promote` then lets it go. When a check fails, "
        "or time is up, or on SIGINT or SIGTERM, all traffic goes back and the exit code is 1. "
        "Works on the local server, for the candidate of a day whose gate said promote or for a "
        "version, and with --service on a cluster.",
        *("artifacts", "tracking", "reports"),
        has_dataset=False,
    )
    verb.set_defaults(misused=verb.error)
    _add_local(verb)
    _add_day(verb)
    verb.add_argument("--version", help="version of the exported ranker, instead of --date")
    verb.add_argument(
        "--storage-uri",
        help="with --service: its folder, such as s3://bucket/{version}, where {version} becomes "
        "the version",
    )
    _add_place(verb, is_required=False)
    verb.add_argument("--image", help="container image; without it, the stable model's")
    _add_force(verb)
    for field in dataclasses.fields(Limits):
        kind = int if isinstance(field.default, int) else float
        flag = f"--{field.name.replace('_', '-')}"
        verb.add_argument(flag, type=kind, default=field.default, help=_LIMITS[field.name])


def add_rollback(door: Door) -> None:
    """`rollback`: all traffic back to the stable model, or to the champion before this one."""
    verb = door.verb(
        "rollback",
        _rollback,
        "Undo the newest change of the model that serves. On the local server: a canary loses its "
        "traffic; without a canary the champion gives way to the one before it, and running this "
        "again goes further back. What was taken back is not promoted again by a re-run of its "
        "day. With --service, on a cluster: all traffic is taken from the service's canary; fields "
        "that others manage are taken over where need be.",
        *("artifacts", "tracking"),
        has_dataset=False,
    )
    verb.set_defaults(misused=verb.error)
    _add_local(verb)
    verb.add_argument("--to", metavar="VERSION", help="make this version the champion")
    _add_place(verb, is_required=False)
    _add_ready(verb)


def add_shadow(door: Door) -> None:
    """`shadow`: a challenger that scores copies of requests and answers none."""
    verb = door.verb(
        "shadow",
        _shadow,
        "Let a challenger score copies of a share of the requests on the local server. Its scores "
        "are compared and logged, and no caller gets them. The share 0 ends it.",
        "tracking",
    )
    verb.add_argument("--endpoint", default=ENDPOINT, help="the server's REST address")
    verb.add_argument("--version", help="the challenger; without it, the alias `challenger`")
    verb.add_argument("--percent", type=float, default=10.0, help="of the requests; 0: none")


def add_promotion(verb: argparse.ArgumentParser) -> None:
    """The flags of `promote`."""
    _add_local(verb)
    _add_day(verb)
    _add_place(verb, is_required=False)
    _add_force(verb)
    _add_ready(verb)


def promote(options: argparse.Namespace) -> Summary:
    """Make the canary of a service its stable model; for a day's candidate, the champion too."""
    from serving.rollout import traffic

    candidate = _candidate(options) if options.date else None
    cluster = _cluster(options)
    live = cluster.read()
    version = traffic.canary_version(live)
    if candidate is not None and version != candidate:
        raise ValueError(f"canary: {version}; the day's candidate, {candidate}: run its canary")
    applied = cluster.apply(traffic.promoted(live), force=options.force)
    cluster.wait(
        traffic.is_stable,
        generation=applied["metadata"]["generation"],
        what=f"ready with all traffic at {version}",
        timeout_seconds=options.ready_timeout_seconds,
    )
    if candidate is not None:
        from serving import promotion
        from training.registry import Registry

        promotion.install(Registry(options.tracking, options.dataset), candidate)
    return {"service": options.service, "version": version}


_LIMITS = {
    "min_requests": "requests of each model at each step",
    "max_error_rate_increase": "failed share of requests above the stable model's",
    "max_p95_ratio": "p95 as a multiple of the stable model's",
    "max_score_psi": "population stability index between the mean scores of requests",
    "step_timeout_seconds": "a step without enough requests fails after this",
    "ready_timeout_seconds": "a canary that is not ready fails after this",
}


def _deploy(options: argparse.Namespace) -> Summary:
    from serving.rollout import manifest, traffic

    mode = manifest.Mode(options.mode)
    default = "hpa" if mode is manifest.Mode.STANDARD else "kpa"
    service = manifest.Service(
        name=options.service,
        namespace=options.namespace,
        dataset=options.dataset,
        image=options.image,
        store_claim=options.store_claim,
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


def _canary(options: argparse.Namespace) -> Summary:
    from serving.rollout.steps import Canary

    if bool(options.date) == bool(options.version):
        options.misused("--date or --version: one of them")
    if options.date and not options.dataset:
        options.misused("--date: with --dataset only")
    limits = {field.name: getattr(options, field.name) for field in dataclasses.fields(Limits)}
    place = _service_place(options) if options.service else _local_place(options)
    if place is None:
        return {"canary": None, "note": "nothing to compare with; promote decides alone"}
    # A job that is told to end must not leave its canary behind: as by Ctrl-C, it goes back.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return {"service": options.service, **Canary(place=place, limits=Limits(**limits)).run()}
    finally:
        signal.signal(signal.SIGTERM, before)


def _candidate(options: argparse.Namespace) -> str:
    """The version of a day that may be promoted; SkippedError where there is none."""
    from serving import promotion
    from serving.endpoint import Endpoint

    decision = promotion.read_decision(
        options.reports,
        dataset=options.dataset,
        day=options.date,
        is_upscaled=options.upscaled,
    )
    if decision["decision"] != "promote":
        raise SkippedError(promotion.why_not(decision))
    from training.registry import Registry

    endpoint = None if options.service else Endpoint.from_environment(options.endpoint)
    return promotion.candidate_of(
        Registry(options.tracking, options.dataset),
        decision=decision,
        day=options.date,
        again=options.again,
        endpoint=endpoint,
    )


def _service_place(options: argparse.Namespace) -> "Place":
    from serving.rollout.manifest import Model
    from serving.rollout.service import ServicePlace

    if not options.storage_uri:
        options.misused("--storage-uri: required with --service")
    version = options.version or _candidate(options)
    uri = options.storage_uri.replace("{version}", version)
    return ServicePlace(
        cluster=_cluster(options),
        model=Model(version=version, storage_uri=uri),
        image=options.image,
        force=options.force,
    )


def _local_place(options: argparse.Namespace) -> "Place | None":
    """Where the local server tries a version; None where no champion or no server is."""
    from serving.endpoint import Endpoint, NoEndpointError
    from serving.rollout.local import LocalPlace

    if not options.dataset:
        options.misused("--dataset is required, or --service for a cluster")
    version = options.version or _candidate(options)
    from training.aliases import CHAMPION
    from training.registry import Registry

    registry = Registry(options.tracking, options.dataset)
    endpoint = Endpoint.from_environment(options.endpoint)
    try:
        endpoint.version()
    except NoEndpointError:
        return None
    if registry.alias(CHAMPION) in {None, version}:
        return None
    return LocalPlace(registry=registry, endpoint=endpoint, version=version)


def _rollback(options: argparse.Namespace) -> Summary:
    if bool(options.service) == bool(options.dataset):
        options.misused("--dataset for the local server, or --service for a cluster")
    if options.dataset:
        from serving import rollback
        from serving.endpoint import Endpoint
        from training.registry import Registry

        return rollback.roll_back(
            Registry(options.tracking, options.dataset),
            to=options.to,
            endpoint=Endpoint.from_environment(options.endpoint),
            artifacts=options.artifacts / options.dataset,
        )
    if options.to:
        options.misused("--to: not with --service")
    return _rollback_service(options)


def _rollback_service(options: argparse.Namespace) -> Summary:
    from serving.rollout import traffic

    cluster = _cluster(options)
    live = cluster.read()
    version = traffic.canary_version(live)
    applied = cluster.apply(traffic.rolled_back(live), force=True)
    live = cluster.wait(
        traffic.is_rolled_back,
        generation=applied["metadata"]["generation"],
        what=f"ready without traffic for {version}",
        timeout_seconds=options.ready_timeout_seconds,
    )
    return {"service": options.service, "from": version, "to": traffic.control_of(live)}


def _shadow(options: argparse.Namespace) -> Summary:
    from serving import roles
    from serving.endpoint import Endpoint, NoEndpointError
    from training import aliases
    from training.registry import Registry

    registry = Registry(options.tracking, options.dataset)
    version = options.version or registry.alias(aliases.CHALLENGER)
    if not options.percent:
        roles.clear_share(registry, aliases.SHADOW)
    elif version is None:
        raise ValueError(f"alias {aliases.CHALLENGER}: not set; --version names a version")
    else:
        share = roles.Share(version=version, percent=options.percent)
        roles.write_share(registry, aliases.SHADOW, share)
    try:
        lineup = Endpoint.from_environment(options.endpoint).follow()
    except NoEndpointError:
        return {"served": False, "note": "no endpoint answers; the next start follows"}
    return {"served": True, "shadow": lineup.get(aliases.SHADOW)}


def _cluster(options: argparse.Namespace) -> "Cluster":
    from serving.rollout import cluster

    api = cluster.connect(kubeconfig=options.kubeconfig, context=options.context)
    return cluster.Cluster(
        api,
        namespace=options.namespace,
        name=options.service,
        pause_seconds=cluster.PAUSE_SECONDS,
    )


def _model(options: argparse.Namespace) -> "Model":
    from serving.rollout.manifest import Model

    return Model(version=options.version, storage_uri=options.storage_uri)


def _add_local(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--dataset", choices=sorted(SCHEMAS), help="the data set; required without --service"
    )
    verb.add_argument("--endpoint", default=ENDPOINT, help="the local server's REST address")


def _add_day(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--date",
        type=datetime.date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="day of the candidate, whose gate must have said promote",
    )
    verb.add_argument(
        "--upscaled", action="store_true", help="the day's candidate that grew, not the daily one"
    )
    verb.add_argument(
        "--again", action="store_true", help="a version that was rolled back, all the same"
    )


def _add_place(verb: argparse.ArgumentParser, *, is_required: bool = True) -> None:
    verb.add_argument("--service", required=is_required, help="name of the InferenceService")
    verb.add_argument("--namespace", default="default", help="its namespace")
    verb.add_argument("--kubeconfig", help="file; without it, $KUBECONFIG or ~/.kube/config")
    verb.add_argument("--context", help="context of the kubeconfig; without it, the current one")


def _add_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--version", required=True, help="version of the exported ranker")
    verb.add_argument("--storage-uri", required=True, help="its folder, such as s3://bucket/folder")


def _add_force(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--force", action="store_true", help="take over fields that others manage")


def _add_ready(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--ready-timeout-seconds",
        type=float,
        default=Limits.ready_timeout_seconds,
        help="a service that is not ready fails after this",
    )
