"""What the readers of all data sets share: landed files as Spark's rows, from wherever they lie.

Each row says in which file it landed, and in which line, or as which row of a Parquet file. Tasks
read texts as lines, which Spark parses as it does its own. Spark itself reads Parquet on a disk;
for an object store it has no file system: its tasks read there by Arrow's.
"""

import dataclasses
import datetime
import functools
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType

from features.places import Place, arrow_file, is_local, place, uri
from features.runbooks import RunbookError
from features.schema import (
    DAY,
    EXAMPLE_ID,
    EXAMPLE_KEY,
    SOURCE,
    SOURCE_FILE,
    SOURCE_LINE,
    Dtype,
    Schema,
)
from features.spark.landed_columns import INT96, header_of, integers_among, opened
from features.spark.landing import INTRADAY, LABELS, files_of, is_whole, note_read
from features.spark.session import spark_type, struct_of

_FOLDERS = rf"(?:impressions|{INTRADAY}|{LABELS}/[a-z][a-z0-9_]*)"
_DAY_OF_PATH = rf"/{_FOLDERS}/(\d{{4}}-\d{{2}}-\d{{2}})[^/]*(?:/[^/]*){{0,2}}$"
"""The day is in the name of a day's file or folder, and in the name of the folder of parts."""
_BELOW_LANDING = rf"/({_FOLDERS}/.+)$"


def delimited(
    spark: SparkSession,
    paths: Sequence[Place],
    columns: Mapping[str, str],
    separator: str = "\t",
    empty_texts: Collection[str] = (),
) -> DataFrame:
    """Separated values with headers as strings, with ``day`` and where each row landed.

    A task reads a file from its begin, for only so it knows the lines' numbers; Spark parses them.
    A value cannot have line breaks. A line with more or fewer values than its file's header, or
    that is not UTF-8, has nulls alone.

    Args:
        spark: The session.
        paths: The files; each has a header of its own, in any order.
        columns: The columns to read: each one's name in the result, and in the headers.
        separator: Between the values of a line.
        empty_texts: Columns of the result where no text is an empty one; elsewhere it is null.

    Raises:
        RunbookError: A file is not there, is cut off, or its header has not each column once.
    """
    _require(paths)
    headers: dict[tuple[str, ...], list[Place]] = {}
    for path in paths:
        headers.setdefault(header_of(path, separator, columns), []).append(path)
    frames = []
    for header, files in headers.items():
        # Numbered, for names may be there twice, or be those of other columns of the result.
        fields = "".join(f"_{number} string, " for number in range(len(header)))
        options = {"sep": separator, "quote": '"', "escape": '"', "columnNameOfCorruptRecord": "_"}
        lines = _read_in_tasks(spark, files, _LINE, _lines_after_header)
        parsed = lines.withColumn("row", F.from_csv("line", f"{fields}_ string", options))
        is_whole_row = F.col("line").isNotNull() & F.col("row._").isNull()
        values = {name: F.col(f"row._{header.index(columns[name])}") for name in columns}
        values |= {name: F.coalesce(values[name], F.lit("")) for name in empty_texts}
        cells = [F.when(is_whole_row, value).alias(name) for name, value in values.items()]
        frames.append(parsed.select(*cells, *SOURCE, DAY))
    return functools.reduce(DataFrame.unionByName, frames)


def json_lines(
    spark: SparkSession, paths: Sequence[Place], columns: Mapping[str, str], types: StructType
) -> DataFrame:
    """Files with a JSON object a line, with ``day`` and where each row landed.

    A line that is no object, or not UTF-8, has nulls alone.

    Args:
        spark: The session.
        paths: The files.
        columns: The columns to read: each one's name in the result, and in the objects.
        types: Of the values, as they are named in the objects.

    Raises:
        RunbookError: A file is not there, or is cut off.
    """
    _require(paths)
    lines = _read_in_tasks(spark, paths, _LINE, _lines)
    parsed = lines.withColumn("row", F.from_json("line", types))
    values = [F.col("row")[landed].alias(name) for name, landed in columns.items()]
    return parsed.select(*values, *SOURCE, DAY)


def parquet(
    spark: SparkSession,
    paths: Sequence[Place],
    columns: Mapping[str, str],
    types: Mapping[str, Dtype],
    *,
    has_marker: bool = False,
) -> DataFrame:
    """Parquet files, typed, with ``day`` and where each row landed.

    Args:
        spark: The session.
        paths: The files, or folders of files.
        columns: The columns to read: each one's name in the result, and in the files.
        types: Of the columns, as they are named in the result.
        has_marker: Another file than Spark's ``_SUCCESS`` said that folders are complete.

    Raises:
        RunbookError: A file is not there, is cut off, or has a column of another type.
    """
    _require(paths, has_marker=has_marker)
    files_by_integers: dict[frozenset[str], list[Place]] = {}
    for file in (file for path in paths for file in files_of(path)):
        integers = integers_among(file, columns, types)
        files_by_integers.setdefault(integers, []).append(file)
    if not is_local(paths[0]) or not files_by_integers:
        struct = StructType([StructField(name, spark_type(types[name])) for name in columns])
        rows_of = _Rows(tuple(columns.values()), to_arrow_schema(struct, timezone="UTC"))
        return _read_in_tasks(spark, paths, struct, rows_of)
    file_path = F.col("_metadata.file_path")
    frames = []
    for integers, files in files_by_integers.items():
        landed = {
            columns[name]: Dtype.INT64 if name in integers else types[name] for name in columns
        }
        struct = StructType([StructField(name, spark_type(of)) for name, of in landed.items()])
        values = [
            F.col(f"`{columns[name].replace('`', '``')}`").cast(spark_type(types[name])).alias(name)
            for name in columns
        ]
        frames.append(
            spark.read.schema(struct)
            .parquet(*map(uri, files))
            .select(
                *values,
                F.regexp_extract(file_path, _BELOW_LANDING, 1).alias(SOURCE_FILE),
                (F.col("_metadata.row_index") + 1).alias(SOURCE_LINE),
                # The day as which a row landed; the checks find one whose moment is on another.
                F.to_date(F.regexp_extract(file_path, _DAY_OF_PATH, 1)).alias(DAY),
            )
        )
    return functools.reduce(DataFrame.unionByName, frames)


_LINE = StructType().add("line", "string")
_BATCH_LINES = 10_000
_MOST_TASKS = 32
"""Of many files, a task reads several."""
Numbered = tuple[pa.Array, pa.RecordBatch]
"""Rows, and the number that each has in its file, from 1 on."""


def _read_in_tasks(
    spark: SparkSession,
    paths: Sequence[Place],
    struct: StructType,
    rows_of: Callable[[Place], Iterable[Numbered]],
) -> DataFrame:
    """Rows of landed files, with where each landed and ``day``; a task reads a file by ``rows_of``.

    Its batches have the columns of ``struct``.
    """
    files = [(uri(file), _day_of(path)) for path in paths for file in files_of(path)]
    whole = StructType([*struct.fields])
    whole = whole.add(SOURCE_FILE, "string").add(SOURCE_LINE, "long").add(DAY, "date")
    if not files:
        return spark.createDataFrame([], whole)
    numbers = spark.range(0, len(files), 1, min(len(files), _MOST_TASKS))
    read = _Reading(files, rows_of, to_arrow_schema(whole, timezone="UTC"))
    return numbers.mapInArrow(read, whole)


@dataclasses.dataclass(frozen=True)
class _Reading:
    """Makes rows of the numbers of files; Spark sends it to its tasks."""

    files: Sequence[tuple[str, datetime.date | None]]
    rows_of: Callable[[Place], Iterable[Numbered]]
    schema: pa.Schema

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number in (number for batch in numbers for number in batch.column(0).to_pylist()):
            file, day = self.files[number]
            below = re.search(_BELOW_LANDING, file)
            source = pa.scalar(below[1] if below else "", pa.string())
            for lines, rows in self.rows_of(place(file)):
                sources = pa.repeat(source, len(rows))
                days = pa.repeat(pa.scalar(day, pa.date32()), len(rows))
                columns = [*rows.columns, sources, lines, days]
                yield pa.RecordBatch.from_arrays(columns, schema=self.schema)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Reads columns of Parquet as Spark would with a schema, which may name them otherwise."""

    landed: Sequence[str]
    schema: pa.Schema

    def __call__(self, file: Place) -> Iterator[Numbered]:
        files, path = arrow_file(file)
        before = 1
        with pq.ParquetFile(path, filesystem=files, **INT96) as content:
            for batch in content.iter_batches(columns=sorted(set(self.landed))):
                columns = [
                    batch.column(name).cast(field.type, safe=not pa.types.is_floating(field.type))
                    for name, field in zip(self.landed, self.schema, strict=True)
                ]
                rows = pa.RecordBatch.from_arrays(columns, schema=self.schema)
                yield pa.array(range(before, before + len(rows)), pa.int64()), rows
                before += len(rows)


def _lines_after_header(file: Place) -> Iterator[Numbered]:
    return _lines(file, header_lines=1)


def _lines(file: Place, header_lines: int = 0) -> Iterator[Numbered]:
    """Lines of a text after its header; blank ones count, and are no rows.

    A line that is not UTF-8 is null: with marks for what cannot be read, two ids could be one.
    """
    with opened(file, errors="surrogateescape") as content:
        numbered = itertools.islice(enumerate(content, start=1), header_lines, None)
        while held := list(itertools.islice(numbered, _BATCH_LINES)):
            kept = [(at, line.removesuffix("\n")) for at, line in held if line.strip(_BLANKS)]
            lines = pa.array([_readable(line) for _, line in kept], pa.string())
            yield pa.array([at for at, _ in kept], pa.int64()), pa.record_batch({"line": lines})


_BLANKS = "".join(map(chr, range(33)))
_NOT_UTF8 = re.compile("[\udc80-\udcff]")


def _readable(line: str) -> str | None:
    return line if line.isascii() or not _NOT_UTF8.search(line) else None


def _day_of(path: Place) -> datetime.date | None:
    """The day as which a file landed."""
    found = re.search(_DAY_OF_PATH, uri(path))
    return datetime.date.fromisoformat(found[1]) if found else None


def typed(schema: Schema, columns: dict[str, SparkColumn]) -> list[SparkColumn]:
    """The columns cast to the schema's types; a value that does not parse becomes null.

    The checks then find the null and name the row, where a failing cast would stop the whole day.
    """
    types = {field.name: field.dataType for field in struct_of(tuple(schema.columns())).fields}
    types |= {EXAMPLE_ID: spark_type(Dtype.INT64), EXAMPLE_KEY: spark_type(Dtype.STRING)}
    return [column.try_cast(types[name]).alias(name) for name, column in columns.items()]


def whole_number(text: SparkColumn) -> SparkColumn:
    """An int64 from a text such as ``1995``, or ``1995.0`` as pandas writes it beside nulls."""
    number = text.try_cast("decimal(38,18)")
    exact = F.when(number == F.floor(number), number.try_cast("bigint"))
    return F.coalesce(text.try_cast("bigint"), exact)


def split_list(column: SparkColumn, separator: str = " ") -> SparkColumn:
    """Values of a text, in order, without what is around them; an empty text has none."""
    values = F.transform(F.split(column, re.escape(separator)), lambda x: F.trim(x))  # no index
    return F.filter(values, lambda value: value != "")


def _require(paths: Sequence[Place], *, has_marker: bool = False) -> None:
    if missing := [path for path in paths if not path.exists()]:
        raise RunbookError(
            f"file {missing[0]}: has not landed ({len(missing)} of {len(paths)} missing)",
            runbook="day-not-landed",
        )
    cut_off = [path for path in paths if not is_whole(path, has_marker=has_marker)]
    if cut_off:
        raise RunbookError(
            f"file {cut_off[0]}: is cut off or still being written ({len(cut_off)} of {len(paths)}"
            "); on a disk, write it under another name and rename it into place; then run again",
            runbook="day-not-landed",
        )
    note_read(paths)
