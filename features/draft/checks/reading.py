"""Files of landed days as one table of DuckDB, each value typed as its column is declared."""

import datetime
from collections.abc import Iterator, Mapping, Sequence

import duckdb

from features.datasets.landed_format import LandedFormat
from features.datasets.schema_files.build import DataSet
from features.draft.checks import values
from features.draft.checks.findings import Finding, Level
from features.draft.log.sample import SEPARATORS, quoted, readable, text
from features.places import Place, uri
from features.schema import REQUEST_TIME, Column
from features.spark.landed_columns import header_of
from features.spark.landing import files_of

TABLE = "impressions"
DAY_OF_FILE = "day_of_file"
FILE = "landed_file"
RAW = "raw:"
"""Before the name of a column as it is written, where that is a text."""


class Reading:
    """Makes a table of the rows of some files."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        of_files: LandedFormat,
        columns: Sequence[Column],
        files: Mapping[datetime.date, Place],
        table: str = TABLE,
    ) -> None:
        """Read nothing yet.

        Args:
            connection: Gets the table.
            of_files: What the files look like.
            columns: What is read of them.
            files: By day.
            table: Its name.
        """
        self._connection, self._source = connection, of_files.source
        self._files, self._table, self._columns = files, table, columns
        self._names = {column.name: of_files.landed_name(column) for column in columns}

    def create(self) -> None:
        """Create the table; ValueError where DuckDB cannot read a file."""
        places = {file: day for day, path in self._files.items() for file in files_of(path)}
        days = dict(zip(readable(self._connection, list(places)), places.values(), strict=True))
        self._connection.execute(f"CREATE TABLE {self._days} (name VARCHAR, day DATE)")
        self._connection.executemany(f"INSERT INTO {self._days} VALUES (?, ?)", list(days.items()))
        parts = [self._select(*group) for group in self._groups(list(days))]
        try:
            union = " UNION ALL BY NAME ".join(parts)
            self._connection.execute(f"CREATE TABLE {self._table} AS {union}")
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise ValueError(f"{', '.join(days)}: cannot be read; {first}") from error

    def rejected(self) -> Iterator[Finding]:
        """Lines that have more or fewer values than their header, or are not UTF-8."""
        if self._source.format not in SEPARATORS:
            return
        files = f"SELECT name FROM {self._days}"
        found = self._connection.execute(
            "SELECT s.file_path, count(DISTINCT e.line), arg_min(e.line, e.line), "
            "arg_min(e.error_message, e.line) FROM reject_errors e JOIN reject_scans s "
            f"USING (scan_id, file_id) WHERE s.file_path IN ({files}) GROUP BY s.file_path "
            "ORDER BY s.file_path"
        ).fetchall()
        for file, lines, first, message in found:
            said = (
                f"{lines} lines cannot be split into the columns of the header, the first is line "
                f"{first} ({str(message).splitlines()[0]}); each becomes a row without values"
            )
            yield Finding(Level.ERROR, str(file), "broken-line", said)

    def _groups(self, files: list[str]) -> Iterator[tuple[str, list[str], tuple[str, ...]]]:
        """Files that are read at once: those of text have the same header."""
        kind = str(self._source.format)
        if kind not in SEPARATORS:
            yield kind, files, ()
            return
        by_header: dict[tuple[str, ...], list[str]] = {}
        for file in (file for path in self._files.values() for file in files_of(path)):
            header = header_of(file, SEPARATORS[kind], self._names)
            by_header.setdefault(header, []).append(uri(file))
        for header, group in by_header.items():
            yield kind, group, header

    def _select(self, kind: str, files: list[str], header: tuple[str, ...]) -> str:
        columns = ", ".join(part for one in self._columns for part in self._values(one, header))
        source = self._relation(kind, "[" + ", ".join(map(text, files)) + "]", header)
        return (
            f"SELECT {columns}, filename AS {quoted(FILE)}, day AS {DAY_OF_FILE} "
            f"FROM {source} JOIN {self._days} AS days ON days.name = filename"
        )

    @property
    def _days(self) -> str:
        return f"days_of_{self._table}"

    def _relation(self, kind: str, listed: str, header: tuple[str, ...]) -> str:
        if kind == "parquet":
            return f"read_parquet({listed}, filename = true)"
        if kind == "jsonl":
            fields = ", ".join(
                f"{text(self._names[c.name])}: '{'VARCHAR[]' if c.dtype.is_list else 'VARCHAR'}'"
                for c in self._columns
            )
            return (
                f"read_json({listed}, format = 'newline_delimited', columns = {{{fields}}}, "
                "ignore_errors = true, filename = true)"
            )
        # Numbered, for names may be there twice; and declared, for a broken file is not guessed.
        fields = ", ".join(f"'_{number}': 'VARCHAR'" for number in range(len(header)))
        return (
            f"read_csv({listed}, delim = {text(SEPARATORS[kind])}, header = true, quote = '\"', "
            f"escape = '\"', auto_detect = false, columns = {{{fields}}}, store_rejects = true, "
            "filename = true)"
        )

    def _values(self, column: Column, header: tuple[str, ...]) -> Iterator[str]:
        source, name = self._source, self._names[column.name]
        landed = f"_{header.index(name)}" if header else quoted(name)
        is_text = source.format != "parquet"
        unit = source.time.unit if column.name == REQUEST_TIME.name else None
        separator = source.list_separator if source.format in SEPARATORS else ""
        typed = values.typed(landed, column, unit=unit, is_text=is_text, separator=separator)
        yield f"{typed} AS {quoted(column.name)}"
        if is_text and not column.dtype.is_list:
            yield f"{landed} AS {quoted(RAW + column.name)}"


def read_by_spark(
    connection: duckdb.DuckDBPyConnection,
    data_set: DataSet,
    landing: Place,
    days: Sequence[datetime.date],
    columns: Sequence[Column],
) -> None:
    """Create the same table as the job reads it: of a table, a topic, or by a module of its own."""
    from features.datasets.readers import Reader
    from features.spark.session import start_session

    reader = Reader(data_set.schema, data_set.source)
    spark = start_session(f"check {data_set.schema.name}")
    rows = reader.read_days(spark, landing, days).toArrow()
    connection.register("read", rows)
    names = ", ".join(quoted(column.name) for column in columns)
    connection.execute(
        f"CREATE TABLE {TABLE} AS SELECT {names}, day AS {DAY_OF_FILE}, source_file AS "
        f"{quoted(FILE)} FROM read"
    )
