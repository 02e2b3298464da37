"""The commands of ``python -m features``: what each does with its request.

Heavy modules are imported in the command that needs them, so that ``--help`` is quick.
"""

import datetime
import logging
import os
import re
import signal
import threading
from typing import TYPE_CHECKING

from features.cli import Command, FailedError, SkippedError, Summary
from features.datasets.catalog import PUSH, data_set_of, has_push, names, schema_of
from features.day_commands import DAY_COMMANDS, workspace_importing
from features.lineage import observed
from features.lineage.retention import remove_events
from features.places import place, uri
from features.requests import (
    ApplyRequest,
    FetchRequest,
    MaterializeRequest,
    PruneRequest,
    PushRequest,
    TablesRequest,
    ValidateRequest,
)
from features.schema import TableKind
from features.schema_commands import SCHEMA_COMMANDS

if TYPE_CHECKING:
    from features.pipeline.workspace import Workspace
    from features.validation.outcome import Outcome

logger = logging.getLogger(__name__)


def _fetch(request: FetchRequest) -> Summary:
    from features.datasets.readers import reader_of

    sizes = {name: getattr(request, name) for name in ("rows", "users", "items", "days", "seed")}
    schema = schema_of(request.dataset)
    logger.info("fetching %s (licence: %s)", schema.name, schema.licence)
    found = reader_of(schema).fetch(request.landing / schema.name, **sizes)
    return {"dataset": schema.name, "licence": schema.licence, **found}


def _validate(request: ValidateRequest) -> Summary:
    days = request.days
    work = workspace_importing(request, "features.validation.checks")
    from features.validation import checks, quality_page
    from features.validation.quarantine.held import trends_until

    if request.table == "impressions":
        outcomes = checks.check_log(work, days, request.docs)
    else:
        outcomes = checks.check_features(work, days, request.docs)
    if not outcomes:
        return {"rows": 0, "published": "before, and nothing of these days has changed since"}
    trends = trends_until(work.lake, work.schema, [o.table for o in outcomes], days[-1])
    page = quality_page.write_quality_page(
        request.docs, work.schema, request.table, days, outcomes, trends=trends
    )
    summary = {
        "rows": sum(o.rows for o in outcomes),
        "quarantined": {o.table: o.quarantined for o in outcomes if o.quarantined},
        "broken_rules": {rule: n for o in outcomes for rule, n in o.broken_rules.items()},
        "reported": [f"{o.table}: {sentence}" for o in outcomes for sentence in o.reported],
        "report": page,
    }
    for outcome in outcomes:
        _note_checked(work, outcome)
    critical = [f"{o.table}: {sentence}" for o in outcomes for sentence in o.critical]
    if critical:
        candidates = {o.table: {"manifest": o.candidate, "files": o.files} for o in outcomes}
        listed = ", ".join(f"{o.candidate} ({len(o.files)} files)" for o in outcomes if o.critical)
        reason = f"{len(critical)} critical rules broken: " + "; ".join(critical)
        reason += f"; nothing was published, the candidate stays: {listed}"
        raise FailedError(reason, {**summary, "critical": critical, "candidates": candidates})
    return summary


def _note_checked(work: "Workspace", outcome: "Outcome") -> None:
    """Say for the job's lineage which rules the rows broke that it has read."""
    broken = {rule: f"{rows} rows" for rule, rows in outcome.broken_rules.items()}
    for sentence in outcome.critical:
        rule, _, seen = sentence.partition(": ")
        broken[rule] = seen
    where = uri(work.lake.root / outcome.table)
    observed.read(observed.Dataset(where=where, broken_rules=broken))


def _apply(request: ApplyRequest) -> Summary:
    from features.online_store import feast_store
    from features.online_store.config import registry_at

    count = feast_store.apply(schema_of(request.dataset), request.store, request.lake)
    registry = registry_at(request.store / request.dataset, os.environ)["path"]
    return {"objects": count, "registry": re.sub("//[^/]*@", "//", registry)}


def _materialize(request: MaterializeRequest) -> Summary:
    work = workspace_importing(request, "features.pipeline.materialize")
    from features.pipeline.materialize import materialize_days

    written = materialize_days(work, request.store, request.days)
    return {"rows": sum(written.values()), "tables": written}


def _push(request: PushRequest) -> Summary:
    if not has_push():
        raise SkippedError(f"{PUSH}=off: only the daily build brings users online")
    schema = schema_of(request.dataset)
    if not schema.tables_of(TableKind.STATE):
        raise SkippedError(f"dataset {request.dataset}: no users whose state could be pushed")
    if not schema.can_push:
        raise SkippedError(
            f"label {schema.label.name}: delay {schema.label.delay}; at least 1 day for users to "
            "come online within a day, since its events land a file a day"
        )
    if data_set_of(request.dataset).source.kafka:
        raise SkippedError(
            f"dataset {request.dataset}: nothing pushes users from a topic; set {PUSH}=off, so "
            "that training does not count on it"
        )
    if request.follow:
        return _follow(request)
    work = workspace_importing(request, "features.push.push_day")
    from features.push.push_day import push_until

    until = request.until or datetime.datetime.now(datetime.UTC)
    return push_until(
        work, request.landing, request.store, until=until, first_day=request.first_day
    )


def _follow(request: PushRequest) -> Summary:
    """Push until a signal; a second signal ends the process at once."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _frame: _stop(stopped, given))
    work = workspace_importing(request, "features.push.follow")
    from features.push.follow import follow

    return follow(
        work,
        landing=request.landing,
        store_dir=request.store,
        alerts=request.docs / work.schema.name / "alerts",
        first_day=request.first_day,
        is_replay=request.replay,
        interval_seconds=request.interval,
        metrics_host=request.metrics_host,
        metrics_port=request.metrics_port,
        stopped=stopped,
    )


def _stop(stopped: threading.Event, number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    stopped.set()


def _prune(request: PruneRequest) -> Summary:
    from features.pipeline.retention import prune

    removed = prune(
        schema_of(request.dataset),
        request.lake,
        today=request.date,
        keep_days=request.keep_days,
        grace_hours=request.grace_hours,
    )
    first = request.date - datetime.timedelta(days=request.keep_days)
    return {"removed": removed, "removed_events": remove_events(first)}


def _tables(request: TablesRequest) -> Summary:
    from features.lake.inventory import in_words, inventory

    datasets = [request.dataset] if request.dataset else names()
    lake = place(request.lake)
    found = {name: inventory(lake / name, today=request.date) for name in datasets}
    shown = {name: tables for name, tables in found.items() if tables or request.dataset}
    words = "\n\n".join(in_words(name, tables) for name, tables in shown.items())
    return {"tables": shown, "markdown": words or f"{lake}: no table"}


COMMANDS: dict[str, Command] = {
    "fetch": _fetch,
    "ingest": DAY_COMMANDS["ingest"],
    "validate": _validate,
    "build": DAY_COMMANDS["build"],
    "apply": _apply,
    "materialize": _materialize,
    "push": _push,
    "examples": DAY_COMMANDS["examples"],
    "prune": _prune,
    "tables": _tables,
    **SCHEMA_COMMANDS,
}
"""The jobs of a day in their order, then the rest."""
