"""What some days of the lake lack: which steps must run until their examples are current.

A table's day is current where it was made by this schema, and nothing that it rests on has been
replaced since. That is all in the lake: nothing has to be remembered of a run that was killed.
"""

import datetime
from collections.abc import Sequence
from typing import Literal

from features.labels.events import events_table, raw_events_table
from features.labels.stale import is_outdated, stale_by_events, versions_of_days
from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW, ONE_DAY, READMITTED, Lake
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
    events = [events_table(label) for label in schema.later_labels]
    raw_events = [raw_events_table(label) for label in schema.later_labels]
    computed = [table.name for table in schema.tables if table.kind is not TableKind.ATTRIBUTES]
    made_from: dict[Step, tuple[list[str], list[str]]] = {
        "impressions": ([IMPRESSIONS, *events], [IMPRESSIONS_RAW, *raw_events]),
        "features": (computed, [IMPRESSIONS, *events]),
        "examples": ([EXAMPLES], [IMPRESSIONS, *computed]),
    }
    if readmitted_since(lake, days):
        return list(STEPS)
    by_events = stale_by_events(lake, schema)
    for place, step in enumerate(STEPS):
        tables, inputs = made_from[step]
        wanted = days if step != "examples" else mature(lake, schema, days)
        for table in tables:
            if {*wanted} & {*by_events.get(table, ())}:
                return list(STEPS[place:])
            if not is_current(lake, schema, table, inputs, wanted):
                return list(STEPS[place:])
    return []


def readmitted_since(lake: Lake, days: Sequence[datetime.date]) -> list[datetime.date]:
    """Days with impressions that were re-admitted, and not published with the day since."""
    replaced = versions_of_days(lake.snapshot(READMITTED))
    read = versions_of_days(lake.snapshot(IMPRESSIONS), of_input=READMITTED)
    return [day for day in days if read.get(day, -1) < replaced.get(day, -1)]


def mature(lake: Lake, schema: Schema, days: Sequence[datetime.date]) -> list[datetime.date]:
    """The days whose labels are final when some days are over, of those that the lake has.

    They are the same days, unless what training learns comes later.
    """
    shifted = [day - schema.maturity_days * ONE_DAY for day in days]
    first = min([*lake.days(IMPRESSIONS), days[0]])
    return [day for day in shifted if day >= first]


def is_current(
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
    for name in inputs:
        replaced = versions_of_days(lake.snapshot(name))
        read = versions_of_days(found, of_input=name)
        if any(day in read and read[day] < replaced.get(day, -1) for day in days):
            return False
    return True
