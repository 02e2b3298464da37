"""Landed days of a data set as typed rows in DuckDB, read by the rules of ``ingest``.

Whether a file is whole and has the columns of the schema is asked of the functions that ``ingest``
asks; a data set with a reader of its own is read by it.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence

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
    read_by_spark,
)
from features.draft.log.sample import SEPARATORS, quoted
from features.places import Place
from features.schema import Column, Dtype, Schema
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
    return files_by_day(landing / "impressions", source.landed_suffix)


def files_by_day(folder: Place, suffix: str) -> dict[datetime.date, Place]:
    """The files of a folder that are named as a day, whole or not, in the order of their days."""
    found = {}
    for path in folder.glob(f"*.{suffix}"):
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
    of_files = LandedFormat(data_set.schema, data_set.source)
    columns = of_files.impression_columns()
    if is_read_here(data_set.source):
        reading = Reading(connection, of_files, columns, files)
        reading.create()
        findings += reading.rejected()
    else:
        read_by_spark(connection, data_set, landing, list(files), columns)
    return rows_of(connection, of_files, columns, files, all_days=list(there)), findings


def is_read_here(source: SourceEntry) -> bool:
    """Whether files have one of the usual formats, which need no Spark."""
    return source.format in {*SEPARATORS, "jsonl", "parquet"}


def rows_of(
    connection: duckdb.DuckDBPyConnection,
    of_files: LandedFormat,
    columns: Sequence[Column],
    days: Iterable[datetime.date],
    *,
    all_days: Sequence[datetime.date],
    table: str = TABLE,
) -> Landed:
    """The rows of some days, which are in a table."""
    counted = f"SELECT {DAY_OF_FILE}, count(*) FROM {table} GROUP BY {DAY_OF_FILE}"
    counts = dict(connection.execute(counted).fetchall())
    return Landed(
        connection=connection,
        schema=of_files.schema,
        all_days=all_days,
        rows_by_day={day: int(counts.get(day, 0)) for day in days},
        columns={column.name: column.dtype for column in columns},
        landed_names={column.name: of_files.landed_name(column) for column in columns},
        table=table,
    )


def _problem(data_set: DataSet, path: Place) -> str:
    """Why ``ingest`` would refuse a file; empty where it would not."""
    source = data_set.source
    if not has_files(source):
        return ""
    of_files = LandedFormat(data_set.schema, source)
    return problem_of_file(of_files, () if source.reader else of_files.impression_columns(), path)


def problem_of_file(of_files: LandedFormat, columns: Sequence[Column], path: Place) -> str:
    """Why a file with some columns would be refused; empty where it would not.

    Args:
        of_files: What the files look like.
        columns: What is read of them; none: whoever reads them says what they must have.
        path: The file, or a folder of files.
    """
    source = of_files.source
    if not has_landed(path, source.ready.marker if source.ready else ""):
        return f"{path} is cut off or still being written, or its marker is not there; ingest waits"
    names = {column.name: of_files.landed_name(column) for column in columns}
    try:
        for file in files_of(path) if columns else ():
            if source.format == "parquet":
                integers_among(file, names, {c.name: of_files.landed_type(c) for c in columns})
            elif source.format in SEPARATORS:
                header_of(file, SEPARATORS[source.format], names)
    except (ValueError, OSError) as error:
        return str(error)
    return ""
