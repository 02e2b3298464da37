"""The moment of an impression: which column has it, in which unit, and which days there are."""

import dataclasses
import datetime
from collections.abc import Iterable

from features.draft.log.names import TIME, words
from features.draft.log.profile import Profile
from features.draft.log.sample import Sample, quoted
from features.schema import Dtype

_SINCE, _UNTIL = 631_152_000, 4_102_444_800
"""Seconds from 1990 to 2100: a number between them may be a moment."""
UNITS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
_OFFSET = r".*[0-9]\s*(Z|[+-][0-9]{2}(:?[0-9]{2})?)\s*"
_QUIET = 0.6
"""Share of the usual rows of four hours below which they seem to be night."""
FEW_ROWS = 0.2
"""Share of the median day's rows below which a first or last day seems to be cut off."""


def moment_sql(column: str, *, unit: str | None, kind: str) -> str:
    """A moment as a timestamp in UTC, in DuckDB's SQL; null where it cannot be read.

    Args:
        column: The column, in SQL.
        unit: Of a number since 1970.
        kind: DuckDB's type of the column.
    """
    if unit:
        steps = UNITS["microseconds"] // UNITS[unit]
        return f"make_timestamp(try_cast(try_cast({column} AS DECIMAL(38, 6)) * {steps} AS BIGINT))"
    if kind.startswith("TIMESTAMP WITH"):
        return f"make_timestamp(epoch_us({column}))"
    if kind != "VARCHAR":
        return f"try_cast({column} AS TIMESTAMP)"
    # A cast to a timestamp would drop the offset.
    packed = f"regexp_replace({column}, '\\s+(Z|[+-][0-9:]+)\\s*$', '\\1')"
    moment = f"make_timestamp(epoch_us(try_cast({packed} AS TIMESTAMPTZ)))"
    has_offset = (
        f"regexp_full_match({column}, '.*[T ].*') AND regexp_full_match({column}, '{_OFFSET}')"
    )
    return f"CASE WHEN {has_offset} THEN {moment} ELSE try_cast({column} AS TIMESTAMP) END"


@dataclasses.dataclass(frozen=True)
class Moments:
    """The time column, and what its values say."""

    landed: str
    unit: str
    """Of a number since 1970; empty for timestamps and texts."""
    sql: str
    """The moment as a timestamp in UTC, in DuckDB's SQL."""
    why: str
    days: dict[datetime.date, int]
    """Rows of each day, UTC, in order."""

    @property
    def first(self) -> datetime.date:
        """The first day of the sample."""
        return next(iter(self.days))

    @property
    def last(self) -> datetime.date:
        """The last day of the sample."""
        return next(reversed(self.days))

    @property
    def span_days(self) -> int:
        """Days from the first to the last, both counted."""
        return (self.last - self.first).days + 1

    @property
    def median_rows(self) -> int:
        """Rows of a day in the middle."""
        return sorted(self.days.values())[len(self.days) // 2]


def find(sample: Sample, columns: Iterable[Profile]) -> Moments | None:
    """The time column of a sample; None where no column has moments."""
    scored = [(_score(column), -place, column) for place, column in enumerate(columns)]
    best = max(scored, key=lambda one: one[:2], default=None)
    if best is None or best[0] <= 0:
        return None
    return _moments(sample, best[2])


def unit_of(column: Profile) -> str:
    """Unit of a column of numbers since 1970; empty where its values are none."""
    if column.dtype not in {Dtype.INT64, Dtype.FLOAT64} or column.low is None:
        return ""
    for unit, steps in UNITS.items():
        if _SINCE * steps <= column.low and (column.high or 0) < _UNTIL * steps:
            return unit
    return ""


def _score(column: Profile) -> float:
    if column.missing > column.rows // 2:
        return 0
    is_named = len(TIME & set(words(column.landed)))
    if column.is_moment:
        return 2 + is_named
    # Numbers of this size may be ids: only a name, or another value in most rows, says otherwise.
    is_number = bool(unit_of(column)) and column.dtype is Dtype.INT64
    return (1 + is_named) if is_number and (is_named or column.mean_repeats < 50) else 0


def _moments(sample: Sample, column: Profile) -> Moments | None:
    unit, name = "" if column.is_moment else unit_of(column), quoted(column.landed)
    sql = moment_sql(name, unit=unit, kind=sample.types[column.landed])
    found = sample.connection.execute(
        f"SELECT {sql}::DATE AS day, count(*) FROM {sample.table} GROUP BY day ORDER BY day"
    ).fetchall()
    days = {day: int(rows) for day, rows in found if day is not None}
    return Moments(column.landed, unit, sql, _why(sample, column, unit, sql), days)


def _why(sample: Sample, column: Profile, unit: str, sql: str) -> str:
    if unit:
        said = f"numbers from {column.low:.0f} on: {unit} since 1970, which have no zone"
    elif column.has_offset:
        said = "each moment has its offset"
    else:
        said = "no moment has an offset, so UTC is assumed"
        if not sample.types[column.landed].startswith("TIMESTAMP"):
            said += (
                "; if the log has local time, write the offset into it (2025-03-01T12:30:00+02:00)"
            )
    return f"{said}. {_quietest(sample, sql)}"


def _quietest(sample: Sample, sql: str) -> str:
    """The hours of fewest rows: night for most logs, which shows a wrong zone."""
    counts = dict(
        sample.connection.execute(
            f"SELECT hour({sql}) AS h, count(*) FROM {sample.table} GROUP BY h"
        ).fetchall()
    )
    rows = [int(counts.get(hour, 0)) for hour in range(24)]
    if sum(1 for n in rows if n) < 2:
        return "All are in one hour: is it a date without the time of day?"
    windows = {hour: sum(rows[(hour + n) % 24] for n in range(4)) for hour in range(24)}
    quiet = min(windows, key=lambda hour: windows[hour])
    if windows[quiet] > _QUIET * sum(rows) * 4 / 24:
        return "No hours are quiet, so nothing shows where night is."
    return f"The quietest hours are {quiet:02d} to {(quiet + 4) % 24:02d} UTC: is it night then?"
