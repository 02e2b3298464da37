"""Rows of a Spark frame as Parquet files below a table's folder, and back.

One writer for every place: Spark hands each task's rows over as Arrow batches, and the task writes
them with pyarrow and sums the hashes of the rows while it does. No version names the files yet; a
task that is tried again leaves the first try's files behind, which ``vacuum`` removes.
"""

import dataclasses
import datetime
import itertools
import os
import uuid
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from features.lake.day_file import MIXED_HASH, ROW_HASH, DayFile
from features.lake.day_rows import FileDescription, WrittenFile
from features.places import Place, arrow_file, is_local, place, uri
from features.schema import DAY, SOURCE

_PART = "__part"
"""Column with the number of the file, among those of its day, that a row goes to."""
_DAYS_AT_ONCE = 32
"""A task takes every so-many-th day of a range, so that many small days are not as many tasks."""
_TIMEZONE = "UTC"
"""Of every session's timestamps."""
NATIVE = "RANKING_SPARK_NATIVE"
_REPORT = "path string, num_bytes long, day date, rows long, hash_sum string, hash_xor long"
_REPORT_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("num_bytes", pa.int64()),
        ("day", pa.date32()),
        ("rows", pa.int64()),
        # As text: the sum of many 64-bit numbers does not fit into one.
        ("hash_sum", pa.string()),
        ("hash_xor", pa.int64()),
    ]
)


def write_frame(
    frame: DataFrame,
    root: Place,
    days: Sequence[datetime.date],
    *,
    keys: Sequence[str],
    files_per_day: int,
    description: FileDescription,
) -> list[WrittenFile]:
    """Write rows below a table's folder; returns the files.

    Which rows are in which file of a day, and in what order, depends on the rows, ``keys`` and
    ``files_per_day`` alone.

    Args:
        frame: Rows, with the ``day`` column.
        root: The table's folder.
        days: Days of the rows; each gets one file at least, with no rows where there are none.
        keys: Columns by which the rows of a file are sorted.
        files_per_day: Files of each day, each written by a task of its own.
        description: What the files say of their rows.
    """
    hashed = _hashed(frame)
    first, num_days = min(days), (max(days) - min(days)).days + 1
    # A task costs more than a small day: no more of them than Spark makes of a shuffle.
    partitions = int(frame.sparkSession.conf.get("spark.sql.shuffle.partitions") or 0)
    at_most = _DAYS_AT_ONCE if files_per_day > 1 else min(_DAYS_AT_ONCE, partitions)
    days_at_once = min(num_days, at_most)
    part = F.pmod(F.xxhash64(*(F.col(key) for key in keys)), F.lit(files_per_day)).cast("int")
    of_day = F.pmod(F.datediff(F.col(DAY), F.lit(first)), F.lit(days_at_once))
    task = of_day * files_per_day + F.col(_PART)
    placed = hashed.withColumn(_PART, part if files_per_day > 1 else F.lit(0))
    ordered = placed.repartitionById(days_at_once * files_per_day, task)
    ordered = ordered.sortWithinPartitions(DAY, _PART, *keys)
    write = _Writer(uri(root), uuid.uuid4().hex[:12], description)
    files = [
        WrittenFile(
            found.path, found.num_bytes, found.day, found.rows, int(found.hash_sum), found.hash_xor
        )
        for found in ordered.mapInArrow(write, _REPORT).collect()
    ]
    empty = [day for day in days if day not in {file.day for file in files}]
    return files + [_write_empty(root, frame.schema, day, description) for day in empty]


def _hashed(frame: DataFrame, *others: str) -> DataFrame:
    """Rows with their hashes, which depend on all columns but ``others`` and where they landed."""
    columns = sorted(name for name in frame.columns if name not in (DAY, *SOURCE, *others))
    row = F.xxhash64(*(F.col(name) for name in columns))
    return frame.withColumn(ROW_HASH, row).withColumn(MIXED_HASH, F.xxhash64(F.col(ROW_HASH)))


def hash_sums(
    spark: SparkSession, tables: Sequence[pa.Table], struct: StructType
) -> list[tuple[int, int]]:
    """What rows add to the sums in a footer: for each table the sum, and the exclusive or.

    Args:
        spark: The session.
        tables: Rows as they are in files, without ``day``; few enough for this process.
        struct: Their columns.
    """
    numbers = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    rows = pa.concat_tables(table.select(struct.fieldNames()) for table in tables)
    # Spark 4 stops reading at the first batch without rows, and tables may have empty chunks.
    rows = rows.combine_chunks().append_column(_PART, pa.array(numbers))
    with_part = StructType([*struct.fields]).add(_PART, "long")
    hashed = _hashed(spark.createDataFrame(rows, with_part), _PART)
    found = hashed.select(_PART, ROW_HASH, MIXED_HASH).toArrow().to_pydict()
    sums = [[0, 0] for _ in tables]
    for part, of_row, mixed in zip(*found.values(), strict=True):
        sums[part][0] += of_row
        sums[part][1] ^= mixed
    return [(total, mixed) for total, mixed in sums]


def _write_empty(
    root: Place, struct: StructType, day: datetime.date, description: FileDescription
) -> WrittenFile:
    """A file without rows, so that a day on which nothing happened is a day of the table."""
    fields = StructType([field for field in struct.fields if field.name != DAY])
    name = f"{0:05d}-{uuid.uuid4().hex[:12]}"
    return DayFile(
        root, name, day, to_arrow_schema(fields, timezone=_TIMEZONE), description
    ).finish()


@dataclasses.dataclass(frozen=True)
class _Writer:
    """Writes one task's rows; Spark sends it to the task."""

    root: str
    token: str
    """Of the job: its files have names of their own."""
    description: FileDescription

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        attempt = context.attemptNumber() if context is not None else 0
        file: DayFile | None = None
        current: tuple[datetime.date, int] | None = None
        for batch in batches:
            for of_file, rows in _by_file(batch):
                if file is not None and current != of_file:
                    yield _report(file.finish())
                    file = None
                if file is None:
                    current, (day, part) = of_file, of_file
                    name = f"{part:05d}-{self.token}-{attempt}"
                    file = DayFile(place(self.root), name, day, _own(rows), self.description)
                file.write(rows)
        if file is not None:
            yield _report(file.finish())


def _own(rows: pa.RecordBatch) -> pa.Schema:
    """The columns that are written."""
    return pa.schema([field for field in rows.schema if field.name not in (ROW_HASH, MIXED_HASH)])


def _by_file(
    batch: pa.RecordBatch,
) -> Iterator[tuple[tuple[datetime.date, int], pa.RecordBatch]]:
    """The rows of each day and file, which stand together, without the columns that say so."""
    days, parts = batch.column(DAY), batch.column(_PART)
    rows = batch.drop_columns([DAY, _PART])
    numbers = days.cast(pa.int32()).to_numpy(zero_copy_only=False)
    changes = (np.diff(numbers) != 0) | (np.diff(parts.to_numpy(zero_copy_only=False)) != 0)
    starts = [0, *(np.flatnonzero(changes) + 1).tolist(), len(numbers)]
    for start, end in itertools.pairwise(starts):
        if start < end:
            of_file = (days[start].as_py(), parts[start].as_py())
            yield of_file, rows.slice(start, end - start)


def _report(file: WrittenFile) -> pa.RecordBatch:
    values = dataclasses.asdict(file) | {"hash_sum": str(file.hash_sum)}
    return pa.RecordBatch.from_pylist([values], schema=_REPORT_SCHEMA)


def read_files(
    spark: SparkSession,
    root: Place,
    files: Sequence[tuple[datetime.date, str]],
    struct: StructType,
) -> DataFrame:
    """Rows of some files of a table, each with its day, with a ``day`` column.

    Spark itself reads files on a disk. It has no file system for an object store here: there its
    tasks read with pyarrow, a file each, with exactly the columns of ``struct``. Where a site has
    hadoop-aws, which was not tested, RANKING_SPARK_NATIVE=1 lets Spark read the same files itself.

    Args:
        spark: The session.
        root: The table's folder.
        files: The days, and the paths as Arrow's file system of the place has them.
        struct: Columns to read, without ``day``.
    """
    with_day = StructType([*struct.fields]).add(DAY, "date")
    if not files:
        return spark.createDataFrame([], with_day)
    if is_local(root) or os.environ.get(NATIVE) == "1":
        scheme, folder = ("", uri(root)) if is_local(root) else ("s3a://", f"s3a://{root.path}")
        paths = [f"{scheme}{path}" for _, path in files]
        return spark.read.schema(with_day).option("basePath", folder).parquet(*paths)
    read = FileReader(uri(root), files, with_day)
    return spark.range(0, len(files), 1, len(files)).mapInArrow(read, with_day)


class FileReader:
    """Reads files by their numbers; Spark sends it to its tasks."""

    def __init__(
        self, root: str, files: Sequence[tuple[datetime.date, str]], struct: StructType
    ) -> None:
        """Args: the table's folder, the files with their days, and the columns, ``day`` too."""
        self._root, self._files = root, list(files)
        self._schema = to_arrow_schema(struct, timezone=_TIMEZONE)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of the files whose numbers come."""
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from self.rows(number)

    def rows(self, number: int) -> Iterator[pa.RecordBatch]:
        """The rows of one file, with its day."""
        day, path = self._files[number]
        filesystem, _ = arrow_file(place(self._root))
        names = [name for name in self._schema.names if name != DAY]
        with pq.ParquetFile(path, filesystem=filesystem, pre_buffer=True) as file:
            for batch in file.iter_batches(columns=names):
                columns = [
                    pa.repeat(pa.scalar(day, pa.date32()), len(batch))
                    if field.name == DAY
                    else batch.column(field.name).cast(field.type)
                    for field in self._schema
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=self._schema)
