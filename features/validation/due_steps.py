"""What some days of the lake lack: which steps must run until their examples are current.

A table's day is current where it was made by this schema, and nothing that it rests on has been
replaced since. That is all in the lake: nothing has to be remembered of a run that was killed.
"""

import datetime
from collections.abc import Sequence
from typing import Literal

from features.labels.stale import is_outdated
from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW, Lake
from features.pipeline.workspace import fingerprint_of
from features.schema import Schema, TableKind

Step = Literal["impressions", "features", "examples"]
STEPS: tuple[Step, ...] = ("impressions", "features", "examples")
"""What is made of days, each from the ones before."""


def due(lake: Lake, schema: Schema, days: Sequence[datetime.date]) -> list[Step]:
    """The steps by which some days become current: the first one that is not, and all after it.

    Args:
        lake: The tables of the data set.
        schema: By which they must have been made.
        days: Some in a row.
    """
    computed = [table.name for table in schema.tables if table.kind is not TableKind.ATTRIBUTES]
    made_from: dict[Step, tuple[list[str], list[str]]] = {
        "impressions": ([IMPRESSIONS], [IMPRESSIONS_RAW]),
        "features": (computed, [IMPRESSIONS]),
        "examples": ([EXAMPLES], [IMPRESSIONS, *computed]),
    }
    for place, step in enumerate(STEPS):
        tables, inputs = made_from[step]
        if not all(_is_current(lake, schema, table, inputs, days) for table in tables):
            return list(STEPS[place:])
    return []


def _is_current(
    lake: Lake,
    schema: Schema,
    table: str,
    inputs: Sequence[str],
    days: Sequence[datetime.date],
) -> bool:
    """Whether a table has the days, of this schema, and newer ones of no table that it is made of.

    Days before these may be newer: of a table that carries from day to day, the day says so.
    """
    found, fingerprint = lake.snapshot(table), fingerprint_of(schema, table)
    if not all(found.files(day) for day in days):
        return False
    if any(part.fingerprint != fingerprint for part in found.partitions(days).values()):
        return False
    if any(is_outdated(found, day) for day in days):
        return False
    made = found.commits_of_rows(days)
    for name in inputs:
        newest = lake.snapshot(name).commits_of_rows(days)
        for day, commit in made.items():
            read = _inputs(commit).get(name)
            if read is not None and day in newest and _version(newest[day]) > read:
                return False
    return True


def _inputs(commit: dict[str, object]) -> dict[str, int]:
    """The versions of other tables from which a commit's rows were made."""
    found = commit["inputs"]
    return found if isinstance(found, dict) else {}


def _version(commit: dict[str, object]) -> int:
    return int(str(commit["version"]))
