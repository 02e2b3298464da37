"""Landed files of the usual formats as rows of a schema: tsv, csv, jsonl and Parquet."""

import dataclasses
import datetime
from collections.abc import Callable, Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from features.datasets.schema_files.source_models import KafkaEntry, SourceEntry
from features.places import Place
from features.schema import (
    DAY,
    EXAMPLE_ID,
    EXAMPLE_KEY,
    REQUEST_TIME,
    SOURCE,
    Column,
    Dtype,
    FeatureTable,
    Kind,
    Schema,
)
from features.spark import read_landed
from features.spark.topic import read_topic

_SEPARATORS = {"tsv": "\t", "csv": ","}
_EXAMPLE_ID = Column(name=EXAMPLE_ID, dtype=Dtype.INT64, kind=Kind.STORED, doc="Of the log.")
_EXAMPLE_KEY = Column(name=EXAMPLE_KEY, dtype=Dtype.STRING, kind=Kind.STORED, doc="Its id's key.")
_MOMENTS: dict[str, Callable[[SparkColumn], SparkColumn]] = {
    # Exact. After the year 5138 it is null: a number in another unit, which Python cannot hold.
    "seconds": lambda value: F.timestamp_seconds(value.try_cast("decimal(17,6)")),
    "milliseconds": lambda value: F.timestamp_millis(value.try_cast("decimal(14,0)").cast("long")),
    "microseconds": lambda value: F.timestamp_micros(value.try_cast("decimal(17,0)").cast("long")),
}


@dataclasses.dataclass(frozen=True)
class LandedFormat:
    """What the landed files of a data set look like, as its file says."""

    schema: Schema
    source: SourceEntry

    def impressions(self, spark: SparkSession, paths: Sequence[Place]) -> DataFrame:
        """Impressions of some files, typed, with ``day`` and where each landed.

        Where the schema derives ids from one column, that is ``example_key``; the ids are for the
        caller to add.

        Raises:
            ValueError: A file is not there, is cut off, or has not the columns.
        """
        columns = self.impression_columns()
        has_marker = self.source.ready is not None
        rows = self._read(spark, paths, columns, has_marker=has_marker)
        return rows.select(*self.typed(columns), *SOURCE, DAY)

    def messages(
        self, spark: SparkSession, kafka: KafkaEntry, days: Sequence[datetime.date]
    ) -> DataFrame:
        """The same of a topic's messages of some days; ValueError where Spark has no connector."""
        columns = self.impression_columns()
        names = {column.name: self.landed_name(column) for column in columns}
        types = self.json_fields(columns)
        rows = read_topic(spark, kafka.servers, kafka.topic, days, names, types)
        return rows.select(*self.typed(columns), *SOURCE, DAY)

    def attributes(self, spark: SparkSession, landing: Place, table: FeatureTable) -> DataFrame:
        """Attributes of users or items: the id and the table's columns; raises the same."""
        columns = (self.schema.entity(table.role), *table.columns)
        # Attributes are no messages of the topic: they land as files.
        suffix = "jsonl" if self.source.kafka else self.source.landed_suffix
        path = landing / f"{table.role}s.{suffix}"
        return self._read(spark, [path], columns).select(*self.typed(columns))

    def impression_columns(self) -> tuple[Column, ...]:
        """What is read of an impression: its own columns, after what its id is or is made of."""
        derived, own = self.schema.example_id, self.schema.impression_columns()
        if derived is None:
            return (_EXAMPLE_ID, *own)
        return (_EXAMPLE_KEY, *own) if derived.column else own

    def typed(self, columns: Sequence[Column]) -> list[SparkColumn]:
        """Columns that were read, as the schema's types; a value that does not parse is null."""
        return read_landed.typed(self.schema, {c.name: self._value(c) for c in columns})

    def _read(
        self,
        spark: SparkSession,
        paths: Sequence[Place],
        columns: Sequence[Column],
        *,
        has_marker: bool = False,
    ) -> DataFrame:
        """The columns by their names in the schema, not yet typed unless the files are."""
        names = {column.name: self.landed_name(column) for column in columns}
        if self.source.format == "parquet":
            types = {column.name: self.landed_type(column) for column in columns}
            return read_landed.parquet(spark, paths, names, types, has_marker=has_marker)
        if self.source.format in {"jsonl", "kafka"}:
            return read_landed.json_lines(spark, paths, names, self.json_fields(columns))
        # A list without values is no text: only where a list may be missing is it a missing one.
        lists = [c.name for c in columns if c.dtype.is_list and not c.is_nullable]
        separator = _SEPARATORS[str(self.source.format)]
        return read_landed.delimited(spark, paths, names, separator, lists)

    def json_fields(self, columns: Sequence[Column]) -> StructType:
        """How columns are read of a JSON object: as texts, or as lists of them."""
        fields = {self.landed_name(column): column.dtype.is_list for column in columns}
        return StructType(
            [
                StructField(name, ArrayType(StringType()) if is_list else StringType())
                for name, is_list in fields.items()
            ]
        )

    def landed_name(self, column: Column) -> str:
        """What a column is called where it lands."""
        if column.name == REQUEST_TIME.name:
            return self.source.time.column
        if column is _EXAMPLE_KEY and self.schema.example_id:
            return self.schema.example_id.column
        return self.source.columns.get(column.name, column.name)

    def landed_type(self, column: Column) -> Dtype:
        """Of what type a column lands where columns have types."""
        is_number = column.name == REQUEST_TIME.name and self.source.time.unit
        return Dtype.INT64 if is_number else column.dtype

    def _value(self, column: Column) -> SparkColumn:
        """A column of the schema, from the files' column."""
        landed = F.col(f"`{column.name}`")
        if column.name == REQUEST_TIME.name and self.source.time.unit:
            return _MOMENTS[self.source.time.unit](landed)
        if self.source.is_typed:
            return landed
        if column.dtype.is_list and self.source.format in _SEPARATORS:
            landed = read_landed.split_list(landed, self.source.list_separator)
        if column.dtype is Dtype.INT64_LIST:
            return F.transform(landed, read_landed.whole_number)
        return read_landed.whole_number(landed) if column.dtype is Dtype.INT64 else landed
