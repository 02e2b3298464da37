"""The commands that make stale days again: as few as there can be."""

import datetime
from collections.abc import Sequence

from features.lake.lake import EXAMPLES, ONE_DAY
from features.provenance.inputs import computed_tables
from features.provenance.known import Known
from features.provenance.staleness import SCHEMA, StaleDay
from features.schema import Schema


def mending_commands(schema: Schema, known: Known, stale: Sequence[StaleDay]) -> list[str]:
    """Command lines, in their order; none where no day is stale.

    ``history`` goes through all steps and leaves out what needs none. Where examples alone are
    stale it would start with nothing to do.
    """
    if not stale:
        return []
    days = sorted({one.day for one in stale})
    if {one.table for one in stale} == {EXAMPLES}:
        return [_line(schema, "examples", days[0], days[-1])]
    has_other_schema = any(one.input == SCHEMA for found in stale for one in found.reasons)
    # Examples of a day are made when labels of the day are final.
    last = max(
        one.day + schema.maturity_days * ONE_DAY if one.table == EXAMPLES else one.day
        for one in stale
    )
    features = sorted({one.day for one in stale if one.table in computed_tables(schema)})
    whole = "history"
    if has_other_schema:
        # A table has columns of one schema: all of its days are replaced at once.
        whole += f" --days-per-chunk {(last - days[0]).days + 1}"
    if features and _begins_with(schema, known, features[0]):
        whole += " --first-day"
    lines = [f"python -m features apply --dataset {schema.name}"] * has_other_schema
    lines.append(_line(schema, whole, days[0], last))
    if features:
        lines.append(_line(schema, "materialize", features[0], features[-1]))
    return lines


def _begins_with(schema: Schema, known: Known, day: datetime.date) -> bool:
    """Whether the lake begins with a day although the log is older."""
    earlier = [one for table in computed_tables(schema) for one in known.days(table) if one < day]
    return not earlier and day > schema.first_day


def _line(schema: Schema, command: str, first: datetime.date, last: datetime.date) -> str:
    span = f"--date {first}" + (f" --to {last}" if last > first else "")
    return f"python -m features {command} --dataset {schema.name} {span}"
