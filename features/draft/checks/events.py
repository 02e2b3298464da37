"""Events of the labels that come later, next to the impressions that they may belong to."""

import dataclasses
import datetime
from collections.abc import Iterable, Sequence

from features.datasets.landed_format import LandedFormat
from features.datasets.schema_files.build import DataSet
from features.draft.checks.findings import Finding, Level
from features.draft.checks.landed import (
    Landed,
    days_there,
    files_by_day,
    is_read_here,
    problem_of_file,
    rows_of,
)
from features.draft.checks.reading import DAY_OF_FILE, Reading
from features.draft.log.sample import quoted
from features.places import Place
from features.schema import REQUEST_TIME, Dtype, Label
from features.spark.landing import LABELS, events_file

ONE_DAY = datetime.timedelta(days=1)
MICROSECOND = datetime.timedelta(microseconds=1)
_AROUND = "impressions_around"
_MOST_DAYS_BEFORE = 7
"""Days beyond the window in which events that come too late are looked for."""


@dataclasses.dataclass(frozen=True)
class Events:
    """Events of a label, and what was found of each."""

    label: Label
    landed: Landed
    """The events; ``rows_by_day`` has the days that were read."""
    missing: Sequence[datetime.date]
    """Days of the checked impressions' windows that should have a file and have none."""
    final: Sequence[datetime.date]
    """Checked days all of whose events were read: their labels do not change any more."""
    example: Place
    """Where the events of the first day land."""
    refused: Sequence[Finding]
    """Files that the job would refuse, and their lines."""

    @property
    def known(self) -> str:
        """Events in SQL whose impressions were all read, from a window before each to itself."""
        return f"(SELECT * FROM {matched_table(self.label)} WHERE _is_known)"


def matched_table(label: Label) -> str:
    """Name of the table with a row for each event: its moment, and impressions of its key.

    ``_at``, ``_before`` and ``_after`` are its own moment and those of the nearest impressions, in
    microseconds; ``_fitting`` is the number of impressions that it comes within the window of, and
    ``_is_known`` says that it is of a checked day and all impressions of the window were read.
    """
    return f"matched_{label.name}"


def window_days(label: Label) -> int:
    """On how many days after its own an impression's events may be."""
    return -(-label.window // ONE_DAY)


def with_events(
    data_set: DataSet, landing: Place, landed: Landed
) -> tuple[Landed, tuple[Events, ...]]:
    """Impressions with a column for each label that comes later, and the labels' events.

    Of a day whose events have not all landed the column is null.
    """
    if not data_set.schema.later_labels:
        return landed, ()
    around = _read_around(data_set, landing, landed)
    found = []
    for label in data_set.schema.later_labels:
        events = _read(data_set, landing, landed, label)
        _match(landed, label, events, {*landed.rows_by_day, *around})
        _label_impressions(landed, events)
        landed = dataclasses.replace(landed, columns={**landed.columns, label.column: Dtype.INT64})
        found.append(events)
    return landed, tuple(found)


def _read(data_set: DataSet, landing: Place, landed: Landed, label: Label) -> Events:
    """The events of the checked days and of the days of their windows."""
    of_files = LandedFormat(data_set.schema, data_set.label_sources[label.name])
    columns, suffix = data_set.schema.event_columns(label), of_files.source.landed_suffix
    there = files_by_day(landing / LABELS / label.name, suffix)
    wanted = _after(landed.rows_by_day, window_days(label))
    # Of the newest day impressions land before their events.
    newest = max(landed.all_days)
    newest = max([newest - ONE_DAY, *there]) if there else newest
    problems = {
        day: problem_of_file(of_files, columns, there[day]) for day in wanted if day in there
    }
    files = {day: there[day] for day, problem in problems.items() if not problem}
    key, table = f"labels.{label.name}.source", f"events_{label.name}"
    refused = [
        Finding(Level.ERROR, key, "unreadable-file", problem)
        for problem in problems.values()
        if problem
    ]
    if files:
        reading = Reading(landed.connection, of_files, columns, files, table)
        reading.create()
        refused += reading.rejected()
    else:
        names = ", ".join(f"NULL::{_type(c.dtype)} AS {quoted(c.name)}" for c in columns)
        landed.connection.execute(
            f"CREATE TABLE {table} AS SELECT {names}, NULL::DATE AS {DAY_OF_FILE} WHERE false"
        )
    rows = rows_of(landed.connection, of_files, columns, files, all_days=list(there), table=table)
    days = landed.rows_by_day
    return Events(
        label=label,
        landed=rows,
        missing=[day for day in wanted if day not in there and day <= newest],
        final=[
            day for day in days if all(one in files for one in _after([day], window_days(label)))
        ],
        example=events_file(landing, label.name, next(iter(days)), suffix),
        refused=refused,
    )


def _type(dtype: Dtype) -> str:
    return {Dtype.INT64: "BIGINT", Dtype.TIMESTAMP: "TIMESTAMP"}.get(dtype, "VARCHAR")


def _after(days: Iterable[datetime.date], count: int) -> list[datetime.date]:
    """Some days and so many after each."""
    return sorted({day + n * ONE_DAY for day in days for n in range(count + 1)})


def _read_around(data_set: DataSet, landing: Place, landed: Landed) -> list[datetime.date]:
    """Read keys and moments of impressions before and after the checked days; returns the days.

    Before them, as far as an event of the first checked day may reach back, and somewhat more, for
    those that come too late; after them, which may be nearer to an event.
    """
    labels = data_set.schema.later_labels
    of_files = LandedFormat(data_set.schema, data_set.source)
    keys = {REQUEST_TIME.name, *(name for label in labels for name in label.join)}
    columns = [one for one in data_set.schema.impression_columns() if one.name in keys]
    files = {}
    if is_read_here(data_set.source):
        there = days_there(data_set.source, landing, ())
        after = max(map(window_days, labels))
        before = after + min(after, _MOST_DAYS_BEFORE)
        first = [day - before * ONE_DAY for day in landed.rows_by_day]
        wanted = set(_after(first, before + after)) - landed.rows_by_day.keys()
        files = {
            day: there[day]
            for day in sorted(wanted & there.keys())
            if not problem_of_file(of_files, columns, there[day])
        }
    if files:
        Reading(landed.connection, of_files, columns, files, _AROUND).create()
    else:
        names = ", ".join(quoted(column.name) for column in columns)
        landed.connection.execute(
            f"CREATE TABLE {_AROUND} AS SELECT {names} FROM {landed.table} WHERE false"
        )
    return list(files)


def _match(landed: Landed, label: Label, events: Events, covered: set[datetime.date]) -> None:
    """Create the table of matched events.

    Two sorted sides are joined by their moments, so that keys which many impressions share cost no
    more; impressions are numbered in their order, and the difference of two numbers counts them.
    """
    keys, time = [quoted(name) for name in label.join], quoted(REQUEST_TIME.name)
    listed, moment = ", ".join(keys), f"epoch_us({time}) AS _at"
    same = {s: " AND ".join(f"e.{key} = {s}.{key}" for key in keys) for s in ("b", "a", "o")}
    sides = " UNION ALL ".join(
        f"SELECT {listed}, {moment} FROM {table} WHERE {time} IS NOT NULL"
        for table in (landed.table, _AROUND)
    )
    landed.connection.execute(
        f"""CREATE TABLE {matched_table(label)} AS
        WITH shown AS (SELECT DISTINCT {listed}, _at, count(*) OVER (PARTITION BY {listed}
            ORDER BY _at RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _n FROM ({sides})),
        e AS (SELECT {listed}, {moment}, _at - {label.window // MICROSECOND} AS _since,
            {DAY_OF_FILE} AS _day FROM {events.landed.table} WHERE {time} IS NOT NULL
            AND {" AND ".join(f"{key} IS NOT NULL" for key in keys)})
        SELECT {", ".join(f"e.{key}" for key in keys)}, e._at, b._at AS _before, a._at AS _after,
            coalesce(b._n, 0) - coalesce(o._n, 0) AS _fitting,
            coalesce(e._since >= {_covered_from("e._day", landed.rows_by_day, covered)}, false)
                AS _is_known
        FROM e ASOF LEFT JOIN shown b ON {same["b"]} AND e._at >= b._at
        ASOF LEFT JOIN shown o ON {same["o"]} AND e._since > o._at
        ASOF LEFT JOIN shown a ON {same["a"]} AND e._at < a._at"""
    )


def _covered_from(day: str, days: Iterable[datetime.date], covered: set[datetime.date]) -> str:
    """In SQL, for a checked day the moment since which all impressions are there; else null."""
    whens = []
    for checked in days:
        first = checked
        while first - ONE_DAY in covered:
            first -= ONE_DAY
        whens.append(f"WHEN DATE '{checked}' THEN epoch_us(TIMESTAMP '{first}')")
    return f"CASE {day} {' '.join(whens)} END"


def _label_impressions(landed: Landed, events: Events) -> None:
    """Give the impressions the label's column, by the rule of ``features.labels.attribution``."""
    label, table, column = events.label, landed.table, quoted(events.label.column)
    moment = f"epoch_us({quoted(REQUEST_TIME.name)})"
    keys = [quoted(name) for name in label.join]
    same = " AND ".join(f"{table}.{key} = hit.{key}" for key in keys)
    hits = (
        f"SELECT DISTINCT {', '.join(keys)}, _before FROM {matched_table(label)} "
        f"WHERE _at - _before <= {label.window // MICROSECOND}"
    )
    positive = (
        f"SELECT max({table}.rowid) FROM {table} JOIN ({hits}) hit ON {same} AND "
        f"{moment} = hit._before GROUP BY {', '.join(f'hit.{key}' for key in keys)}, _before"
    )
    landed.connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} BIGINT")
    days = ", ".join(f"DATE '{day}'" for day in events.final)
    if days:
        landed.connection.execute(
            f"UPDATE {table} SET {column} = (rowid IN ({positive}))::BIGINT "
            f"WHERE {DAY_OF_FILE} IN ({days})"
        )
