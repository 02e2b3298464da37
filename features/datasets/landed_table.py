"""A table that others write, as where a log lands: Delta or Iceberg, by day or not.

A day is what the table's partition says, where the source names one; else the rows whose time is on
it. The newest version is read, as it is when the reader is made.
"""

import dataclasses
import datetime
import functools
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType

from features.datasets.landed_format import LandedFormat
from features.places import Place, place, uri
from features.runbooks import RunbookError
from features.schema import (
    DAY,
    REQUEST_TIME,
    SOURCE,
    SOURCE_FILE,
    SOURCE_LINE,
    Column,
    FeatureTable,
)
from features.spark.landed_columns import integers_in
from features.spark.session import spark_type
from features.spark.table_versions import Bound, TableVersion, open_version, place_of_file

_PER_SECOND = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
_PARTITION = "_partition"
_MOST_TASKS = 32
_ONE_DAY = datetime.timedelta(days=1)
_EPOCH = datetime.date(1970, 1, 1)
_NONE = datetime.timedelta(0)
_MARGIN = datetime.timedelta(milliseconds=2)
"""Delta's statistics have whole milliseconds, and deltalake adds one to the greatest: a row of the
last one before midnight is none of the next day."""


class LandedTable:
    """The tables of a data set: its impressions, and the attributes next to them."""

    def __init__(self, landed: LandedFormat, landing: Place, versions: dict[str, int]) -> None:
        """Open nothing yet.

        Args:
            landed: The columns, and how they are named in the tables.
            landing: Folder of the data set, where the source names no place.
            versions: Gets the versions of the tables that are opened, by their places.
        """
        self._landed, self._source = landed, landed.source
        self.impressions_at = place(landed.source.path or landing / "impressions")
        self._versions = versions

    def of_days(self, spark: SparkSession, days: Sequence[datetime.date]) -> DataFrame:
        """Impressions of some days, typed, with ``day`` and where each landed.

        Raises:
            RunbookError: There is no such table, it lacks a column, or a day has not landed.
        """
        if late := [day for day in days if not self.has_landed(day)]:
            raise RunbookError(
                f"table {self.impressions_at}: {late[0]} has not landed ({len(late)} of "
                f"{len(days)} days missing): version {self._impressions.version} has no rows of "
                "it or of a later day",
                runbook="day-not-landed",
            )
        files = self._files(min(days), max(days) + _ONE_DAY)
        return self._rows(spark, files).where(F.col(DAY).isin(list(days)))

    def of_files(self, spark: SparkSession, files: Sequence[Place]) -> DataFrame:
        """Impressions in some data files of the table, of whichever days."""
        wanted = {uri(file) for file in files}
        known = self._impressions.all_files()
        named = {uri(place_of_file(self.impressions_at, one)): one for one in known}
        return self._rows(spark, [named[one] for one in sorted(wanted & named.keys())])

    def files_since(self, first: datetime.date) -> list[Place]:
        """Data files that may have impressions of a day or of later ones."""
        return [place_of_file(self.impressions_at, file) for file in self._files(first, None)]

    def has_landed(self, day: datetime.date) -> bool:
        """Whether a data file may have rows of a day or of a later one, by its statistics.

        ``dags/ranking_landing/tables.py`` has the same rule; tests compare them.
        """
        return bool(self._files(day, None, margin=_MARGIN))

    def content_of_day(self, day: datetime.date) -> list[str]:
        """Names of what may have rows of a day, and of what takes some of them away again."""
        return self._impressions.content(*self._bounds(day, day + _ONE_DAY))

    def attributes(self, spark: SparkSession, table: FeatureTable) -> DataFrame:
        """Attributes of users or items: the id and the table's columns."""
        columns = (self._landed.schema.key_of(table), *table.columns)
        given = {"user": self._source.user_path, "item": self._source.item_path}[table.role]
        where = place(given) if given else self.impressions_at.parent / f"{table.role}s"
        opened = self._opened(where)
        raw = self._read(spark, where, opened, opened.all_files(), columns)
        return raw.select(*self._landed.typed(columns))

    @functools.cached_property
    def _impressions(self) -> TableVersion:
        return self._opened(self.impressions_at)

    def _opened(self, where: Place) -> TableVersion:
        opened = open_version(str(self._source.format), where)
        self._versions[uri(where)] = opened.version
        return opened

    def _files(
        self,
        first: datetime.date,
        end: datetime.date | None,
        margin: datetime.timedelta = _NONE,
    ) -> list[str]:
        """Data files that may have rows from so long after a day's begin on, before another day."""
        return self._impressions.files(*self._bounds(first, end, margin))

    def _bounds(
        self,
        first: datetime.date,
        end: datetime.date | None,
        margin: datetime.timedelta = _NONE,
    ) -> tuple[str, Bound, Bound | None]:
        """The column by which days are told apart, and its values of some days."""
        name = self._source.partition or self._source.time.column
        index = self._impressions.schema.get_field_index(name)
        if index < 0:
            raise RunbookError(
                f"table {self.impressions_at}: column {name}, that says of which day a row is, is "
                f"not among {self._impressions.schema.names}",
                runbook="critical-validation",
            )
        of_type = self._impressions.schema.field(index).type
        high = None if end is None else self._bound(of_type, end)
        low = self._bound(of_type, first)
        low = low + margin if isinstance(low, datetime.datetime) else low
        return name, low, high

    def _bound(self, of_type: pa.DataType, day: datetime.date) -> Bound:
        """The least value of a day in the column that says of which day a row is."""
        if pa.types.is_date(of_type):
            return day
        if pa.types.is_timestamp(of_type):
            zone = datetime.UTC if of_type.tz else None
            return datetime.datetime.combine(day, datetime.time(), zone)
        if pa.types.is_integer(of_type) and self._source.time.unit:
            return int((day - _EPOCH).total_seconds()) * _PER_SECOND[self._source.time.unit]
        if pa.types.is_string(of_type) or pa.types.is_large_string(of_type):
            return day.isoformat()
        raise RunbookError(
            f"table {self.impressions_at}: a column of type {of_type} does not say of which day a "
            "row is; a timestamp, an integer with source.time.unit, or a source.partition that is "
            "a date or a text such as 2025-01-31",
            runbook="critical-validation",
        )

    def _rows(self, spark: SparkSession, files: Sequence[str]) -> DataFrame:
        columns = self._landed.impression_columns()
        raw = self._read(spark, self.impressions_at, self._impressions, files, columns)
        typed = raw.select(*self._landed.typed(columns), *SOURCE, _PARTITION)
        named = F.col(_PARTITION).try_cast("date")
        day: SparkColumn = named if self._source.partition else F.to_date(REQUEST_TIME.name)
        return typed.withColumn(DAY, day).drop(_PARTITION)

    def _read(
        self,
        spark: SparkSession,
        where: Place,
        table: TableVersion,
        files: Sequence[str],
        columns: Sequence[Column],
    ) -> DataFrame:
        """Columns of data files by their names in the schema; a task reads some of the files."""
        names = {column.name: self._landed.landed_name(column) for column in columns}
        types = {column.name: self._landed.landed_type(column) for column in columns}
        integers_in(table.schema, f"table {where}", names, types)
        is_impressions = where == self.impressions_at
        struct = StructType([StructField(name, spark_type(types[name])) for name in names])
        whole = StructType([*struct.fields])
        whole = whole.add(_PARTITION, "string").add(SOURCE_FILE, "string").add(SOURCE_LINE, "long")
        if not files:
            return spark.createDataFrame([], whole)
        reading = _Reading(
            form=str(self._source.format),
            where=uri(where),
            version=table.version,
            files=tuple(files),
            names=tuple(names.values()),
            partition=(self._source.partition or "") if is_impressions else "",
            schema=to_arrow_schema(whole, timezone="UTC"),
        )
        numbers = spark.range(0, len(files), 1, min(len(files), _MOST_TASKS))
        return numbers.mapInArrow(reading, whole)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reading:
    """Makes rows of the numbers of a table's data files; Spark sends it to its tasks."""

    form: str
    where: str
    version: int
    files: tuple[str, ...]
    names: tuple[str, ...]
    """Columns, as the table names them."""
    partition: str
    schema: pa.Schema

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        table = open_version(self.form, place(self.where), self.version)
        for number in (number for batch in numbers for number in batch.column(0).to_pylist()):
            yield from self._rows(table, self.files[number])

    def _rows(self, table: TableVersion, file: str) -> Iterator[pa.RecordBatch]:
        asked = sorted({*self.names, *filter(None, [self.partition])})
        name = f"{place(self.where).name}@{self.version}/{file.rpartition('/')[2]}"
        line = 1
        for batch in table.batches(file, asked):
            columns = [
                batch.column(of).cast(field.type, safe=not pa.types.is_floating(field.type))
                for of, field in zip(self.names, self.schema, strict=False)
            ]
            size = len(batch)
            day = batch.column(self.partition).cast(pa.string()) if self.partition else None
            columns += [
                pa.nulls(size, pa.string()) if day is None else day,
                pa.repeat(pa.scalar(name), size),
                pa.array(range(line, line + size), pa.int64()),
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)
            line += size
