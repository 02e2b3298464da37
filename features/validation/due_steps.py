"""What some days of the lake lack: which steps must run until their examples are current.

A table's day is current where it is there, and was made of what is there now. That is all in the
lake: nothing has to be remembered of a run that was killed.
"""

import datetime
from collections.abc import Sequence
from typing import Literal

from features.lake.lake import EXAMPLES, IMPRESSIONS, ONE_DAY, Lake
from features.provenance.inputs import checked_tables, computed_tables, raw_tables
from features.provenance.known import KnownLake
from features.provenance.staleness import Landed, current_days, no_landing
from features.schema import Schema

Step = Literal["impressions", "features", "examples"]
STEPS: tuple[Step, ...] = ("impressions", "features", "examples")
"""What is made of days, each from the ones before."""


def due(
    lake: Lake,
    schema: Schema,
    days: Sequence[datetime.date],
    *,
    landed: Landed = no_landing,
) -> list[Step]:
    """The steps by which some days become current: the first one that is not, and all after it.

    Args:
        lake: The tables of the data set.
        schema: By which they must have been made.
        days: Some in a row.
        landed: What has landed, where it is to be looked at.
    """
    for place, step in enumerate(STEPS):
        if behind(lake, schema, days, step, landed=landed):
            return list(STEPS[place:])
    return []


def behind(
    lake: Lake,
    schema: Schema,
    days: Sequence[datetime.date],
    step: Step,
    *,
    landed: Landed = no_landing,
) -> list[datetime.date]:
    """The days for which a step must run: of examples those whose labels are final by then."""
    tables: dict[Step, list[str]] = {
        "impressions": [*raw_tables(schema), *checked_tables(schema)],
        "features": computed_tables(schema),
        "examples": [EXAMPLES],
    }
    wanted = days if step != "examples" else mature(lake, schema, days)
    current = current_days(schema, KnownLake(lake), tables[step], wanted, landed=landed)
    return [day for day in wanted if day not in current]


def mature(lake: Lake, schema: Schema, days: Sequence[datetime.date]) -> list[datetime.date]:
    """The days whose labels are final when some days are over, of those that the lake has.

    They are the same days, unless what training learns comes later.
    """
    shifted = [day - schema.maturity_days * ONE_DAY for day in days]
    first = min([*lake.days(IMPRESSIONS), days[0]])
    return [day for day in shifted if day >= first]
