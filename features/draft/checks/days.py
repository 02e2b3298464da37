"""Days that are missing or small, and rows that are on another day than their file."""

import datetime
import statistics
from collections.abc import Iterator

from features.draft.checks.findings import Finding, Level
from features.draft.checks.landed import Landed
from features.draft.checks.reading import DAY_OF_FILE
from features.draft.log.sample import quoted
from features.schema import REQUEST_TIME

_ONE_DAY = datetime.timedelta(days=1)
_FEWEST_DAYS = 3
"""With fewer a number of rows is unusual at most."""
_SHOWN = 5


def missing_days(landed: Landed) -> Iterator[Finding]:
    """Days without a file between the first and the newest that has landed."""
    days, schema = landed.all_days, landed.schema
    first = min(schema.first_day, days[0])
    gaps = [
        first + n * _ONE_DAY
        for n in range((days[-1] - first).days)
        if first + n * _ONE_DAY not in set(days)
    ]
    if gaps:
        shown = ", ".join(map(str, gaps[:_SHOWN])) + (" and more" if len(gaps) > _SHOWN else "")
        yield Finding(
            Level.ERROR,
            "first_day" if gaps[0] == schema.first_day else "days",
            "missing-day",
            f"{len(gaps)} days from {first} to {days[-1]} have not landed: {shown}; the "
            "schedule waits for each. Land a file without rows for a day on which nothing "
            "happened, or move first_day",
        )
    if days[0] < schema.first_day:
        yield Finding(
            Level.WARNING,
            "first_day",
            "early-day",
            f"days have landed from {days[0]} on, and the log begins with {schema.first_day}: "
            "those before are never read",
        )


def small_days(landed: Landed) -> Iterator[Finding]:
    """Days that would stop for their number of rows, or would be reported."""
    limits = landed.schema.limits
    median = statistics.median(landed.rows_by_day.values())
    for day, rows in landed.rows_by_day.items():
        if rows < limits.min_rows:
            said = f"{rows} rows; at least {limits.min_rows} (limits.min_rows)"
            yield Finding(Level.ERROR, str(day), "small-day", said)
        elif len(landed.rows_by_day) < _FEWEST_DAYS or (not rows and not limits.min_rows):
            continue
        elif rows < int(median * limits.min_share_of_trailing_rows):
            yield Finding(
                Level.ERROR,
                str(day),
                "small-day",
                f"{rows} rows, and {median:g} in the middle of the days that were read; at least "
                f"the share {limits.min_share_of_trailing_rows:g} of it "
                "(limits.min_share_of_trailing_rows): has all of it landed?",
            )
        elif rows > median * limits.max_times_trailing_rows:
            yield Finding(
                Level.WARNING,
                str(day),
                "large-day",
                f"{rows} rows, and {median:g} in the middle of the days that were read; more than "
                f"{limits.max_times_trailing_rows:g} times it (limits.max_times_trailing_rows)",
            )


def other_days(landed: Landed) -> Iterator[Finding]:
    """Rows whose moment is on another day than their file, UTC, and by how many hours."""
    if REQUEST_TIME.name not in landed.columns:
        return
    moment = quoted(REQUEST_TIME.name)
    day = f"{moment}::DATE"
    outside = f"{day} <> {DAY_OF_FILE}"
    rows, found, early, late = landed.row(
        f"""SELECT count(*), count(*) FILTER ({outside}),
        max(epoch({DAY_OF_FILE}::TIMESTAMP) - epoch({moment})) FILTER ({day} < {DAY_OF_FILE}),
        max(epoch({moment}) - epoch({DAY_OF_FILE}::TIMESTAMP) - 86400)
            FILTER ({day} > {DAY_OF_FILE}) FROM {landed.table}"""
    )
    if not found:
        return
    share, most = found / rows, landed.schema.limits.max_quarantined_share
    ways = [f"up to {hours / 3600:.1f} hours {word}" for hours, word in
            ((early, "before its day"), (late, "after it")) if hours is not None]  # fmt: skip
    yield Finding(
        Level.ERROR if share > most else Level.WARNING,
        "source.time",
        "time-zone",
        f"{found:,.0f} of {rows:,.0f} rows ({share:.2%}) are on another day (UTC) than their file, "
        f"{' and '.join(ways)}: they go to quarantine, and above {most:.0%} the day stops. Are "
        "days cut in local time, or is a moment without its offset? Land by days of UTC",
    )
