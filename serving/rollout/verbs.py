"""The verbs that work on a cluster, and their flags; nothing heavy until one of them runs."""

import argparse
import dataclasses
import signal
from typing import TYPE_CHECKING

from features.catalog import SCHEMAS
from features.door import Door, Summary
from serving.rollout.verdict import Limits

if TYPE_CHECKING:
    from serving.rollout.cluster import Cluster
    from serving.rollout.manifest import Model


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
        "Give a new model 0, 5, 25, 50 and 100 percent of a service's traffic, checking each step. "
        "At 0 it must get ready. From 5 on its pods' metrics are held against those of the "
        "stable model over the same time: enough requests, error rate, p95, mean scores. At "
        "100 the stable model stays up; `promote --service` then lets it go. When a check fails, "
        "or time is up, or on SIGINT or SIGTERM, all traffic goes back and the exit code is 1.",
        has_dataset=False,
    )
    _add_place(verb)
    _add_model(verb)
    verb.add_argument("--image", help="container image; without it, the stable model's")
    _add_force(verb)
    for field in dataclasses.fields(Limits):
        kind = int if isinstance(field.default, int) else float
        flag = f"--{field.name.replace('_', '-')}"
        verb.add_argument(flag, type=kind, default=field.default, help=_LIMITS[field.name])


def add_rollback(door: Door) -> None:
    """`rollback`: all traffic back to the stable model."""
    verb = door.verb(
        "rollback",
        _rollback,
        "Take all traffic from a service's canary. The stable model, which never stopped, has all "
        "of it again. Fields that others manage are taken over where need be.",
        has_dataset=False,
    )
    _add_place(verb)
    _add_ready(verb)


def add_promotion(verb: argparse.ArgumentParser) -> None:
    """The flags of `promote` by which it works on a cluster."""
    _add_place(verb, is_required=False)
    _add_force(verb)
    _add_ready(verb)


def promote(options: argparse.Namespace) -> Summary:
    """Make the canary of a service its stable model."""
    from serving.rollout import traffic

    cluster = _cluster(options)
    live = cluster.read()
    version = traffic.canary_version(live)
    applied = cluster.apply(traffic.promoted(live), force=options.force)
    cluster.wait(
        traffic.is_stable,
        generation=applied["metadata"]["generation"],
        what=f"ready with all traffic at {version}",
        timeout_seconds=options.ready_timeout_seconds,
    )
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

    limits = {field.name: getattr(options, field.name) for field in dataclasses.fields(Limits)}
    canary = Canary(
        cluster=_cluster(options),
        model=_model(options),
        limits=Limits(**limits),
        image=options.image,
        force=options.force,
    )
    # A job that is told to end must not leave its canary behind: as by Ctrl-C, it goes back.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return {"service": options.service, **canary.run()}
    finally:
        signal.signal(signal.SIGTERM, before)


def _rollback(options: argparse.Namespace) -> Summary:
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
