"""Landed files of the usual formats as rows of a schema: tsv, csv, jsonl and Parquet."""

import dataclasses
from collections.abc import Callable, Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from features.datasets.schema_files.models import SourceEntry
from features.places import Place
from features.schema import (
    DAY,
    EXAMPLE_ID,
    REQUEST_TIME,
    SOURCE,
    Column,
    Dtype,
    FeatureTable,
    Kind,
    Label,
    Schema,
)
from features.spark import read_landed

_SEPARATORS = {"tsv": "\t", "csv": ","}
_EXAMPLE_ID = Column(name=EXAMPLE_ID, dtype=Dtype.INT64, kind=Kind.STORED, doc="Of the log.")
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

        Raises:
            ValueError: A file is not there, is cut off, or has not the columns.
        """
        columns = (_EXAMPLE_ID, *self.schema.impression_columns())
        return self._read(spark, paths, columns).select(
            *read_landed.typed(self.schema, {c.name: self._value(c) for c in columns}), *SOURCE, DAY
        )

    def attributes(self, spark: SparkSession, landing: Place, table: FeatureTable) -> DataFrame:
        """Attributes of users or items: the id and the table's columns; raises the same."""
        columns = (self.schema.entity(table.role), *table.columns)
        path = landing / f"{table.role}s.{self.source.format}"
        return self._read(spark, [path], columns).select(
            *read_landed.typed(self.schema, {c.name: self._value(c) for c in columns})
        )

    def events(self, spark: SparkSession, label: Label, paths: Sequence[Place]) -> DataFrame:
        """Events of a label that comes later, as ``impressions``; raises the same."""
        columns = self.schema.event_columns(label)
        return self._read(spark, paths, columns).select(
            *read_landed.typed(self.schema, {c.name: self._value(c) for c in columns}), *SOURCE, DAY
        )

    def _read(
        self, spark: SparkSession, paths: Sequence[Place], columns: Sequence[Column]
    ) -> DataFrame:
        """The columns by their names in the schema, not yet typed unless the files are."""
        names = {column.name: self._landed_name(column) for column in columns}
        if self.source.format == "parquet":
            types = {column.name: self._landed_type(column) for column in columns}
            return read_landed.parquet(spark, paths, names, types)
        if self.source.format == "jsonl":
            fields = {names[column.name]: column.dtype.is_list for column in columns}
            struct = StructType(
                [
                    StructField(name, ArrayType(StringType()) if is_list else StringType())
                    for name, is_list in fields.items()
                ]
            )
            return read_landed.json_lines(spark, paths, names, struct)
        # A list without values is no text: only where a list may be missing is it a missing one.
        lists = [c.name for c in columns if c.dtype.is_list and not c.is_nullable]
        separator = _SEPARATORS[str(self.source.format)]
        return read_landed.delimited(spark, paths, names, separator, lists)

    def _landed_name(self, column: Column) -> str:
        if column.name == REQUEST_TIME.name:
            return self.source.time.column
        return self.source.columns.get(column.name, column.name)

    def _landed_type(self, column: Column) -> Dtype:
        is_number = column.name == REQUEST_TIME.name and self.source.time.unit
        return Dtype.INT64 if is_number else column.dtype

    def _value(self, column: Column) -> SparkColumn:
        """A column of the schema, from the files' column."""
        landed = F.col(f"`{column.name}`")
        if column.name == REQUEST_TIME.name and self.source.time.unit:
            return _MOMENTS[self.source.time.unit](landed)
        if self.source.format == "parquet":
            return landed
        if column.dtype.is_list and self.source.format in _SEPARATORS:
            landed = read_landed.split_list(landed, self.source.list_separator)
        if column.dtype is Dtype.INT64_LIST:
            return F.transform(landed, read_landed.whole_number)
        return read_landed.whole_number(landed) if column.dtype is Dtype.INT64 else landed
