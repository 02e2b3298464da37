"""The command line of serving: serve, canary, promote, rollback, shadow, deploy (on a cluster)."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from features.cli import CommandLine, SkippedError, Summary
from features.datasets.catalog import schema_of
from features.imports import without_collection
from serving.cli import arguments, commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return _command_line().main(arguments)


_FOLDERS = {
    "store": ("feast", "the Feast registry and online store"),
    "artifacts": ("artifacts", "the exported rankers"),
    "tracking": ("mlflow", "the MLflow database, which holds the aliases"),
    "reports": ("reports", "where the gate's decisions are"),
    "compiled": ("compiled", "native code of this machine, which only this user may write"),
}


def _command_line() -> CommandLine:
    command_line = CommandLine(
        "serving",
        description="The ranking endpoint and what changes the model that it serves.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad usage, 99 nothing to do.",
        folders=_FOLDERS,
    )
    serve = command_line.command(
        "serve",
        _serve,
        "Answer ranking requests until SIGINT or SIGTERM. The model `ranker` over REST and gRPC: "
        "features from the online store, scores from the champion. Starts without a champion too: "
        "/v2/health/ready then answers 503 until a load succeeds.",
        *("store", "artifacts", "tracking", "compiled"),
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serve.add_argument("--http-port", type=int, default=8081, help="port of REST")
    serve.add_argument("--grpc-port", type=int, default=8082, help="port of gRPC")
    serve.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="serve this artifact, whatever the champion is, such as a folder mounted in a pod",
    )
    arguments.add_deploy(command_line)
    arguments.add_canary(command_line)
    _add_promote(command_line)
    arguments.add_rollback(command_line)
    arguments.add_shadow(command_line)
    return command_line


def _add_promote(command_line: CommandLine) -> None:
    promote = command_line.command(
        "promote",
        _promote,
        "Make a day's candidate the champion and have the endpoint load it. Moves the alias "
        "`champion` to the candidate of a day whose gate said promote, has the endpoint load it, "
        "and waits until it answers with that version. When the endpoint cannot load it, the alias "
        "goes back and the command fails; so it does when a server that --endpoint names does not "
        "answer. When none is named and none answers, the alias moves and the JSON says so. A day "
        "that is not newer than the champion's is skipped; with --upscaled, a ranker that grew may "
        "replace the champion of its own day, shown to be better than it. With --service it works "
        "on a cluster instead: the canary of that InferenceService, which must have passed its "
        "steps, becomes its stable model, and with --dataset and --date, the champion too.",
        *("artifacts", "tracking", "reports"),
        has_dataset=False,
    )
    promote.set_defaults(misused=promote.error)
    arguments.add_promotion(promote)


def _serve(options: argparse.Namespace) -> Summary:
    # Read when torch is imported. Threads of libgomp look for work for milliseconds before they
    # sleep, on cores that the rest of a request needs; a thousand looks are some microseconds.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    with without_collection():
        from serving import server

    running = server.open_server(
        schema_of(options.dataset),
        store=options.store,
        artifacts=options.artifacts,
        tracking=options.tracking,
        host=options.host,
        http_port=options.http_port,
        grpc_port=options.grpc_port,
        model=options.model,
        compiled=options.compiled,
    )
    running.start()
    return {"dataset": options.dataset, "version": running.ranker.version, "stopped": True}


def _promote(options: argparse.Namespace) -> Summary:
    if options.service:
        if bool(options.dataset) != bool(options.date) or (options.upscaled and not options.date):
            options.misused("--service: with both --dataset and --date, or with neither")
        return commands.promote(options)
    if not (options.dataset and options.date):
        options.misused("--dataset and --date are required, or --service for a cluster")
    from serving.release import promotion
    from serving.release.endpoint_client import Endpoint

    decision = promotion.read_decision(
        options.reports,
        dataset=options.dataset,
        day=options.date,
        is_upscaled=options.upscaled,
    )
    if decision["decision"] != "promote":
        raise SkippedError(promotion.why_not(decision))
    from training.registry.mlflow_registry import Registry

    done = promotion.promote(
        Registry(options.tracking, options.dataset),
        decision=decision,
        day=options.date,
        endpoint=Endpoint.from_environment(options.endpoint),
        again=options.again,
    )
    return {"dataset": options.dataset, "date": options.date.isoformat(), **done}


if __name__ == "__main__":
    sys.exit(main())
