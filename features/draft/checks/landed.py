"""Landed days of a data set as typed rows in DuckDB, read by the rules of ``ingest``.

Whether a file is whole and has the columns of the schema is asked of the functions that ``ingest``
asks; a data set with a reader of its own is read by it.
"""

import dataclasses
import datetime
from collections.abc import Sequence

import duckdb

from features.datasets.schema_files.build import DataSet
from features.draft.checks import values
from features.draft.checks.findings import Finding, Level
from features.draft.checks.reading import (
    DAY_OF_FILE,
    FILE,
    RAW,
    TABLE,
    Reading,
    columns_read,
    landed_name,
    landed_type,
)
from features.draft.log.sample import SEPARATORS, quoted
from features.places import Place
from features.schema import Dtype, Schema
from features.spark.landed_columns import header_of, integers_among
from features.spark.landing import files_of, impressions_file, is_whole

USUAL_DAYS = 7


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A value that cannot be read as its type, and where it is."""

    dtype: Dtype
    value: str
    where: str


@dataclasses.dataclass(frozen=True)
class Landed:
    """Rows of some landed days."""

    connection: duckdb.DuckDBPyConnection
    schema: Schema
    all_days: Sequence[datetime.date]
    """Days with a file, read or not."""
    rows_by_day: dict[datetime.date, int]
    columns: frozenset[str]
    """Columns that the files have, by their names in the schema."""
    landed_names: dict[str, str]
    table: str = TABLE

    def row(self, query: str) -> tuple[float, ...]:
        """The one row of a query."""
        return self.connection.execute(query).fetchone() or ()

    def unreadable(self, column: str) -> Unreadable | None:
        """One of the values that are there and cannot be read; None where there is none."""
        raw = quoted(RAW + column)
        if RAW + column not in self._names():
            return None
        found = self.connection.execute(
            f"SELECT {raw}, {quoted(FILE)} FROM {self.table} WHERE {quoted(column)} IS NULL AND "
            f"trim({raw}) <> '' ORDER BY 2 LIMIT 1"
        ).fetchone()
        if found is None:
            return None
        value, file = str(found[0]), str(found[1])
        dtype = next(one.dtype for one in columns_read(self.schema) if one.name == column)
        where = values.where(file, self.landed_names.get(column, column), value)
        return Unreadable(dtype, value, where)

    def _names(self) -> set[str]:
        return set(self.connection.table(self.table).columns)


def landed_days(landing: Place, suffix: str) -> dict[datetime.date, Place]:
    """The files of all days, by day, whole or not."""
    found = {}
    for path in (landing / "impressions").glob(f"*.{suffix}"):
        try:
            found[datetime.date.fromisoformat(path.name.removesuffix(f".{suffix}"))] = path
        except ValueError:
            continue
    return dict(sorted(found.items()))


def read(
    connection: duckdb.DuckDBPyConnection,
    data_set: DataSet,
    landing: Place,
    days: Sequence[datetime.date],
) -> tuple[Landed | None, list[Finding]]:
    """Read some landed days; files that ``ingest`` would refuse are findings and are left out.

    Args:
        connection: Gets the rows as a table.
        data_set: What the files are.
        landing: Its folder.
        days: Which days; none: the newest seven.

    Returns:
        None for the rows where no file can be read.
    """
    suffix = data_set.source.landed_suffix
    there = landed_days(landing, suffix)
    wanted = list(days) or list(there)[-USUAL_DAYS:]
    findings, files = [], {}
    for day in wanted:
        file = there.get(day)
        if file is None:
            path = impressions_file(landing, day, suffix)
            findings.append(Finding(Level.ERROR, str(day), "missing-day", f"{path} has not landed"))
        elif problem := _problem(data_set, file):
            findings.append(Finding(Level.ERROR, str(day), "unreadable-file", problem))
        else:
            files[day] = file
    if not files:
        return None, findings
    reading = Reading(connection, data_set, files)
    reading.create()
    counts = dict(
        connection.execute(
            f"SELECT {DAY_OF_FILE}, count(*) FROM {TABLE} GROUP BY {DAY_OF_FILE}"
        ).fetchall()
    )
    rows_by_day = {day: int(counts.get(day, 0)) for day in files}
    landed = Landed(
        connection,
        data_set.schema,
        list(there),
        rows_by_day,
        frozenset(c.name for c in reading.columns),
        reading.names,
    )
    return landed, [*findings, *reading.rejected()]


def _problem(data_set: DataSet, path: Place) -> str:
    """Why ``ingest`` would refuse a file; empty where it would not."""
    schema, source = data_set.schema, data_set.source
    if not is_whole(path):
        return f"{path} is cut off or still being written; ingest waits for it"
    if source.reader:
        return ""
    columns = columns_read(schema)
    names = {column.name: landed_name(data_set, column) for column in columns}
    try:
        for file in files_of(path):
            if source.format == "parquet":
                integers_among(file, names, {c.name: landed_type(data_set, c) for c in columns})
            elif source.format in SEPARATORS:
                header_of(file, SEPARATORS[source.format], names)
    except (ValueError, OSError) as error:
        return str(error)
    return ""
