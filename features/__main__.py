"""The command line of the data path: ``python -m features COMMAND --help``."""

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from features import commands
from features.cli import CommandLine, add_date


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return _command_line().main(arguments)


def _moment(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


_FOLDERS = {
    "landing": ("landing", "where the log lands, one file a day"),
    "lake": ("lake", "the Parquet tables, one partition a day"),
    "store": ("feast", "the Feast registry and online store"),
    "docs": ("reports", "where reports and Data Docs are written"),
}


def _command_line() -> CommandLine:
    command_line = CommandLine(
        "features",
        description="The data path of the ranker, one job a command.",
        epilog="Start with: python -m features fetch --dataset movielens-100k",
        folders=_FOLDERS,
        quiet=("py4j", "great_expectations", "feast", "pyspark"),
    )
    _add_daily_commands(command_line)
    _add_other_commands(command_line)
    return command_line


def _add_daily_commands(command_line: CommandLine) -> None:
    """The jobs of a day, in their order."""
    fetch = command_line.command(
        "fetch", commands.fetch, "Get a log and land it, one file a day.", "landing"
    )
    sizes = {"rows": 100_000, "users": 2_000, "items": 1_000, "days": 30, "seed": 0}
    for name, default in sizes.items():
        fetch.add_argument(f"--{name}", type=int, default=default, help="generated logs only")
    text = "Bring landed impressions into the lake."
    ingest = command_line.command("ingest", commands.ingest, text, "landing", "lake")
    add_date(ingest, is_range=True)
    _add_available_at(ingest)
    text = "Check rows; stop, quarantine or report."
    check = command_line.command("validate", commands.validate, text, "lake", "docs")
    add_date(check, is_range=True)
    check.add_argument(
        "--table", required=True, choices=("impressions", "features"), help="what to check"
    )
    build = command_line.command(
        "build", commands.build, "Compute the feature tables.", "landing", "lake"
    )
    add_date(build, is_range=True)
    _add_available_at(build)
    build.add_argument(
        "--first-day",
        action="store_true",
        help="the lake begins with --date: no features of the day before are needed",
    )
    command_line.command(
        "apply", commands.apply, "Register the schema's objects with Feast.", "lake", "store"
    )
    text = "Bring finished days online."
    add_date(
        command_line.command("materialize", commands.materialize, text, "lake", "store"),
        is_range=True,
    )
    text = "Join impressions with features."
    add_date(command_line.command("examples", commands.examples, text, "lake"), is_range=True)
    prune = command_line.command(
        "prune", commands.prune, "Drop partitions that nothing needs.", "lake"
    )
    add_date(prune)
    prune.add_argument("--keep-days", type=int, default=400, help="days to keep")


def _add_available_at(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--available-at",
        type=_moment,
        metavar="TIME",
        help="for a correction of days that were used before: from when the new rows count, ISO "
        "8601, UTC where no offset is given (else as declared)",
    )


def _add_other_commands(command_line: CommandLine) -> None:
    """The commands that no day of the schedule runs."""
    text = (
        "Bring users online within a day. Reads what has landed since the newest built day: days, "
        "and parts of days under intraday/. May be repeated: what was pushed before is offered "
        "again with the same values."
    )
    pushed = command_line.command("push", commands.push, text, "landing", "lake", "store", "docs")
    pushed.add_argument("--until", type=_moment, help="push rows true by then (else by now)")
    pushed.add_argument(
        "--follow", action="store_true", help="keep running; push whenever impressions land"
    )
    day = datetime.date.fromisoformat
    pushed.add_argument(
        *("--first-day",),
        type=day,
        metavar="YYYY-MM-DD",
        help="first day to take from landing (else the one after the newest built day)",
    )
    pushed.add_argument(
        "--replay",
        action="store_true",
        help="with --follow: take the time of the newest impression as now, instead of the clock",
    )
    pushed.add_argument(
        "--interval",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="between two polls of the landing folder",
    )
    port = int(os.environ.get("RANKING_PUSH_PORT") or 8083)
    pushed.add_argument(
        *("--metrics-port",),
        type=int,
        default=port,
        help="port on loopback for Prometheus, with --follow; 0: none",
    )
    text = "Measure rows per second of state, aggregates and join."
    bench = command_line.command("bench", commands.bench, text, has_dataset=False)
    bench.add_argument("--folder", type=Path, default=Path("var/bench"), help="scratch")
    sizes = [100_000, 1_000_000, 10_000_000]
    bench.add_argument("--rows", type=int, nargs="+", default=sizes, help="sizes, smallest first")
    bench.add_argument(
        "--feast-rows", type=int, default=50_000, help="size at which Feast's join runs too"
    )
    document = command_line.command(
        "document", commands.document, "Write the feature reference.", has_dataset=False
    )
    document.add_argument(
        "--output", type=Path, default=Path("docs/features.md"), help="the page to write"
    )


if __name__ == "__main__":
    sys.exit(main())
