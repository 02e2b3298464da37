"""Landed days of a data set as typed rows in DuckDB, read by the rules of ``ingest``.

Whether a file is whole and has the columns of the schema is asked of the functions that ``ingest``
asks; a data set with a reader of its own is read by it.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

import duckdb

from features.datasets.landed_format import LandedFormat
from features.datasets.schema_files.build import DataSet
from features.datasets.schema_files.source_models import SourceEntry
from features.draft.checks import values
from features.draft.checks.findings import Finding, Level
from features.draft.checks.reading import (
    DAY_OF_FILE,
    FILE,
    RAW,
    TABLE,
    Reading,
)
from features.draft.log.sample import SEPARATORS, quoted
from features.places import Place
from features.schema import Dtype, Schema
from features.spark.landed_columns import header_of, integers_among
from features.spark.landing import files_of, has_landed, impressions_file

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
    columns: Mapping[str, Dtype]
    """What was read, by names in the schema."""
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
        where = values.where(file, self.landed_names.get(column, column), value)
        return Unreadable(self.columns[column], value, where)

    def _names(self) -> set[str]:
        return set(self.connection.table(self.table).columns)


def days_there(
    source: SourceEntry, landing: Place, asked: Sequence[datetime.date]
) -> dict[datetime.date, Place]:
    """The files of all days, by day, whole or not; of a table or a topic, the days asked for."""
    if not has_files(source):
        return dict.fromkeys(asked, landing)
    found, suffix = {}, source.landed_suffix
    for path in (landing / "impressions").glob(f"*.{suffix}"):
        try:
            found[datetime.date.fromisoformat(path.name.removesuffix(f".{suffix}"))] = path
        except ValueError:
            continue
    return dict(sorted(found.items()))


def has_files(source: SourceEntry) -> bool:
    """Whether days land as files, and not in a table or a topic."""
    return not source.is_table and source.format != "kafka"


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
    there = days_there(data_set.source, landing, days)
    wanted = list(days) or list(there)[-USUAL_DAYS:]
    findings, files = [], {}
    for day in wanted:
        file = there.get(day)
        if file is None:
            path = impressions_file(landing, day, data_set.source.landed_suffix)
            findings.append(Finding(Level.ERROR, str(day), "missing-day", f"{path} has not landed"))
        elif problem := _problem(data_set, file):
            findings.append(Finding(Level.ERROR, str(day), "unreadable-file", problem))
        else:
            files[day] = file
    if not files:
        return None, findings
    reading = Reading(connection, data_set, landing, files)
    reading.create()
    counts = dict(
        connection.execute(
            f"SELECT {DAY_OF_FILE}, count(*) FROM {TABLE} GROUP BY {DAY_OF_FILE}"
        ).fetchall()
    )
    rows_by_day = {day: int(counts.get(day, 0)) for day in files}
    types = {column.name: column.dtype for column in reading.columns}
    landed = Landed(connection, data_set.schema, list(there), rows_by_day, types, reading.names)
    return landed, [*findings, *reading.rejected()]


def _problem(data_set: DataSet, path: Place) -> str:
    """Why ``ingest`` would refuse a file; empty where it would not."""
    schema, source = data_set.schema, data_set.source
    if not has_files(source):
        return ""
    if not has_landed(path, source.ready.marker if source.ready else ""):
        return f"{path} is cut off or still being written, or its marker is not there; ingest waits"
    if source.reader:
        return ""
    of_files = LandedFormat(schema, source)
    columns = of_files.impression_columns()
    names = {column.name: of_files.landed_name(column) for column in columns}
    try:
        for file in files_of(path):
            if source.format == "parquet":
                integers_among(file, names, {c.name: of_files.landed_type(c) for c in columns})
            elif source.format in SEPARATORS:
                header_of(file, SEPARATORS[source.format], names)
    except (ValueError, OSError) as error:
        return str(error)
    return ""
