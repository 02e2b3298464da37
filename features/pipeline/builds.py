"""A build: the candidates of all feature tables of some days, listed until they are published."""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame

from features.lake.candidate import Candidate
from features.pipeline.workspace import Workspace, command_lines
from features.provenance.inputs import computed_tables, fingerprint_of
from features.provenance.known import KnownLake
from features.provenance.landed import ATTRIBUTES
from features.provenance.staleness import current_days
from features.runbooks import RunbookError
from features.schema import DAY
from features.spark.row_rules import is_good
from features.spark.session import feature_struct


def list_build(
    work: Workspace,
    staged: Sequence[Candidate],
    days: Sequence[datetime.date],
    *,
    attributes: Mapping[str, str],
) -> list[Candidate]:
    """List the candidates of one build, in place of one of the same days.

    Each says with which others it was built, so that half of a list is no build; and which
    attributes the build has seen.
    """
    tables = sorted(one.table for one in staged)
    of_build = {"build": uuid.uuid4().hex, "tables": tables, ATTRIBUTES: dict(attributes)}
    discard_build(work, days)
    named = [dataclasses.replace(one, metadata={**one.metadata, **of_build}) for one in staged]
    for one in named:
        work.lake.put(one, days)
    return named


def restage_good(work: Workspace, built: Candidate, marked: DataFrame) -> Candidate:
    """A candidate with the good rows alone.

    Args:
        work: Session, schema and lake.
        built: What a build has staged.
        marked: Its rows, with the rules that each breaks.
    """
    table = work.schema.table(built.table)
    names = [*feature_struct(work.schema, table).names, DAY]
    good, count = marked.where(is_good()).select(*names), work.files_per_day(built.days)
    return work.lake.restage(built, good, keys=names[:3], files_per_day=count)


def discard_build(work: Workspace, days: Sequence[datetime.date]) -> None:
    """Take a build off the list."""
    for table in work.schema.tables:
        work.lake.discard(table.name, days)


def staged_features(work: Workspace, days: Sequence[datetime.date]) -> list[Candidate]:
    """What one build of exactly these days has staged, without what is published already.

    Returns:
        Nothing where nothing waits, and the days that are there are what a build would make.

    Raises:
        RunbookError: There is no such build, or one of another schema; names the command to run.
    """
    lake, schema = work.lake, work.schema
    listed = [lake.candidate(table.name, days) for table in schema.tables]
    staged = [one for one in listed if one]
    tables = sorted(one.table for one in staged)
    is_whole = all(
        one.metadata["tables"] == tables
        and one.metadata["build"] == staged[0].metadata["build"]
        and one.description.fingerprint == fingerprint_of(schema, one.table)
        for one in staged
    )
    waiting = [one for one in staged if not lake.is_published(one)]
    if (waiting and is_whole) or (not waiting and _are_current(work, days)):
        return waiting
    span = f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}"
    raise RunbookError(
        f"features of {span}: no build of exactly these days waits to be published; first run "
        f"{command_lines(schema, ('build',), days[0], days[-1])}",
        runbook="day-missing",
    )


def _are_current(work: Workspace, days: Sequence[datetime.date]) -> bool:
    """Whether all computed tables have these days, and a build would make the same of them."""
    known, tables = KnownLake(work.lake), computed_tables(work.schema)
    return len(current_days(work.schema, known, tables, days)) == len(days)
