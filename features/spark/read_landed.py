"""What the readers of all data sets share: landed files as Spark's rows, from wherever they lie.

On a disk Spark reads them itself. For an object store it has no file system: its tasks read there
by Arrow's, Parquet as columns and texts as lines, which Spark parses as it does its own.
"""

import dataclasses
import datetime
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import StructType

from features.places import Place, arrow_file, is_local, place, uri
from features.runbooks import RunbookError
from features.schema import DAY, EXAMPLE_ID, Dtype, Schema
from features.spark.landing import INTRADAY, files_of, is_whole
from features.spark.session import impressions_struct, struct_of

_IS_OF_TYPE = {
    Dtype.INT64: pa.types.is_integer,
    Dtype.FLOAT64: pa.types.is_floating,
    Dtype.STRING: pa.types.is_string,
    Dtype.TIMESTAMP: pa.types.is_timestamp,
}
_DAY_OF_PATH = rf"/(?:impressions|{INTRADAY})/(\d{{4}}-\d{{2}}-\d{{2}})[^/]*(?:/[^/]*){{0,2}}$"
"""The day is in the name of a day's file or folder, and in the name of the folder of parts."""


def delimited(spark: SparkSession, paths: Sequence[Place]) -> DataFrame:
    """Tab-separated files with headers as strings, with the ``day`` that their names give.

    Raises:
        ValueError: A file is not there, or is cut off.
    """
    _require(paths)
    with paths[0].open(encoding="utf-8", errors="replace") as first:
        header = first.readline().rstrip("\n").split("\t")
    columns = ", ".join(f"`{name}` string" for name in header)
    if is_local(paths[0]):
        reader = spark.read.schema(columns).options(**_FORMAT)
        return reader.csv([uri(path) for path in paths], header=True).withColumn(
            DAY, _day_of_file()
        )
    lines = _read_in_tasks(spark, paths, StructType().add("line", "string"), _lines)
    parsed = lines.select(F.from_csv("line", columns, _FORMAT).alias("row"), DAY)
    return parsed.select("row.*", DAY)


def parquet(spark: SparkSession, schema: Schema, paths: Sequence[Place]) -> DataFrame:
    """Impressions of some landed files from Parquet, typed, with their id and ``day``.

    Raises:
        RunbookError: A file is not there, is cut off, or has a column of another type.
    """
    _require(paths)
    types = {EXAMPLE_ID: Dtype.INT64, **{c.name: c.dtype for c in schema.impression_columns()}}
    for path in paths:
        _require_types(path, types)
    struct = impressions_struct(schema)
    if is_local(paths[0]):
        frame = spark.read.schema(struct).parquet(*map(uri, paths))
        return frame.withColumn(DAY, _day_of_file())
    return _read_in_tasks(spark, paths, struct, _Rows(to_arrow_schema(struct, timezone="UTC")))


def table(spark: SparkSession, path: Place) -> DataFrame:
    """A landed Parquet file, or folder of such files, with the columns that it has."""
    if is_local(path):
        return spark.read.parquet(uri(path))
    struct = from_arrow_schema(_schema_of(files_of(path)[0]))
    return _read_in_tasks(
        spark, [path], struct, _Rows(to_arrow_schema(struct, timezone="UTC"))
    ).drop(DAY)


_FORMAT = {"sep": "\t", "quote": '"', "escape": '"'}
_BATCH_LINES = 10_000


def _read_in_tasks(
    spark: SparkSession,
    paths: Sequence[Place],
    struct: StructType,
    rows_of: Callable[[Place], Iterable[pa.RecordBatch]],
) -> DataFrame:
    """Rows of what has landed in an object store, for which Spark has no file system, with ``day``.

    A task reads a file by ``rows_of``, whose batches have the columns of ``struct``.
    """
    files = [(uri(file), _day_of(path)) for path in paths for file in files_of(path)]
    with_day = StructType([*struct.fields]).add(DAY, "date")
    if not files:
        return spark.createDataFrame([], with_day)
    named = spark.createDataFrame(files, f"file string, {DAY} date").repartition(len(files))
    return named.mapInArrow(_Reading(rows_of, to_arrow_schema(with_day, timezone="UTC")), with_day)


@dataclasses.dataclass(frozen=True)
class _Reading:
    """Makes rows of the names of files; Spark sends it to its tasks."""

    rows_of: Callable[[Place], Iterable[pa.RecordBatch]]
    schema: pa.Schema

    def __call__(self, named: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for name in (row for batch in named for row in batch.to_pylist()):
            for rows in self.rows_of(place(name["file"])):
                days = pa.repeat(pa.scalar(name[DAY], pa.date32()), len(rows))
                yield pa.RecordBatch.from_arrays([*rows.columns, days], schema=self.schema)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Reads Parquet as Spark would with a schema."""

    schema: pa.Schema

    def __call__(self, file: Place) -> Iterator[pa.RecordBatch]:
        files, path = arrow_file(file)
        with pq.ParquetFile(path, filesystem=files) as content:
            for batch in content.iter_batches(columns=self.schema.names):
                columns = [batch.column(field.name).cast(field.type) for field in self.schema]
                yield pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _lines(file: Place) -> Iterator[pa.RecordBatch]:
    """Lines of a text without its header; blank ones are none, as for Spark's reader."""
    files, path = arrow_file(file)
    with io.TextIOWrapper(
        files.open_input_stream(path), encoding="utf-8", errors="replace"
    ) as content:
        next(content, None)
        held: list[str] = []
        for line in content:
            if line.strip(_BLANKS):
                held.append(line.removesuffix("\n"))
            if len(held) == _BATCH_LINES:
                yield pa.record_batch({"line": pa.array(held)})
                held = []
        yield pa.record_batch({"line": pa.array(held, pa.string())})


_BLANKS = "".join(map(chr, range(33)))


def _day_of(path: Place) -> datetime.date | None:
    """As ``_day_of_file``, from a path."""
    found = re.search(_DAY_OF_PATH, uri(path))
    return datetime.date.fromisoformat(found[1]) if found else None


def _day_of_file() -> SparkColumn:
    """The day as which a row landed; the checks find a row whose moment is on another."""
    return F.to_date(F.regexp_extract(F.input_file_name(), _DAY_OF_PATH, 1))


def typed(schema: Schema, columns: dict[str, SparkColumn]) -> list[SparkColumn]:
    """The columns cast to the schema's types; a value that does not parse becomes null.

    The checks then find the null and name the row, where a failing cast would stop the whole day.
    """
    types = {field.name: field.dataType for field in struct_of(tuple(schema.columns())).fields}
    return [column.try_cast(types[name]).alias(name) for name, column in columns.items()]


def split_list(column: SparkColumn) -> SparkColumn:
    """Values of a space-separated text, in order; an empty text has none."""
    return F.filter(F.split(column, " "), lambda value: value != "")


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
