"""Files of landed days as one table of DuckDB, each value typed as its column is declared."""

import datetime
from collections.abc import Iterator

import duckdb

from features.datasets.schema_files.build import DataSet
from features.draft.checks import values
from features.draft.checks.findings import Finding, Level
from features.draft.log.sample import SEPARATORS, quoted, readable, text
from features.places import Place, uri
from features.schema import EXAMPLE_ID, EXAMPLE_KEY, REQUEST_TIME, Column, Dtype, Kind, Schema
from features.spark.landed_columns import header_of
from features.spark.landing import files_of

TABLE = "impressions"
DAY_OF_FILE = "day_of_file"
FILE = "landed_file"
RAW = "raw:"
"""Before the name of a column as it is written, where that is a text."""
_EXAMPLE_ID = Column(name=EXAMPLE_ID, dtype=Dtype.INT64, kind=Kind.STORED, doc="Of the log.")
_EXAMPLE_KEY = Column(name=EXAMPLE_KEY, dtype=Dtype.STRING, kind=Kind.STORED, doc="Its id's key.")


def columns_read(schema: Schema) -> tuple[Column, ...]:
    """What is read of a row: what its id is made of, and the columns of an impression."""
    derived = schema.example_id
    if derived is None:
        return (_EXAMPLE_ID, *schema.impression_columns())
    own = (_EXAMPLE_KEY,) if derived.column else ()
    return (*own, *schema.impression_columns())


def landed_name(data_set: DataSet, column: Column) -> str:
    """The name of a column in the files."""
    source, derived = data_set.source, data_set.schema.example_id
    if column.name == REQUEST_TIME.name:
        return source.time.column
    if column.name == EXAMPLE_KEY and derived:
        return derived.column
    return source.columns.get(column.name, column.name)


def landed_type(data_set: DataSet, column: Column) -> Dtype:
    """The type of a column in Parquet files."""
    is_number = column.name == REQUEST_TIME.name and data_set.source.time.unit
    return Dtype.INT64 if is_number else column.dtype


class Reading:
    """Makes the table of the rows of some files."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        data_set: DataSet,
        files: dict[datetime.date, Place],
    ) -> None:
        self._connection, self._data_set, self._files = connection, data_set, files
        self.columns = columns_read(data_set.schema)
        self.names = {column.name: landed_name(data_set, column) for column in self.columns}

    def create(self) -> None:
        """Create the table; ValueError where DuckDB cannot read a file."""
        if self._data_set.source.reader:
            self._by_own_reader()
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
            f"CREATE TABLE {TABLE} AS SELECT {names}, day AS {DAY_OF_FILE}, source_file AS "
            f"{quoted(FILE)} FROM read"
        )
