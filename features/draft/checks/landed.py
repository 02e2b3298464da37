"""Landed days of a data set as typed rows in DuckDB, read by the rules of ``ingest``.

Whether a file is whole and has the columns of the schema is asked of the functions that ``ingest``
asks; a data set with a reader of its own is read by it.
"""

import dataclasses
import datetime
from collections.abc import Iterator, Sequence

import duckdb

from features.datasets.schema_files.build import DataSet
from features.draft.checks import values
from features.draft.checks.findings import Finding, Level
from features.draft.sample import SEPARATORS, quoted, text
from features.places import Place, uri
from features.schema import EXAMPLE_ID, EXAMPLE_KEY, REQUEST_TIME, Column, Dtype, Kind, Schema
from features.spark.landed_columns import header_of, integers_among
from features.spark.landing import files_of, impressions_file, is_whole

DAY_OF_FILE = "day_of_file"
FILE = "landed_file"
RAW = "raw:"
"""Before the name of a column as it is written, where that is a text."""
_EXAMPLE_ID = Column(name=EXAMPLE_ID, dtype=Dtype.INT64, kind=Kind.STORED, doc="Of the log.")
_EXAMPLE_KEY = Column(name=EXAMPLE_KEY, dtype=Dtype.STRING, kind=Kind.STORED, doc="Its id's key.")
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
    table: str = "impressions"

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
        dtype = next(one.dtype for one in _columns(self.schema) if one.name == column)
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
    reading = _Reading(connection, data_set, files)
    reading.create()
    counts = dict(
        connection.execute(
            f"SELECT {DAY_OF_FILE}, count(*) FROM impressions GROUP BY {DAY_OF_FILE}"
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
    columns = _columns(schema)
    names = {column.name: _landed_name(data_set, column) for column in columns}
    try:
        for file in files_of(path):
            if source.format == "parquet":
                integers_among(file, names, {c.name: _landed_type(data_set, c) for c in columns})
            elif source.format in SEPARATORS:
                header_of(file, SEPARATORS[source.format], names)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _columns(schema: Schema) -> tuple[Column, ...]:
    """What is read of a row: what its id is made of, and the columns of an impression."""
    derived = schema.example_id
    if derived is None:
        return (_EXAMPLE_ID, *schema.impression_columns())
    own = (_EXAMPLE_KEY,) if derived.column else ()
    return (*own, *schema.impression_columns())


def _landed_name(data_set: DataSet, column: Column) -> str:
    source, derived = data_set.source, data_set.schema.example_id
    if column.name == REQUEST_TIME.name:
        return source.time.column
    if column.name == EXAMPLE_KEY and derived:
        return derived.column
    return source.columns.get(column.name, column.name)


def _landed_type(data_set: DataSet, column: Column) -> Dtype:
    is_number = column.name == REQUEST_TIME.name and data_set.source.time.unit
    return Dtype.INT64 if is_number else column.dtype


class _Reading:
    """Makes the table of the rows of some files."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        data_set: DataSet,
        files: dict[datetime.date, Place],
    ) -> None:
        self._connection, self._data_set, self._files = connection, data_set, files
        self.columns = _columns(data_set.schema)
        self.names = {column.name: _landed_name(data_set, column) for column in self.columns}

    def create(self) -> None:
        """Create the table ``impressions``."""
        if self._data_set.source.reader:
            self._by_own_reader()
            return
        days = {uri(file): day for day, path in self._files.items() for file in files_of(path)}
        self._connection.execute("CREATE TABLE day_of (name VARCHAR, day DATE)")
        self._connection.executemany("INSERT INTO day_of VALUES (?, ?)", list(days.items()))
        parts = [self._select(*group) for group in self._groups(list(days))]
        self._connection.execute("CREATE TABLE impressions AS " + " UNION ALL BY NAME ".join(parts))

    def rejected(self) -> Iterator[Finding]:
        """Lines that have more or fewer values than their header, or are not UTF-8."""
        if self._data_set.source.format not in SEPARATORS:
            return
        found = self._connection.execute(
            "SELECT s.file_path, count(DISTINCT e.line), arg_min(e.line, e.line), "
            "arg_min(e.error_message, e.line) FROM reject_errors e JOIN reject_scans s "
            "USING (scan_id, file_id) GROUP BY s.file_path ORDER BY s.file_path"
        ).fetchall()
        for file, lines, first, message in found:
            said = (
                f"{lines} lines cannot be split into the columns of the header, the first is line "
                f"{first} ({str(message).splitlines()[0]}); each becomes a row without values"
            )
            yield Finding(Level.ERROR, str(file), "broken-line", said)

    def _groups(self, files: list[str]) -> Iterator[tuple[str, list[str], tuple[str, ...]]]:
        """Files that are read at once: those of text have the same header."""
        kind = str(self._data_set.source.format)
        if kind not in SEPARATORS:
            yield kind, files, ()
            return
        by_header: dict[tuple[str, ...], list[str]] = {}
        for file in (file for path in self._files.values() for file in files_of(path)):
            header = header_of(file, SEPARATORS[kind], self.names)
            by_header.setdefault(header, []).append(uri(file))
        for header, group in by_header.items():
            yield kind, group, header

    def _select(self, kind: str, files: list[str], header: tuple[str, ...]) -> str:
        listed = "[" + ", ".join(map(text, files)) + "]"
        source = {"parquet": f"read_parquet({listed}, filename = true)"}.get(kind)
        if kind == "jsonl":
            fields = ", ".join(
                f"{text(self.names[c.name])}: '{'VARCHAR[]' if c.dtype.is_list else 'VARCHAR'}'"
                for c in self.columns
            )
            source = (
                f"read_json({listed}, format = 'newline_delimited', columns = {{{fields}}}, "
                "ignore_errors = true, filename = true)"
            )
        if kind in SEPARATORS:
            # Numbered, for names may be there twice; and told, for a broken file is not guessed.
            fields = ", ".join(f"'_{number}': 'VARCHAR'" for number in range(len(header)))
            source = (
                f"read_csv({listed}, delim = {text(SEPARATORS[kind])}, header = true, "
                f"quote = '\"', escape = '\"', auto_detect = false, columns = {{{fields}}}, "
                "store_rejects = true, filename = true)"
            )
        listed_values = ", ".join(
            part for column in self.columns for part in self._values(column, header)
        )
        return (
            f"SELECT {listed_values}, filename AS {quoted(FILE)}, day AS {DAY_OF_FILE} "
            f"FROM {source} JOIN day_of ON day_of.name = filename"
        )

    def _values(self, column: Column, header: tuple[str, ...]) -> Iterator[str]:
        source, name = self._data_set.source, self.names[column.name]
        landed = f"_{header.index(name)}" if header else quoted(name)
        is_text = source.format != "parquet"
        unit = source.time.unit if column.name == REQUEST_TIME.name else None
        separator = source.list_separator if source.format in SEPARATORS else ""
        typed = values.typed(landed, column, unit=unit, is_text=is_text, separator=separator)
        yield f"{typed} AS {quoted(column.name)}"
        if is_text and not column.dtype.is_list:
            yield f"{landed} AS {quoted(RAW + column.name)}"

    def _by_own_reader(self) -> None:
        """The rows as the data set's own module reads them, by Spark."""
        from features.datasets.readers import Reader
        from features.spark.session import start_session

        schema = self._data_set.schema
        reader = Reader(schema, self._data_set.source)
        spark = start_session(f"check {schema.name}")
        rows = reader.read_files(spark, list(self._files.values())).toArrow()
        self._connection.register("read", rows)
        names = ", ".join(quoted(column.name) for column in self.columns)
        self._connection.execute(
            f"CREATE TABLE impressions AS SELECT {names}, day AS {DAY_OF_FILE}, source_file AS "
            f"{quoted(FILE)} FROM read"
        )
