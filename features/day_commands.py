"""The commands that make days of tables: ``ingest``, ``build`` and ``examples``.

A day that is there and of which nothing has changed is left as it is: each says so in its log, and
under ``unchanged`` in its summary. Whether something has changed, a day says itself: what it was
made of is in the log of its table (``features.provenance``).
"""

import concurrent.futures
import datetime
import importlib
import itertools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from features.cli import Command, FailedError, SkippedError, Summary
from features.datasets.catalog import schema_of
from features.requests import BuildRequest, ExamplesRequest, IngestRequest, OfLake

if TYPE_CHECKING:
    from features.lake.candidate import Candidate
    from features.lake.day_rows import Partition
    from features.lake.lake import Lake
    from features.pipeline.workspace import Workspace

logger = logging.getLogger(__name__)
Days = list[datetime.date]


def _ingest(request: IngestRequest) -> Summary:
    unchanged = [] if request.again or request.available_at else _landed_before(request)
    days = [day for day in request.days if day not in unchanged]
    summary = _said("ingest", unchanged)
    if not days:
        return {**_partitions_summary([]), **summary}
    from features.pipeline.ingestion.ingest import stage_landed
    from features.provenance.rerun import Rule, reruns

    work = workspace(request)
    staged = stage_landed(work, request.landing, days, available_at=request.available_at)
    found = reruns(work.lake, work.schema, staged)
    for one in found:
        logger.info("%s", one)
    summary["reruns"] = {f"{one.table} {one.day}": one.rule for one in found}
    held = [one for one in found if one.rule is Rule.HOLD]
    if held and not (request.again or request.available_at):
        reason = (
            f"{len(held)} days landed again with other rows, and nothing was written: {held[0]}; "
            "--available-at TIME takes them as a correction that counts from then on, --again as "
            "what was always so"
        )
        raise FailedError(reason, {**summary, "runbook": "landed-again"})
    published = [part for one in staged for part in work.lake.publish(one)]
    return {**_partitions_summary(published), **summary}


def _landed_before(request: IngestRequest) -> Days:
    """Days that are in the lake as they have landed."""
    from features.provenance.inputs import raw_tables
    from features.provenance.known import KnownLake
    from features.provenance.landed import landed_below
    from features.provenance.staleness import current_days

    schema, lake = schema_of(request.dataset), _lake(request)
    landed, tables = landed_below(schema, request.landing), raw_tables(schema)
    there = [day for day in request.days if all(lake.has(table, day) for table in tables)]
    # Of what has not landed as files or in a table, nothing says whether it has changed.
    whole = [day for day in there if all(landed(table, day) for table in tables)]
    return current_days(schema, KnownLake(lake), tables, whole, landed=landed)


def _build(request: BuildRequest) -> Summary:
    from features.pipeline import jobs

    unchanged = [] if request.again or request.available_at else _built_before(request)
    days = request.days[len(unchanged) :]
    if not days:
        _discard_candidates(request)
        return {**_partitions_summary([]), **_said("build", unchanged), "stale": {}}
    work = workspace(request)
    staged = jobs.build(
        work,
        request.landing,
        days,
        available_at=request.available_at,
        is_first=request.first_day,
        listed_as=request.days,
    )
    return {
        **_partitions_summary([partition for one in staged for partition in one.partitions()]),
        **_said("build", unchanged),
        "stale": _stale_once_published(work, staged, days),
    }


def _stale_once_published(
    work: "Workspace", staged: "Sequence[Candidate]", days: Sequence[datetime.date]
) -> dict[str, list[str]]:
    """Days by table that do not follow from what is there, once a build of some days is."""
    from features.provenance.known import KnownLake, made_of_partition
    from features.provenance.staleness import stale_days

    known = KnownLake(work.lake)
    built = {
        (one.table, part.day): made_of_partition(part, one.made_of.get(part.day))
        for one in staged
        for part in one.partitions()
    }
    changed = [
        key for key, made in built.items() if not work.lake.has(*key) or known.made(*key) != made
    ]
    found: dict[str, list[str]] = {}
    for one in stale_days(work.schema, known, changed=changed, since=days[0]):
        if (one.table, one.day) not in built:
            found.setdefault(one.table, []).append(str(one.day))
    return found


def _built_before(request: BuildRequest) -> Days:
    """The first of the days, as long as a build would make of each what is there."""
    from features.provenance.inputs import computed_tables
    from features.provenance.known import KnownLake
    from features.provenance.landed import are_attributes_seen
    from features.provenance.staleness import current_days

    schema, lake, days = schema_of(request.dataset), _lake(request), request.days
    current = current_days(schema, KnownLake(lake), computed_tables(schema), days)
    # A day goes on from the one before: after one that is made again, all are.
    found = list(itertools.takewhile(current.__contains__, days))
    is_whole = len(found) == len(days)
    if is_whole and not are_attributes_seen(lake, schema, request.landing, days[-1]):
        return found[:-1]
    return found


def _discard_candidates(request: BuildRequest) -> None:
    """Take a build of these days that was not published off the list: what is there is newer."""
    lake = _lake(request)
    for table in schema_of(request.dataset).tables:
        lake.discard(table.name, request.days)


def _examples(request: ExamplesRequest) -> Summary:
    from features.lake.lake import EXAMPLES, IMPRESSIONS
    from features.pipeline import jobs
    from features.provenance.known import KnownLake
    from features.provenance.staleness import current_days

    schema, lake, days = schema_of(request.dataset), _lake(request), request.days
    first = min(lake.days(IMPRESSIONS), default=schema.first_day)
    if schema.maturity_days and days[-1] < first:
        raise SkippedError(
            f"examples of {days[-1]}: the lake begins with {first}, whose labels are known "
            f"{schema.maturity_days} days later; no day is mature yet"
        )
    known = KnownLake(lake)
    unchanged = [] if request.again else current_days(schema, known, [EXAMPLES], days)
    to_make = [day for day in days if day not in unchanged]
    summary, made = _said("examples", unchanged), []
    if to_make or schema.label.immature:
        work = workspace(request)
        for run in _runs(to_make):
            made += jobs.examples(work, run)
        if schema.label.immature:
            summary["immature"] = jobs.immature_examples(work, days[-1]).to_dict()
    return {**_partitions_summary(made), **summary}


def _runs(days: Sequence[datetime.date]) -> list[Days]:
    """Days in order, cut where one is missing: a job takes days that follow each other."""
    by_start: dict[int, Days] = {}
    for number, day in enumerate(days):
        by_start.setdefault(day.toordinal() - number, []).append(day)
    return list(by_start.values())


def _said(command: str, unchanged: Sequence[datetime.date]) -> Summary:
    """Say which days are left as they are."""
    if unchanged:
        days = ", ".join(map(str, unchanged))
        logger.info("%s: nothing has changed of %s; --again makes them anyway", command, days)
    return {"unchanged": [str(day) for day in unchanged]}


def _lake(request: OfLake) -> "Lake":
    """The lake, without a Spark session."""
    from features.lake.lake import Lake

    return Lake(request.lake, schema_of(request.dataset).name)


def workspace(request: OfLake) -> "Workspace":
    """The session, the schema and the lake of a command."""
    from features.lake.lake import Lake
    from features.pipeline.workspace import Workspace
    from features.spark.session import start_session

    schema = schema_of(request.dataset)
    command = type(request).__name__.removesuffix("Request").lower()
    spark = start_session(f"{command} {schema.name}")
    return Workspace(spark, schema, Lake(request.lake, schema.name, job=command))


def workspace_importing(request: OfLake, module: str) -> "Workspace":
    """The workspace, its session started while this process imports a heavy module."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        imported = pool.submit(importlib.import_module, module)
        # In this thread: a session is active in the one that started it, and Feast asks for that.
        work = workspace(request)
    imported.result()
    return work


def _partitions_summary(partitions: "Sequence[Partition]") -> Summary:
    by_table: dict[str, list[Partition]] = {}
    for partition in partitions:
        by_table.setdefault(partition.table, []).append(partition)
    tables = {
        table: {
            "rows": sum(partition.rows for partition in days),
            "days": len(days),
            "content_hash": days[-1].content_hash,
        }
        for table, days in by_table.items()
    }
    return {"rows": sum(partition.rows for partition in partitions), "tables": tables}


DAY_COMMANDS: dict[str, Command] = {"ingest": _ingest, "build": _build, "examples": _examples}
