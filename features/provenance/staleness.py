"""Days that no longer follow from what is there, each with what has changed since."""

import dataclasses
import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence

from features.lake.day_rows import Inputs
from features.provenance.inputs import (
    fingerprint_of,
    inputs_of,
    partition_of_input,
    raw_tables,
    tables_in_order,
)
from features.provenance.known import Known, Made
from features.schema import Schema

Landed = Callable[[str, datetime.date], Inputs]
"""What has landed of a day for a raw table: empty where that is not known."""
SCHEMA, INPUTS = "schema", "inputs"
UNKNOWN, NONE, AGAIN = "unknown", "none", "to be made again"


@dataclasses.dataclass(frozen=True)
class Reason:
    """One input of a day that is not what it was."""

    input: str
    was: str
    now: str

    def __str__(self) -> str:
        """In words."""
        return f"{self.input}: {self.was} -> {self.now}" if self.now else f"{self.input} {self.was}"


@dataclasses.dataclass(frozen=True)
class StaleDay:
    """A day of a table that does not follow from its inputs."""

    table: str
    day: datetime.date
    reasons: Sequence[Reason]


def no_landing(table: str, day: datetime.date) -> Inputs:
    """Where it is not looked at what has landed."""
    return {}


def stale_days(
    schema: Schema,
    known: Known,
    *,
    landed: Landed = no_landing,
    since: datetime.date = datetime.date.min,
    changed: Iterable[tuple[str, datetime.date]] = (),
) -> list[StaleDay]:
    """All stale days, table after table in the order in which they are made.

    Args:
        schema: The data set's schema.
        known: Its tables.
        landed: What has landed by now.
        since: Days before are not looked at.
        changed: Days to take for stale, as if they were about to be replaced.

    Returns:
        Also days whose inputs are stale themselves.
    """
    again = {*changed}
    found = []
    for table in tables_in_order(schema):
        for day in known.days(table):
            if day < since:
                continue
            made = known.made(table, day)
            reasons = changes(schema, known, table, day, landed=landed)
            reasons += [
                Reason(name, was, AGAIN)
                for name, was in (made.inputs or {}).items()
                if partition_of_input(name) in again
                and name not in {reason.input for reason in reasons}
            ]
            if reasons:
                again.add((table, day))
                found.append(StaleDay(table, day, reasons))
    return found


def changes(
    schema: Schema,
    known: Known,
    table: str,
    day: datetime.date,
    *,
    landed: Landed = no_landing,
) -> list[Reason]:
    """Inputs of a day that are not what the day was made of.

    An input that is gone, as retention leaves it, says nothing: the day cannot be made again.
    """
    made = known.made(table, day)
    expected = fingerprint_of(schema, table)
    found = [Reason(SCHEMA, made.fingerprint or NONE, expected)] * (made.fingerprint != expected)
    if made.inputs is None:
        return [*found, Reason(INPUTS, UNKNOWN, "")]
    now = dict(inputs_of(schema, known, table, day, recorded=made.inputs) or {})
    if table in raw_tables(schema):
        now |= landed(table, day)
    return [*found, *_differences(made, now)]


def _differences(made: Made, now: Mapping[str, str]) -> list[Reason]:
    was = made.inputs or {}
    return [
        Reason(name, was.get(name, NONE), value)
        for name, value in now.items()
        if was.get(name) != value
    ]


def current_days(
    schema: Schema,
    known: Known,
    tables: Sequence[str],
    days: Sequence[datetime.date],
    *,
    landed: Landed = no_landing,
) -> list[datetime.date]:
    """The days that each of some tables has, and that would come out the same if made again."""
    there = {table: {*known.days(table)} for table in tables}
    return [
        day
        for day in days
        if all(
            day in there[table] and not changes(schema, known, table, day, landed=landed)
            for table in tables
        )
    ]


def following(
    schema: Schema,
    known: Known,
    changed: Iterable[tuple[str, datetime.date]],
    *,
    since: datetime.date = datetime.date.min,
) -> dict[str, list[datetime.date]]:
    """Days by table that would be stale because of others, where these were replaced.

    Days before ``since`` are not looked at.
    """
    found: dict[str, list[datetime.date]] = {}
    for one in stale_days(schema, known, changed=changed, since=since):
        if any(reason.now == AGAIN for reason in one.reasons):
            found.setdefault(one.table, []).append(one.day)
    return found
