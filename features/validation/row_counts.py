"""How many rows a day must have: of those that would be published, against the days before it."""

import datetime
import statistics
from collections.abc import Mapping, Sequence

from features.schema import Limits

_FEWEST_TRAILING_DAYS = 3
"""With fewer of them a number of rows is unusual at most, and no reason to stop."""


def check_row_counts(
    limits: Limits, published: Mapping[datetime.date, int], trailing: Sequence[int]
) -> tuple[list[str], list[str]]:
    """What must stop the days, and what is only reported, each with number and limit.

    Args:
        limits: Those of the schema.
        published: Rows of each day that would be published.
        trailing: Published rows of the days before; empty where there is nothing to compare with.
    """
    critical = [
        f"rows of {day}: {rows} published; at least {limits.min_rows}"
        for day, rows in published.items()
        if rows < limits.min_rows
    ]
    if critical or not trailing:
        return critical, []
    median = statistics.median(trailing)
    fewest = int(median * limits.min_share_of_trailing_rows)
    most = max(1, int(median * limits.max_times_trailing_rows))
    against = f"(median of the {len(trailing)} days before: {median:g})"
    day, rows = next(iter(published.items()))
    if rows > most:
        return [], [f"rows of {day}: {rows} published; at most {most} {against}"]
    if rows >= fewest or (not rows and not limits.min_rows):
        return [], []
    sentence = f"rows of {day}: {rows} published; at least {fewest} {against}"
    return ([sentence], []) if len(trailing) >= _FEWEST_TRAILING_DAYS else ([], [sentence])
