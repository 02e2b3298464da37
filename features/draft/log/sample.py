"""Rows of a log as a table of DuckDB, before any schema file says what they mean."""

import dataclasses
import tempfile
from collections.abc import Sequence

import duckdb

from features.places import Place, is_local, uri

FORMATS = {"csv": "csv", "tsv": "tsv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet"}
"""Formats of landed files by how a name ends."""
COMPRESSIONS = ("gz", "zst")
SEPARATORS = {"csv": ",", "tsv": "\t"}
DELTA = "delta"


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows that were read, in table ``table`` of ``connection``, texts as they are written."""

    connection: duckdb.DuckDBPyConnection
    table: str
    files: tuple[Place, ...]
    format: str
    compression: str
    types: dict[str, str]
    """DuckDB's type of each column by its name in the files; texts of csv and tsv are VARCHAR."""
    rows: int
    is_whole: bool
    """Whether the files have no more rows than those."""

    @property
    def suffix(self) -> str:
        """How the names of such files end."""
        return ".".join(filter(None, (self.format, self.compression)))


def connect() -> duckdb.DuckDBPyConnection:
    """A database in memory; what does not fit goes to a folder for temporary files."""
    return duckdb.connect(config={"temp_directory": tempfile.gettempdir(), "threads": 2})


def open_sample(
    connection: duckdb.DuckDBPyConnection,
    paths: Sequence[Place],
    *,
    max_rows: int,
    table: str = "sample",
) -> Sample:
    """Read the first rows of some files, of folders of files, or of one Delta table.

    Args:
        connection: Gets the rows as a table.
        paths: What to read; all files are of one format.
        max_rows: Most rows to read.
        table: Name of the table.

    Raises:
        ValueError: Names the file that is not there, is of no known format, is cut off, or has no
            columns or rows.
    """
    if len(paths) == 1 and (paths[0] / "_delta_log").exists():
        files: tuple[Place, ...] = (paths[0],)
        kind, compression = DELTA, ""
        relation = delta(connection, paths[0])
    else:
        files = tuple(file for path in paths for file in _files(path))
        kind, compression = _format_of(files)
        relation = _read(connection, files, kind)
    try:
        relation.limit(max_rows + 1).create(table)
    except duckdb.Error as error:
        raise ValueError(f"{_named(files)}: {_first_line(error)}") from error
    rows = _count(connection, table)
    if not rows:
        raise ValueError(f"{_named(files)}: has no rows; a draft needs some")
    if rows > max_rows:
        connection.execute(f"DELETE FROM {table} WHERE rowid >= {max_rows}")
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    return Sample(
        connection, table, files, kind, compression, types, min(rows, max_rows), rows <= max_rows
    )


def split_suffix(file: Place) -> tuple[str, str]:
    """Format and compression of a file by its name, each empty where it is none."""
    parts = file.name.lower().split(".")[1:]
    compression = parts.pop() if parts and parts[-1] in COMPRESSIONS else ""
    return FORMATS.get(parts[-1] if parts else "", ""), compression


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"


def delta(connection: duckdb.DuckDBPyConnection, table: Place) -> duckdb.DuckDBPyRelation:
    """The rows of a Delta table's newest version; ValueError where it cannot be read."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return connection.from_arrow(DeltaTable(uri(table)).to_pyarrow_dataset())
    except (DeltaError, OSError) as error:
        raise ValueError(f"{table}: is no Delta table that can be read; {error}") from error


def readable(connection: duckdb.DuckDBPyConnection, files: Sequence[Place]) -> list[str]:
    """The files as DuckDB's readers name them; those of an object store are read by its client."""
    for file in files:
        if not is_local(file) and not connection.filesystem_is_registered("s3"):
            connection.register_filesystem(file.fs)
    return [uri(file) for file in files]


def _read(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Place], kind: str
) -> duckdb.DuckDBPyRelation:
    names = readable(connection, files)
    listed = "[" + ", ".join(map(text, names)) + "]"
    try:
        if kind == "parquet":
            return connection.sql(f"SELECT * FROM read_parquet({listed}, union_by_name = true)")
        if kind == "jsonl":
            return _json(connection, listed)
        _check_separator(connection, files[0], names[0], kind)
        return connection.sql(f"SELECT * FROM {_csv(listed, kind)}")
    except duckdb.Error as error:
        raise ValueError(f"{_named(files)}: {_first_line(error)}") from error


def _csv(listed: str, kind: str) -> str:
    return (
        f"read_csv({listed}, delim = {text(SEPARATORS[kind])}, header = true, all_varchar = true, "
        "union_by_name = true, quote = '\"', escape = '\"')"
    )


def _json(connection: duckdb.DuckDBPyConnection, listed: str) -> duckdb.DuckDBPyRelation:
    """Objects a line, each value a text or a list of texts, as the jobs read them."""
    found = connection.sql(
        f"SELECT * FROM read_json({listed}, format = 'newline_delimited', union_by_name = true)"
    )
    types = dict(zip(found.columns, map(str, found.types), strict=True))
    fields = ", ".join(
        f"{text(name)}: '{'VARCHAR[]' if of.endswith('[]') and 'STRUCT' not in of else 'VARCHAR'}'"
        for name, of in types.items()
    )
    return connection.sql(
        f"SELECT * FROM read_json({listed}, format = 'newline_delimited', columns = {{{fields}}})"
    )


def _check_separator(
    connection: duckdb.DuckDBPyConnection, file: Place, name: str, kind: str
) -> None:
    """ValueError for a header whose columns another sign separates: it would be one column."""
    header, *others = connection.sql(f"SELECT * FROM {_csv(text(name), kind)}").columns
    other = next((sign for sign in (",", "\t", ";", "|") if sign in header), "")
    if not others and other:
        raise ValueError(
            f"{file}: line 1 has one column, {header!r}; expected {SEPARATORS[kind]!r} between "
            f"columns of a {kind} file, not {other!r}"
        )


def _files(path: Place) -> list[Place]:
    if not path.exists():
        raise ValueError(f"{path}: there is no such file")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.name[0] not in "._")
    if not files:
        raise ValueError(f"{path}: is a folder without files")
    return files


def _format_of(files: Sequence[Place]) -> tuple[str, str]:
    kinds = {split_suffix(file): file for file in files}
    for (kind, _), file in kinds.items():
        if not kind:
            raise ValueError(
                f"{file}: its name ends with no known format; one of {sorted(set(FORMATS))}, also "
                f"with .{' or .'.join(COMPRESSIONS)}"
            )
    if len(kinds) > 1:
        named = " and ".join(str(file) for file in list(kinds.values())[:2])
        raise ValueError(f"{named}: are of two formats; draft from files of one")
    return next(iter(kinds))


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found[0]) if found else 0


def _named(files: Sequence[Place]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]


def sample_name(path: Place) -> str:
    """A name for the data set of a file: that of the file, or of the folder of a log's days."""
    if path.parent.name == "impressions":
        return path.parent.parent.name
    return path.parent.name if path.name == "impressions" else path.name.split(".")[0]
