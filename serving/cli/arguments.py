"""The commands that change what serves, and their flags; nothing heavy until one of them runs."""

import argparse
import dataclasses
import datetime

from features.cli import CommandLine
from features.datasets.catalog import SCHEMAS
from serving.cli import commands
from serving.release.analysis import FROM_THE_GATE, Limits
from serving.release.endpoint_client import DEFAULT_URL, NOWHERE


def add_deploy(command_line: CommandLine) -> None:
    """`deploy`: one model that has all traffic."""
    command = command_line.command(
        "deploy",
        commands.deploy,
        "Apply an InferenceService to a Kubernetes cluster with KServe and wait until it is ready. "
        "One model, which has all traffic at once: for the first one, or to change what stays "
        "around the model. A new model takes over by `canary`. Prints the manifest with "
        "--dry-run, and needs no cluster then.",
        has_dataset=False,
    )
    command.add_argument("--dataset", required=True, choices=sorted(SCHEMAS), help="the data set")
    _add_place(command)
    _add_model(command)
    command.add_argument("--image", required=True, help="container image with this package")
    command.add_argument("--store-claim", required=True, help="volume claim with the online store")
    command.add_argument(
        "--secret",
        default="",
        help="secret whose entries become the pod's environment, such as RANKING_TOKEN",
    )
    command.add_argument(
        "--mode", choices=("Standard", "Knative"), default="Standard", help="of KServe"
    )
    command.add_argument(
        "--autoscaler", choices=("hpa", "keda", "kpa"), help="hpa, or kpa in mode Knative"
    )
    command.add_argument("--min-replicas", type=int, default=2, help="pods at least")
    command.add_argument("--max-replicas", type=int, default=4, help="pods at most")
    command.add_argument("--cpu", default="2", help="CPUs requested for a pod")
    command.add_argument(
        "--memory", default="4Gi", help="memory requested for a pod, and its limit"
    )
    command.add_argument("--dry-run", action="store_true", help="print the manifest as YAML only")
    _add_force(command)
    _add_ready(command)


def add_canary(command_line: CommandLine) -> None:
    """`canary`: a new model gets more and more of the stable one's traffic."""
    command = command_line.command(
        "canary",
        commands.canary,
        "Give a new model 5, 25, 50 and 95 percent of the traffic, then all. At 0 it must get "
        "ready. At each step it must be shown to do as well as the stable model in the same "
        "minutes: failed and degraded requests, p95, scores. At 100 the stable model stays up; "
        "`promote` then lets it go. When a check is broken, or not shown to be kept in four times "
        "--min-requests, or time is up, or on SIGINT or SIGTERM, all traffic goes back and the "
        "exit code is 1; a version that did not hold is not promoted by a re-run. A local server "
        "without any traffic is no failure: the JSON says `no traffic`. "
        "Works on the local server, for the candidate of a day whose gate said promote or for a "
        "version, and with --service on a cluster.",
        *("artifacts", "tracking", "reports"),
        has_dataset=False,
    )
    command.set_defaults(misused=command.error)
    _add_local(command)
    _add_day(command)
    command.add_argument("--version", help="version of the exported ranker, instead of --date")
    command.add_argument(
        "--storage-uri",
        help="with --service: its folder, such as s3://bucket/{version}, where {version} becomes "
        "the version",
    )
    _add_place(command, is_required=False)
    command.add_argument("--image", help="container image; without it, the stable model's")
    _add_force(command)
    for field in dataclasses.fields(Limits):
        kind = int if isinstance(field.default, int) else float
        flag = f"--{field.name.replace('_', '-')}"
        default = None if field.name in FROM_THE_GATE else field.default
        command.add_argument(flag, type=kind, default=default, help=_LIMITS[field.name])


def add_rollback(command_line: CommandLine) -> None:
    """`rollback`: all traffic back to the stable model, or to the champion before this one."""
    command = command_line.command(
        "rollback",
        commands.rollback,
        "Undo the newest change of the model that serves. On the local server: a canary loses its "
        "traffic; without a canary the champion gives way to the one before it, and running this "
        "again goes further back. What was taken back is not promoted again by a re-run of its "
        "day. With --service, on a cluster: all traffic is taken from the service's canary; fields "
        "that others manage are taken over where need be.",
        *("artifacts", "tracking"),
        has_dataset=False,
    )
    command.set_defaults(misused=command.error)
    _add_local(command)
    command.add_argument("--to", metavar="VERSION", help="make this version the champion")
    _add_place(command, is_required=False)
    _add_ready(command)


def add_shadow(command_line: CommandLine) -> None:
    """`shadow`: a challenger that scores copies of requests and answers none."""
    command = command_line.command(
        "shadow",
        commands.shadow,
        "Let a challenger score copies of a share of the requests on the local server. Its scores "
        "are compared and logged, and no caller gets them. The share 0 ends it.",
        "tracking",
    )
    _add_endpoint(command)
    command.add_argument("--version", help="the challenger; without it, the alias `challenger`")
    command.add_argument("--percent", type=float, default=10.0, help="of the requests; 0: none")


def add_promotion(command: argparse.ArgumentParser) -> None:
    """The flags of `promote`."""
    _add_local(command)
    _add_day(command)
    _add_place(command, is_required=False)
    _add_force(command)
    _add_ready(command)


_LIMITS = {
    "min_requests": "requests of each model at each step, at least 100",
    "max_error_rate_increase": "failed share of requests above the stable model's",
    "max_degraded_increase": "degraded share of requests above the stable model's",
    "max_p95_ratio": "p95 as a multiple of the stable model's",
    "max_score_change": "share by which the mean score may be off from what is expected",
    "expected_score_ratio": "mean score over the stable model's; without it what the gate saw on "
    f"the days held out, or {Limits.expected_score_ratio:g}",
    "max_score_psi": "population stability index between the mean scores of requests, on a cluster",
    "min_rank_correlation": "with the stable model's scores within a request, on the local server; "
    f"without it half of what the gate saw, or {Limits.min_rank_correlation:g}",
    "step_timeout_seconds": "a step without enough requests fails after this",
    "ready_timeout_seconds": "a canary that is not ready fails after this",
}


def _add_local(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--dataset", choices=sorted(SCHEMAS), help="the data set; required without --service"
    )
    _add_endpoint(command)


def _add_endpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--endpoint",
        metavar="URL",
        help=f"REST address of the server, which must answer; without it {DEFAULT_URL}, if a "
        f"server answers there; {NOWHERE}: there is none",
    )


def _add_day(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--date",
        type=datetime.date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="day of the candidate, whose gate must have said promote",
    )
    command.add_argument(
        "--upscaled", action="store_true", help="the day's candidate that grew, not the daily one"
    )
    command.add_argument(
        "--again", action="store_true", help="a version that was rolled back, all the same"
    )


def _add_place(command: argparse.ArgumentParser, *, is_required: bool = True) -> None:
    command.add_argument("--service", required=is_required, help="name of the InferenceService")
    command.add_argument("--namespace", default="default", help="its namespace")
    command.add_argument("--kubeconfig", help="file; without it, $KUBECONFIG or ~/.kube/config")
    command.add_argument("--context", help="context of the kubeconfig; without it, the current one")


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--version", required=True, help="version of the exported ranker")
    command.add_argument(
        "--storage-uri", required=True, help="its folder, such as s3://bucket/folder"
    )


def _add_force(command: argparse.ArgumentParser) -> None:
    command.add_argument("--force", action="store_true", help="take over fields that others manage")


def _add_ready(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--ready-timeout-seconds",
        type=float,
        default=Limits.ready_timeout_seconds,
        help="a service that is not ready fails after this",
    )
