"""What the readers of all data sets share: landed files as Spark's rows, from wherever they lie.

Each row says in which file it landed, and in which line, or as which row of a Parquet file. Tasks
read texts as lines, which Spark parses as it does its own. Spark itself reads Parquet on a disk;
for an object store it has no file system: its tasks read there by Arrow's.
"""

import csv
import dataclasses
import datetime
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType

from features.places import Place, arrow_file, is_local, place, uri
from features.runbooks import RunbookError
from features.schema import DAY, EXAMPLE_ID, SOURCE, SOURCE_FILE, SOURCE_LINE, Dtype, Schema
from features.spark.landing import INTRADAY, files_of, is_whole
from features.spark.session import spark_type, struct_of

_IS_OF_TYPE = {
    Dtype.INT64: pa.types.is_integer,
    Dtype.FLOAT64: pa.types.is_floating,
    Dtype.STRING: lambda found: pa.types.is_string(found) or pa.types.is_large_string(found),
    Dtype.TIMESTAMP: pa.types.is_timestamp,
    **dict.fromkeys((Dtype.INT64_LIST, Dtype.STRING_LIST), pa.types.is_list),
}
_DAY_OF_PATH = rf"/(?:impressions|{INTRADAY})/(\d{{4}}-\d{{2}}-\d{{2}})[^/]*(?:/[^/]*){{0,2}}$"
"""The day is in the name of a day's file or folder, and in the name of the folder of parts."""
_BELOW_LANDING = rf"/((?:impressions|{INTRADAY})/.+)$"


def delimited(spark: SparkSession, paths: Sequence[Place], separator: str = "\t") -> DataFrame:
    """Separated values with headers as strings, with ``day`` and where each row landed.

    A task reads a file from its begin, for only so it knows the lines' numbers; Spark parses them.
    A value cannot have line breaks.

    Raises:
        ValueError: A file is not there, or is cut off.
    """
    _require(paths)
    with paths[0].open(encoding="utf-8-sig", errors="replace", newline="") as first:
        header = next(csv.reader(first, delimiter=separator), [])
    columns = ", ".join(f"`{name.replace('`', '``')}` string" for name in header)
    lines = _read_in_tasks(spark, paths, _LINE, _lines_after_header)
    options = {"sep": separator, "quote": '"', "escape": '"'}
    parsed = lines.select(F.from_csv("line", columns, options).alias("row"), *SOURCE, DAY)
    return parsed.select("row.*", *SOURCE, DAY)


def json_lines(spark: SparkSession, paths: Sequence[Place], struct: StructType) -> DataFrame:
    """Files with a JSON object a line, with ``day`` and where each row landed.

    A line that is no object has nulls alone.

    Raises:
        ValueError: A file is not there, or is cut off.
    """
    _require(paths)
    lines = _read_in_tasks(spark, paths, _LINE, _lines)
    parsed = lines.select(F.from_json("line", struct).alias("row"), *SOURCE, DAY)
    return parsed.select("row.*", *SOURCE, DAY)


def parquet(spark: SparkSession, paths: Sequence[Place], types: Mapping[str, Dtype]) -> DataFrame:
    """Parquet files, typed, with ``day`` and where each row landed.

    Args:
        spark: The session.
        paths: The files, or folders of files.
        types: Of the columns to read, as they are named in the files.

    Raises:
        RunbookError: A file is not there, is cut off, or has a column of another type.
    """
    _require(paths)
    for path in paths:
        _require_types(path, types)
    struct = StructType([StructField(name, spark_type(dtype)) for name, dtype in types.items()])
    if not is_local(paths[0]):
        return _read_in_tasks(spark, paths, struct, _Rows(to_arrow_schema(struct, timezone="UTC")))
    frame = spark.read.schema(struct).parquet(*map(uri, paths))
    file = F.col("_metadata.file_path")
    return frame.select(
        "*",
        F.regexp_extract(file, _BELOW_LANDING, 1).alias(SOURCE_FILE),
        (F.col("_metadata.row_index") + 1).alias(SOURCE_LINE),
        # The day as which a row landed; the checks find a row whose moment is on another.
        F.to_date(F.regexp_extract(file, _DAY_OF_PATH, 1)).alias(DAY),
    )


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
    """Reads Parquet as Spark would with a schema."""

    schema: pa.Schema

    def __call__(self, file: Place) -> Iterator[Numbered]:
        files, path = arrow_file(file)
        before = 1
        with pq.ParquetFile(path, filesystem=files) as content:
            for batch in content.iter_batches(columns=self.schema.names):
                columns = [batch.column(field.name).cast(field.type) for field in self.schema]
                rows = pa.RecordBatch.from_arrays(columns, schema=self.schema)
                yield pa.array(range(before, before + len(rows)), pa.int64()), rows
                before += len(rows)


def _lines_after_header(file: Place) -> Iterator[Numbered]:
    return _lines(file, header_lines=1)


def _lines(file: Place, header_lines: int = 0) -> Iterator[Numbered]:
    """Lines of a text after its header; blank ones count, and are no rows."""
    files, path = arrow_file(file)
    with io.TextIOWrapper(
        files.open_input_stream(path), encoding="utf-8", errors="replace"
    ) as content:
        numbered = itertools.islice(enumerate(content, start=1), header_lines, None)
        while held := list(itertools.islice(numbered, _BATCH_LINES)):
            kept = [(at, line.removesuffix("\n")) for at, line in held if line.strip(_BLANKS)]
            lines = pa.array([line for _, line in kept], pa.string())
            yield pa.array([at for at, _ in kept], pa.int64()), pa.record_batch({"line": lines})


_BLANKS = "".join(map(chr, range(33)))


def _day_of(path: Place) -> datetime.date | None:
    """The day as which a file landed."""
    found = re.search(_DAY_OF_PATH, uri(path))
    return datetime.date.fromisoformat(found[1]) if found else None


def typed(schema: Schema, columns: dict[str, SparkColumn]) -> list[SparkColumn]:
    """The columns cast to the schema's types; a value that does not parse becomes null.

    The checks then find the null and name the row, where a failing cast would stop the whole day.
    """
    types = {field.name: field.dataType for field in struct_of(tuple(schema.columns())).fields}
    types[EXAMPLE_ID] = spark_type(Dtype.INT64)
    return [column.try_cast(types[name]).alias(name) for name, column in columns.items()]


def split_list(column: SparkColumn, separator: str = " ") -> SparkColumn:
    """Values of a text, in order, without what is around them; an empty text has none."""
    values = F.split(column, re.escape(separator))
    return F.filter(F.transform(values, F.trim), lambda value: value != "")


def _require(paths: Sequence[Place]) -> None:
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise RunbookError(
            f"file {missing[0]}: has not landed ({len(missing)} of {len(paths)} missing)",
            runbook="day-not-landed",
        )
    cut_off = [path for path in paths if not is_whole(path)]
    if cut_off:
        raise RunbookError(
            f"file {cut_off[0]}: is cut off or still being written ({len(cut_off)} of "
            f"{len(paths)}); on a disk, write it under another name and rename it into place; then "
            "run the day again",
            runbook="day-not-landed",
        )


def _require_types(path: Place, columns: Mapping[str, Dtype]) -> None:
    """Require the columns' types: Spark would misread others, or fail on them in mid-job."""
    for file in files_of(path):
        landed = _schema_of(file)
        for name, dtype in columns.items():
            found = landed.field(name).type if name in landed.names else None
            if found is None or not _IS_OF_TYPE[dtype](found):
                raise RunbookError(
                    f"file {file}: column {name} is {found or 'missing'}; the schema has {dtype}",
                    runbook="critical-validation",
                )


def _schema_of(file: Place) -> pa.Schema:
    files, path = arrow_file(file)
    return pq.read_schema(path, filesystem=files)
