"""What each command of ``python -m features`` does: from parsed options to a summary.

Heavy modules are imported in the command that needs them, so that ``--help`` is quick.
"""

import argparse
import concurrent.futures
import datetime
import importlib
import logging
import signal
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from features.cli import FailedError, SkippedError, Summary
from features.datasets.catalog import PUSH, SCHEMAS, has_push, schema_of
from features.schema import TableKind

if TYPE_CHECKING:
    from features.pipeline.workspace import Workspace
    from features.spark.lake import Partition

logger = logging.getLogger(__name__)


def fetch(options: argparse.Namespace) -> Summary:
    """Get a log and land it."""
    from features.datasets.readers import READERS

    sizes = {name: getattr(options, name) for name in ("rows", "users", "items", "days", "seed")}
    schema = schema_of(options.dataset)
    logger.info("fetching %s (licence: %s)", schema.name, schema.licence)
    found = READERS[schema.name].fetch(options.landing / schema.name, **sizes)
    return {"dataset": schema.name, "licence": schema.licence, **found}


def ingest(options: argparse.Namespace) -> Summary:
    """Bring landed impressions into the lake."""
    from features.pipeline import jobs

    work, days = _workspace(options), _days(options)
    return _partitions_summary(
        jobs.ingest(work, options.landing, days, available_at=options.available_at)
    )


def validate(options: argparse.Namespace) -> Summary:
    """Check rows, write the quality page; FailedError where critical rules are broken."""
    days = _days(options)
    work = _workspace_importing(options, "features.validation.checks")
    from features.validation import checks, quality_page

    if options.table == "impressions":
        outcomes = [checks.check_impressions(work, days, options.docs)]
    else:
        outcomes = checks.check_features(work, days, options.docs)
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


def build(options: argparse.Namespace) -> Summary:
    """Compute the feature tables."""
    from features.pipeline import jobs

    work, days = _workspace(options), _days(options)
    written = jobs.build(
        work,
        options.landing,
        days,
        available_at=options.available_at,
        is_first=options.first_day,
    )
    return _partitions_summary(written)


def apply(options: argparse.Namespace) -> Summary:
    """Register the schema's objects with Feast."""
    from features.online_store import feast_store

    count = feast_store.apply(schema_of(options.dataset), options.store, options.lake)
    return {"objects": count, "registry": str(options.store / options.dataset / "registry.db")}


def materialize(options: argparse.Namespace) -> Summary:
    """Bring finished days online."""
    work = _workspace_importing(options, "features.pipeline.materialize")
    from features.pipeline.materialize import materialize_days

    written = materialize_days(work, options.store, _days(options))
    return {"rows": sum(written.values()), "tables": written}


def push(options: argparse.Namespace) -> Summary:
    """Bring users online within a day."""
    if not has_push():
        raise SkippedError(f"{PUSH}=off: only the daily build brings users online")
    if not schema_of(options.dataset).tables_of(TableKind.STATE):
        raise SkippedError(f"dataset {options.dataset}: no users whose state could be pushed")
    if options.follow:
        return _follow(options)
    work = _workspace_importing(options, "features.push.push_day")
    from features.push.push_day import push_until

    until = options.until or datetime.datetime.now(datetime.UTC)
    return push_until(
        work, options.landing, options.store, until=until, first_day=options.first_day
    )


def _follow(options: argparse.Namespace) -> Summary:
    """Push until a signal; a second signal ends the process at once."""
    if options.until:
        raise ValueError("--until: not with --follow, which runs until a signal stops it")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _frame: _stop(stopped, given))
    work = _workspace_importing(options, "features.push.follow")
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


def examples(options: argparse.Namespace) -> Summary:
    """Join impressions with features."""
    from features.pipeline import jobs

    return _partitions_summary(jobs.examples(_workspace(options), _days(options)))


def prune(options: argparse.Namespace) -> Summary:
    """Drop partitions that nothing needs."""
    from features.pipeline.retention import prune

    schema = schema_of(options.dataset)
    removed = prune(schema, options.lake, today=options.date, keep_days=options.keep_days)
    return {"removed": removed}


def bench(options: argparse.Namespace) -> Summary:
    """Measure rows per second."""
    from features.bench import run_bench

    return run_bench(options.folder, sizes=options.rows, feast_rows=options.feast_rows)


def document(options: argparse.Namespace) -> Summary:
    """Write the feature reference."""
    from features.datasets.feature_reference import reference

    text = reference(SCHEMAS.values())
    options.output.write_text(text)
    return {"output": str(options.output), "lines": text.count("\n")}


def _workspace(options: argparse.Namespace) -> "Workspace":
    from features.pipeline.workspace import Workspace
    from features.spark.lake import Lake
    from features.spark.session import start_session

    schema = schema_of(options.dataset)
    spark = start_session(f"{options.command} {schema.name}")
    return Workspace(spark, schema, Lake(options.lake, schema.name))


def _workspace_importing(options: argparse.Namespace, module: str) -> "Workspace":
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


def _partitions_summary(partitions: "Sequence[Partition]") -> Summary:
    tables: dict[str, Summary] = {}
    for partition in partitions:
        table = tables.setdefault(partition.table, {"rows": 0, "days": 0})
        table["rows"] += partition.rows
        table["days"] += 1
        table["content_hash"] = partition.content_hash
    return {"rows": sum(partition.rows for partition in partitions), "tables": tables}
