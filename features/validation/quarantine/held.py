"""What is in quarantine: rows by day, rule and reason, some of them, and what was re-admitted."""

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from features.lake.lake import IMPRESSIONS, QUARANTINE, READMITTED, Lake
from features.lake.snapshot import tables
from features.pages.content import Table
from features.schema import EXAMPLE_ID, Schema
from features.validation.quarantine.trend_table import trend_table

RULES, REASONS = "rules", "reasons"
_SHOWN = 3
TREND_DAYS = 14
"""So many days are shown where none are named."""


class Held(NamedTuple):
    """Rows of a day that a rule holds; a row that breaks several is counted for each."""

    day: datetime.date
    rule: str
    reason: str
    rows: int
    share: float
    """Of the rows that came in on the day."""


class Readmitted(NamedTuple):
    """Rows of a day that were re-admitted at once."""

    day: datetime.date
    source: str
    """Names and hashes of the mapping and the file."""
    moment: datetime.datetime
    rows: int


def quarantined_tables(lake: Lake) -> list[str]:
    """Tables of which rows may be in quarantine, by name."""
    found = (name for name in tables(lake.root) if name != READMITTED)
    prefix = f"{QUARANTINE}_"
    return [name.removeprefix(prefix) for name in found if name.startswith(prefix)]


def came_in(lake: Lake, table: str, day: datetime.date) -> int:
    """Rows of a day that were checked: published ones and those in quarantine."""
    both = (name for name in (table, f"{QUARANTINE}_{table}") if lake.has(name, day))
    return sum(lake.manifest(name, day).rows for name in both)


def held_rows(
    lake: Lake, table: str, days: Sequence[datetime.date], *, rule: str = ""
) -> list[Held]:
    """Rows in quarantine by day, rule and reason, in this order.

    Args:
        lake: The tables of the data set.
        table: Of which the rows are.
        days: The days.
        rule: Only this one; empty: all.
    """
    found = []
    for day in days:
        total = came_in(lake, table, day)
        for name, reason, rows in _counts(lake, table, day):
            if not rule or name == rule:
                found.append(Held(day, name, reason, rows, rows / total))
    return found


def _counts(lake: Lake, table: str, day: datetime.date) -> list[tuple[str, str, int]]:
    snapshot = lake.snapshot(f"{QUARANTINE}_{table}")
    if not snapshot.files(day) or not snapshot.partition(day).rows:
        return []
    rows = snapshot.read(day, [RULES, REASONS])
    broken = pa.table(
        {
            RULES: pc.list_flatten(rows.column(RULES)),
            REASONS: pc.list_flatten(rows.column(REASONS)),
        }
    )
    counted = broken.group_by([RULES, REASONS]).aggregate([([], "count_all")])
    columns = (counted.column(name).to_pylist() for name in (RULES, REASONS, "count_all"))
    return sorted(zip(*columns, strict=True))


def shares_by_rule(
    lake: Lake, table: str, days: Sequence[datetime.date]
) -> dict[str, dict[datetime.date, float]]:
    """By rule that held a row, the share of each day's rows; of days that were checked."""
    checked = [day for day in days if lake.has(table, day)]
    shares: dict[str, dict[datetime.date, float]] = {}
    for found in held_rows(lake, table, checked):
        of_rule = shares.setdefault(found.rule, dict.fromkeys(checked, 0.0))
        of_rule[found.day] += found.share
    return dict(sorted(shares.items()))


def trends_until(
    lake: Lake, schema: Schema, names: Sequence[str], last: datetime.date
) -> dict[str, Table]:
    """Of each table that held rows, the share by rule of the newest days until one."""
    found, limit = {}, schema.limits.max_quarantined_share
    for name in names:
        days = [day for day in lake.days(name) if day <= last][-TREND_DAYS:]
        if shares := shares_by_rule(lake, name, days):
            found[name] = trend_table(days, shares, limit=limit)
    return found


def sample(
    lake: Lake, table: str, days: Sequence[datetime.date], *, rule: str = "", num_rows: int
) -> list[dict[str, object]]:
    """The first rows in quarantine, by day and file, as JSON has them."""
    return [
        json.loads(json.dumps(row, default=str))
        for _, row in zip(range(num_rows), _rows(lake, table, days, rule), strict=False)
    ]


def _rows(
    lake: Lake, table: str, days: Sequence[datetime.date], rule: str
) -> Iterator[Mapping[str, object]]:
    snapshot = lake.snapshot(f"{QUARANTINE}_{table}")
    for day in (day for day in days if snapshot.files(day)):
        for batch in snapshot.read(day).to_batches(max_chunksize=1_000):
            for row in batch.to_pylist():
                if not rule or rule in row[RULES]:
                    yield {"day": day, **row}


def readmitted_rows(lake: Lake, days: Sequence[datetime.date]) -> list[Readmitted]:
    """What was re-admitted of some days' impressions, by day and moment."""
    snapshot, found = lake.snapshot(READMITTED), []
    for day in (day for day in days if snapshot.files(day)):
        rows = snapshot.read(day, ["source", "readmitted_at"])
        counted = rows.group_by(rows.column_names).aggregate([([], "count_all")])
        columns = (counted.column(name).to_pylist() for name in counted.column_names)
        named = zip(*columns, strict=True)
        found += [Readmitted(day, *one) for one in sorted(named, key=lambda one: one[1])]
    return found


def require_held(lake: Lake, table: str, days: Sequence[datetime.date], rule: str = "") -> None:
    """Require rows of a table in quarantine.

    Raises:
        ValueError: None is, of these days or by this rule; says of which there are.
    """
    known, where = quarantined_tables(lake), f"{lake.root.name}: quarantine of {table}"
    if table not in known:
        raise ValueError(f"{where}: no row was ever held; tables with such rows: {known or 'none'}")
    span = f"{days[0]} to {days[-1]}" if days else "no day"
    found = held_rows(lake, table, days)
    if not found:
        newest = ", ".join(map(str, days_held(lake, table)[-_SHOWN:])) or "none"
        raise ValueError(f"{where}: no row of {span} is held; newest days with such rows: {newest}")
    rules = sorted({one.rule for one in found})
    if rule and rule not in rules:
        raise ValueError(f"{where}: no row of {span} is held by {rule!r}; rules that do: {rules}")


def days_held(lake: Lake, table: str) -> list[datetime.date]:
    """Days of a table with rows in quarantine."""
    snapshot = lake.snapshot(f"{QUARANTINE}_{table}")
    return [day for day, found in snapshot.partitions(snapshot.days).items() if found.rows]


def days_to_readmit(lake: Lake, days: Sequence[datetime.date]) -> list[datetime.date]:
    """Those of some days that have impressions in quarantine, or had some that were re-admitted.

    Raises:
        ValueError: There is none; says which days have such rows.
    """
    held = {*days_held(lake, IMPRESSIONS), *lake.days(READMITTED)}
    wanted = [day for day in days if day in held]
    if not wanted:
        require_held(lake, IMPRESSIONS, days)
    return wanted


def ids_not_held(lake: Lake, days: Sequence[datetime.date], corrected: pa.Table) -> list[int]:
    """Example ids of a corrected file that no row of these days has that is or was held."""
    known: set[int | None] = set()
    for name in (f"{QUARANTINE}_{IMPRESSIONS}", READMITTED):
        for day in lake.days(name):
            if day in days:
                known.update(lake.snapshot(name).read(day, [EXAMPLE_ID])[EXAMPLE_ID].to_pylist())
    return [one for one in corrected.column(EXAMPLE_ID).to_pylist() if one not in known]
