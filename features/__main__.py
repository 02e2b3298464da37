"""The door of the data path: ``python -m features VERB --help``."""

import argparse
import concurrent.futures
import datetime
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features.cli import CommandLine, FailedError, SkippedError, Summary, add_date
from features.datasets.catalog import PUSH, SCHEMAS, has_push, schema_of
from features.schema import TableKind

if TYPE_CHECKING:
    from features.pipeline.jobs import Workspace
    from features.spark.lake import Partition

logger = logging.getLogger("features")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return _command_line().main(arguments)


def _fetch(options: argparse.Namespace) -> Summary:
    from features.datasets.readers import READERS

    sizes = {name: getattr(options, name) for name in ("rows", "users", "items", "days", "seed")}
    schema = schema_of(options.dataset)
    logger.info("fetching %s (licence: %s)", schema.name, schema.licence)
    found = READERS[schema.name].fetch(options.landing / schema.name, **sizes)
    return {"dataset": schema.name, "licence": schema.licence, **found}


def _ingest(options: argparse.Namespace) -> Summary:
    from features.pipeline import jobs

    work, days = _workspace(options), _days(options)
    return _written(jobs.ingest(work, options.landing, days, available_at=options.available_at))


def _validate(options: argparse.Namespace) -> Summary:
    days = _days(options)
    work = _workspace_beside(options, "features.validation.expectations")
    from features.validation import expectations, quality_page

    if options.table == "impressions":
        outcomes = [expectations.check_impressions(work, days, options.docs)]
    else:
        outcomes = expectations.check_features(work, days, options.docs)
    page = quality_page.write_quality_page(options.docs, work.schema, options.table, days, outcomes)
    summary = {
        "rows": sum(o.rows for o in outcomes),
        "quarantined": {o.table: o.quarantined for o in outcomes if o.quarantined},
        "broken_rules": {rule: n for o in outcomes for rule, n in o.broken_rules.items()},
        "reported": [f"{o.table}: {sentence}" for o in outcomes for sentence in o.reported],
        "report": page,
    }
    critical = [f"{o.table}: {sentence}" for o in outcomes for sentence in o.critical]
    if critical:
        reason = f"{len(critical)} critical rules broken: " + "; ".join(critical)
        raise FailedError(reason, {**summary, "critical": critical})
    return summary


def _build(options: argparse.Namespace) -> Summary:
    from features.pipeline import jobs

    work, days = _workspace(options), _days(options)
    written = jobs.build(
        work,
        options.landing,
        days,
        available_at=options.available_at,
        is_first=options.first_day,
    )
    return _written(written)


def _apply(options: argparse.Namespace) -> Summary:
    from features.online_store import feast_store

    count = feast_store.apply(schema_of(options.dataset), options.store, options.lake)
    return {"objects": count, "registry": str(options.store / options.dataset / "registry.db")}


def _materialize(options: argparse.Namespace) -> Summary:
    work = _workspace_beside(options, "features.pipeline.materialize")
    from features.pipeline.materialize import materialize_days

    written = materialize_days(work, options.store, _days(options))
    return {"rows": sum(written.values()), "tables": written}


def _push(options: argparse.Namespace) -> Summary:
    if not has_push():
        raise SkippedError(f"{PUSH}=off: only the daily build brings users online")
    if not schema_of(options.dataset).tables_of(TableKind.STATE):
        raise SkippedError(f"dataset {options.dataset}: no users whose state could be pushed")
    if options.follow:
        return _follow(options)
    work = _workspace_beside(options, "features.push.push_day")
    from features.push.push_day import push_until

    until = options.until or datetime.datetime.now(datetime.UTC)
    return push_until(
        work, options.landing, options.store, until=until, first_day=options.first_day
    )


def _follow(options: argparse.Namespace) -> Summary:
    """Push until a signal; a second one ends at once."""
    if options.until:
        raise ValueError("--until: not with --follow, which goes on until it is told to end")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _frame: _stop(stopped, given))
    work = _workspace_beside(options, "features.push.follow")
    from features.push.follow import follow

    return follow(
        work,
        landing=options.landing,
        store_dir=options.store,
        alerts=options.docs / work.schema.name / "alerts",
        first_day=options.first_day,
        is_replay=options.replay,
        interval_seconds=options.interval,
        metrics_port=options.metrics_port,
        stopped=stopped,
    )


def _stop(stopped: threading.Event, number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    stopped.set()


def _examples(options: argparse.Namespace) -> Summary:
    from features.pipeline import jobs

    return _written(jobs.examples(_workspace(options), _days(options)))


def _prune(options: argparse.Namespace) -> Summary:
    from features.pipeline.retention import prune

    schema = schema_of(options.dataset)
    removed = prune(schema, options.lake, today=options.date, keep_days=options.keep_days)
    return {"removed": removed}


def _bench(options: argparse.Namespace) -> Summary:
    from features.bench import run_bench

    return run_bench(options.folder, sizes=options.rows, feast_rows=options.feast_rows)


def _document(options: argparse.Namespace) -> Summary:
    from features.datasets.feature_reference import reference

    text = reference(SCHEMAS.values())
    options.output.write_text(text)
    return {"output": str(options.output), "lines": text.count("\n")}


def _workspace(options: argparse.Namespace) -> "Workspace":
    from features.pipeline.jobs import Workspace
    from features.spark.lake import Lake
    from features.spark.session import start_session

    schema = schema_of(options.dataset)
    spark = start_session(f"{options.command} {schema.name}")
    return Workspace(spark, schema, Lake(options.lake, schema.name))


def _workspace_beside(options: argparse.Namespace, module: str) -> "Workspace":
    """The workspace, its session started while this process imports a heavy module."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        imported = pool.submit(importlib.import_module, module)
        # In this thread: a session is active in the one that started it, and Feast asks for that.
        work = _workspace(options)
    imported.result()
    return work


def _days(options: argparse.Namespace) -> list[datetime.date]:
    last = options.to or options.date
    if last < options.date:
        raise ValueError(f"--to: {last}; not before --date {options.date}")
    return [
        options.date + datetime.timedelta(days=n) for n in range((last - options.date).days + 1)
    ]


def _written(partitions: "Sequence[Partition]") -> Summary:
    tables: dict[str, Summary] = {}
    for partition in partitions:
        table = tables.setdefault(partition.table, {"rows": 0, "days": 0})
        table["rows"] += partition.rows
        table["days"] += 1
        table["content_hash"] = partition.content_hash
    return {"rows": sum(partition.rows for partition in partitions), "tables": tables}


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
    door = CommandLine(
        "features",
        description="The data path of the ranker, one job a command.",
        epilog="Start with: python -m features fetch --dataset movielens-100k",
        folders=_FOLDERS,
        quiet=("py4j", "great_expectations", "feast", "pyspark"),
    )
    _add_daily_verbs(door)
    _add_other_verbs(door)
    return door


def _add_daily_verbs(door: CommandLine) -> None:
    """The jobs of a day, in their order."""
    fetch = door.command("fetch", _fetch, "Get a log and land it, one file a day.", "landing")
    sizes = {"rows": 100_000, "users": 2_000, "items": 1_000, "days": 30, "seed": 0}
    for name, default in sizes.items():
        fetch.add_argument(f"--{name}", type=int, default=default, help="generated logs only")
    text = "Bring landed impressions into the lake."
    ingest = door.command("ingest", _ingest, text, "landing", "lake")
    add_date(ingest, is_range=True)
    _add_available_at(ingest)
    text = "Check rows; stop, quarantine or report."
    check = door.command("validate", _validate, text, "lake", "docs")
    add_date(check, is_range=True)
    check.add_argument(
        "--table", required=True, choices=("impressions", "features"), help="what to check"
    )
    build = door.command("build", _build, "Compute the feature tables.", "landing", "lake")
    add_date(build, is_range=True)
    _add_available_at(build)
    build.add_argument(
        "--first-day",
        action="store_true",
        help="the lake begins with --date: no features of the day before are needed",
    )
    door.command("apply", _apply, "Register the schema's objects with Feast.", "lake", "store")
    text = "Bring finished days online."
    add_date(door.command("materialize", _materialize, text, "lake", "store"), is_range=True)
    text = "Join impressions with features."
    add_date(door.command("examples", _examples, text, "lake"), is_range=True)
    prune = door.command("prune", _prune, "Drop partitions that nothing needs.", "lake")
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


def _add_other_verbs(door: CommandLine) -> None:
    """What runs beside the days."""
    text = (
        "Bring users online within a day. Reads what has landed since the newest built day: days, "
        "and parts of days under intraday/. May be repeated: what was pushed before is offered "
        "again with the same values."
    )
    pushed = door.command("push", _push, text, "landing", "lake", "store", "docs")
    pushed.add_argument("--until", type=_moment, help="push rows true by then (else by now)")
    pushed.add_argument("--follow", action="store_true", help="go on, whenever impressions land")
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
        help="with --follow: it is as late as the newest impression says, not as the clock does",
    )
    pushed.add_argument(
        "--interval", type=float, default=2.0, metavar="SECONDS", help="between two looks"
    )
    port = int(os.environ.get("RANKING_PUSH_PORT") or 8083)
    pushed.add_argument(
        *("--metrics-port",),
        type=int,
        default=port,
        help="of loopback, for Prometheus, with --follow; 0: none",
    )
    text = "Measure rows per second of state, aggregates and join."
    bench = door.command("bench", _bench, text, has_dataset=False)
    bench.add_argument("--folder", type=Path, default=Path("var/bench"), help="scratch")
    sizes = [100_000, 1_000_000, 10_000_000]
    bench.add_argument("--rows", type=int, nargs="+", default=sizes, help="sizes, smallest first")
    bench.add_argument(
        "--feast-rows", type=int, default=50_000, help="size at which Feast's join runs too"
    )
    document = door.command(
        "document", _document, "Write the feature reference.", has_dataset=False
    )
    document.add_argument(
        "--output", type=Path, default=Path("docs/features.md"), help="the page to write"
    )


if __name__ == "__main__":
    sys.exit(main())
