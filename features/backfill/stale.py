"""The command ``python -m features stale``: which days do not follow any more, and why."""

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from features.cli import FailedError, Summary
from features.datasets.catalog import schema_of
from features.options import from_flags, option
from features.requests import OfLanding

if TYPE_CHECKING:
    from features.lake.day_rows import Inputs
    from features.provenance.staleness import StaleDay

_MOST_REASONS = 3
"""In a row of the table; the JSON object has all of them."""


@from_flags
class StaleRequest(OfLanding):
    """List days that do not follow from what is there now: table, day, what has changed.

    Prints the commands that make them again, in their order, and which days were made again since
    the newest ranker has learnt them.
    """

    date: datetime.date | None = option("the first day (else the lake's)", default=None)
    to: datetime.date | None = option("the last day (else the lake's)", default=None)
    check: bool = option("exit code 1 where a day is stale", default=False)

    def __post_init__(self) -> None:
        """ValueError for a range that ends before it begins."""
        if self.date and self.to and self.to < self.date:
            raise ValueError(f"--to: {self.to}; not before --date {self.date}")


def stale(request: StaleRequest) -> Summary:
    """Stale days from ``date`` to ``to``; what has landed is looked at of these alone."""
    from features.lake.lake import Lake
    from features.pages import site
    from features.pages.content import Block, Bullets, Heading, Page, Table
    from features.provenance.inputs import tables_in_order
    from features.provenance.known import KnownLake
    from features.provenance.landed import landed_below
    from features.provenance.learnt import rebuilt_days
    from features.provenance.mending import mending_commands
    from features.provenance.staleness import stale_days

    schema = schema_of(request.dataset)
    lake = Lake(request.lake, schema.name)
    known, landed = KnownLake(lake), landed_below(schema, request.landing)
    first, last = request.date or datetime.date.min, request.to or datetime.date.max
    known.load(tables_in_order(schema))

    def looked_at(table: str, day: datetime.date) -> "Inputs":
        return landed(table, day) if first <= day <= last else {}

    # A day is stale because of one before it, and is mended with those after it.
    every = stale_days(schema, known, landed=looked_at)
    found = [one for one in every if first <= one.day <= last]
    commands = mending_commands(schema, known, every) if found else []
    rows = [(one.table, str(one.day), _in_words(one)) for one in found]
    blocks: list[Block] = [Table(("table", "day", "what has changed"), rows)]
    if commands:
        blocks += [Heading("Commands that make them again, in this order"), Bullets(commands)]
    page = Page(f"{schema.name}: {len(found)} stale days of tables", blocks)
    ranker, rebuilt = rebuilt_days(lake.root)
    rebuilt = [day for day in rebuilt if first <= day <= last]
    words = site.text(page) if found else f"{schema.name}: no day is stale"
    summary: Summary = {
        "stale": [_as_json(one) for one in found],
        "commands": commands,
        "to_learn": [str(day) for day in rebuilt],
        "markdown": words + _to_learn(ranker, rebuilt),
    }
    if found and request.check:
        tables = ", ".join(dict.fromkeys(one.table for one in found))
        raise FailedError(f"{len(found)} days of {tables} are stale", summary)
    return summary


def _to_learn(ranker: str, days: Sequence[datetime.date]) -> str:
    """Days that are as they should be, and that the newest ranker knows otherwise."""
    if not days:
        return ""
    return (
        f"\n{ranker} has learnt {len(days)} days that were made again since, {days[0]} to "
        f"{days[-1]}: python -m training train --changed-since {days[0]} learns them"
    )


def _in_words(one: "StaleDay") -> str:
    shown = [str(reason) for reason in one.reasons[:_MOST_REASONS]]
    more = len(one.reasons) - len(shown)
    return "; ".join([*shown, f"and {more} more"] if more else shown)


def _as_json(one: "StaleDay") -> dict[str, object]:
    reasons: Sequence[dict[str, str]] = [
        {"input": reason.input, "was": reason.was, "now": reason.now} for reason in one.reasons
    ]
    return {"table": one.table, "day": str(one.day), "reasons": reasons}
