"""The door of serving: ``python -m serving serve`` and ``python -m serving promote``.

A command logs to stderr and prints one JSON object as the last line of stdout. Exit codes: 0 done,
1 failed, 2 bad usage, 99 nothing to do.
"""

import argparse
import datetime
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features.catalog import SCHEMAS, schema_of

EXIT_FAILED = 1
EXIT_SKIPPED = 99


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        code, summary = options.command(options)
    except Exception as error:
        logging.getLogger(__name__).debug("failed", exc_info=True)
        sys.stderr.write(f"error: {error}\n")
        return EXIT_FAILED
    sys.stdout.write(json.dumps(summary) + "\n")
    return int(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="The ranking endpoint and what changes the model that it serves.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad usage, 99 nothing to do.",
    )
    commands = parser.add_subparsers(required=True, metavar="VERB")
    _add_serve(commands)
    _add_promote(commands)
    return parser


def _add_serve(commands: Any) -> None:
    command = commands.add_parser(
        "serve",
        help="answer ranking requests until SIGINT or SIGTERM",
        description="Serve the model `ranker` over REST and gRPC: features from the online store, "
        "scores from the champion. Starts without a champion too: /v2/health/ready then answers "
        "503 until a load succeeds.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_places(command, "store", "artifacts", "tracking")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on")
    command.add_argument("--http-port", type=int, default=8081, help="port of REST")
    command.add_argument("--grpc-port", type=int, default=8082, help="port of gRPC")
    command.set_defaults(command=_serve)


def _add_promote(commands: Any) -> None:
    command = commands.add_parser(
        "promote",
        help="make a day's candidate the champion and have the endpoint load it",
        description="Move the alias `champion` to the candidate of a day whose gate said promote, "
        "have the endpoint load it, and wait until it answers with that version. When the endpoint "
        "cannot load it, the alias goes back and the command fails. When no endpoint answers, the "
        "alias moves and the JSON says so. A day that is not newer than the champion's is skipped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_places(command, "artifacts", "tracking", "reports")
    command.add_argument(
        "--date",
        required=True,
        type=datetime.date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="day of the candidate",
    )
    command.add_argument(
        "--endpoint", default="http://127.0.0.1:8081", help="the server's REST address"
    )
    command.set_defaults(command=_promote)


_PLACES = {
    "store": ("feast", "online store: has a folder for each data set"),
    "artifacts": ("artifacts", "artifacts: a folder for each data set, in it one for each version"),
    "tracking": ("mlflow", "registry, which holds the aliases"),
    "reports": ("reports", "reports: holds the gate's decisions"),
}


def _add_places(command: argparse.ArgumentParser, *names: str) -> None:
    command.add_argument("--dataset", required=True, choices=sorted(SCHEMAS), help="the data set")
    root = Path(os.environ.get("RANKING_VAR", "var"))
    for name in names:
        folder, text = _PLACES[name]
        command.add_argument(
            f"--{name}",
            type=Path,
            default=root / folder,
            metavar="DIR",
            help=f"folder of the {text}",
        )


def _serve(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    from serving import server

    running = server.open_server(
        schema_of(options.dataset),
        store=options.store,
        artifacts=options.artifacts,
        tracking=options.tracking,
        host=options.host,
        http_port=options.http_port,
        grpc_port=options.grpc_port,
    )
    running.start()
    return 0, {"dataset": options.dataset, "version": running.ranker.version, "stopped": True}


def _promote(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    from serving import promotion

    named = {"dataset": options.dataset, "date": options.date.isoformat()}
    decision = promotion.read_decision(options.reports, dataset=options.dataset, day=options.date)
    if decision["decision"] != "promote":
        return EXIT_SKIPPED, {**named, "skipped": promotion.why_not(decision)}
    from training.registry import Registry

    try:
        done = promotion.promote(
            Registry(options.tracking, options.dataset),
            decision=decision,
            day=options.date,
            endpoint=promotion.Endpoint(options.endpoint),
        )
    except promotion.SkippedError as skipped:
        return EXIT_SKIPPED, {**named, "skipped": str(skipped)}
    return 0, {**named, **done}


if __name__ == "__main__":
    sys.exit(main())
