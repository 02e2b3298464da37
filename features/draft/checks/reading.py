"""Files of landed days as one table of DuckDB, each value typed as its column is declared."""

import datetime
from collections.abc import Iterator

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
    """Makes the table of the rows of some files."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        data_set: DataSet,
        landing: Place,
        files: dict[datetime.date, Place],
    ) -> None:
        self._connection, self._data_set = connection, data_set
        self._landing, self._files = landing, files
        self._format = LandedFormat(data_set.schema, data_set.source)
        self.columns = self._format.impression_columns()
        self.names = {column.name: self._format.landed_name(column) for column in self.columns}

    def create(self) -> None:
        """Create the table; ValueError where DuckDB cannot read a file."""
        if self._data_set.source.format not in {*SEPARATORS, "jsonl", "parquet"}:
            self._by_spark()
            return
        places = {file: day for day, path in self._files.items() for file in files_of(path)}
        days = dict(zip(readable(self._connection, list(places)), places.values(), strict=True))
        self._connection.execute("CREATE TABLE day_of (name VARCHAR, day DATE)")
        self._connection.executemany("INSERT INTO day_of VALUES (?, ?)", list(days.items()))
        parts = [self._select(*group) for group in self._groups(list(days))]
        try:
            self._connection.execute(f"CREATE TABLE {TABLE} AS {' UNION ALL BY NAME '.join(parts)}")
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise ValueError(f"{', '.join(days)}: cannot be read; {first}") from error

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
        columns = ", ".join(part for one in self.columns for part in self._values(one, header))
        source = self._source(kind, "[" + ", ".join(map(text, files)) + "]", header)
        return (
            f"SELECT {columns}, filename AS {quoted(FILE)}, day AS {DAY_OF_FILE} "
            f"FROM {source} JOIN day_of ON day_of.name = filename"
        )

    def _source(self, kind: str, listed: str, header: tuple[str, ...]) -> str:
        if kind == "parquet":
            return f"read_parquet({listed}, filename = true)"
        if kind == "jsonl":
            fields = ", ".join(
                f"{text(self.names[c.name])}: '{'VARCHAR[]' if c.dtype.is_list else 'VARCHAR'}'"
                for c in self.columns
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
        source, name = self._data_set.source, self.names[column.name]
        landed = f"_{header.index(name)}" if header else quoted(name)
        is_text = source.format != "parquet"
        unit = source.time.unit if column.name == REQUEST_TIME.name else None
        separator = source.list_separator if source.format in SEPARATORS else ""
        typed = values.typed(landed, column, unit=unit, is_text=is_text, separator=separator)
        yield f"{typed} AS {quoted(column.name)}"
        if is_text and not column.dtype.is_list:
            yield f"{landed} AS {quoted(RAW + column.name)}"

    def _by_spark(self) -> None:
        """The rows as the job reads them: of a table, a topic, or by the data set's own module."""
        from features.datasets.readers import Reader
        from features.spark.session import start_session

        schema = self._data_set.schema
        reader = Reader(schema, self._data_set.source)
        spark = start_session(f"check {schema.name}")
        rows = reader.read_days(spark, self._landing, list(self._files)).toArrow()
        self._connection.register("read", rows)
        names = ", ".join(quoted(column.name) for column in self.columns)
        self._connection.execute(
            f"CREATE TABLE {TABLE} AS SELECT {names}, day AS {DAY_OF_FILE}, source_file AS "
            f"{quoted(FILE)} FROM read"
        )
