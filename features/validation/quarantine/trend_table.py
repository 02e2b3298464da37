"""The share of rows in quarantine as a table: a row a rule, a column a day, coloured by size."""

import datetime
from collections.abc import Mapping, Sequence

from features.pages.content import Cell, Table, Tone

Shares = Mapping[str, Mapping[datetime.date, float]]
"""By rule and day, of the day's rows."""
_MANY_TIMES_MEDIAN = 3.0
"""A share that is so many times the median of a rule's other days stands out."""


def trend_table(days: Sequence[datetime.date], shares: Shares, *, limit: float) -> Table:
    """Shares by rule, and of each day those that stand out.

    Args:
        days: The columns; days that were not checked have a dash.
        shares: What is shown.
        limit: Share of a day's rows above which the day stops.
    """
    rows = [(rule, *(_cell(day, of_day, limit) for day in days)) for rule, of_day in shares.items()]
    return Table(("rule", *(f"{day:%m-%d}" for day in days)), rows)


def _cell(day: datetime.date, of_day: Mapping[datetime.date, float], limit: float) -> Cell | None:
    share = of_day.get(day)
    if share is None:
        return None
    return Cell(f"{share:.2%}", tone=_tone(day, of_day, limit), is_number=True)


def _tone(day: datetime.date, of_day: Mapping[datetime.date, float], limit: float) -> Tone:
    """Bad above the limit; unsure where it is far above the rule's other days."""
    share = of_day[day]
    if share > limit:
        return Tone.BAD
    others = sorted(value for other, value in of_day.items() if other != day)
    median = others[len(others) // 2] if others else 0.0
    if not share:
        return Tone.QUIET
    return Tone.UNSURE if share > _MANY_TIMES_MEDIAN * median else Tone.PLAIN
