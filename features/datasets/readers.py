"""What has landed of a data set: in one of the usual formats, or for a reader of its own."""

import datetime
import importlib
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from pyspark.sql import DataFrame, SparkSession

from features.datasets.catalog import data_set_of
from features.datasets.landed_format import LandedFormat
from features.datasets.schema_files.models import SourceEntry
from features.places import Place
from features.schema import FeatureTable, Label, Schema
from features.spark.landing import events_file


class OwnReader(Protocol):
    """What the module offers that a schema file names as its ``reader``."""

    def read_files(self, spark: SparkSession, schema: Schema, paths: Sequence[Place]) -> DataFrame:
        """Impressions of some landed files, which may hold days or parts of days.

        Typed as the schema says, with ``day`` and where each row landed (``SOURCE``).
        """

    def read_attributes(
        self, spark: SparkSession, schema: Schema, landing: Place, table: FeatureTable
    ) -> DataFrame:
        """Attributes of an entity: its id and the table's columns."""


class Fetcher(Protocol):
    """What the module offers that a schema file names as its ``fetch``."""

    def fetch(self, schema: Schema, landing: Place, **options: int) -> dict[str, int | float]:
        """Get the log and land it by day; returns what it got."""


class Reader:
    """Reads what has landed of a data set.

    Args:
        schema: Its columns and their types.
        source: What the landed files look like.
        label_sources: The same of the labels that come later, by name.
    """

    def __init__(
        self,
        schema: Schema,
        source: SourceEntry,
        label_sources: Mapping[str, SourceEntry] | None = None,
    ) -> None:
        self._schema, self._source = schema, source
        self._label_sources = label_sources or {}
        self.suffix = source.landed_suffix
        """How the name of a landed day ends."""

    def read_files(self, spark: SparkSession, paths: Sequence[Place]) -> DataFrame:
        """As ``OwnReader.read_files``; ValueError for a file that is not there or is cut off."""
        if self._source.reader:
            return self._own().read_files(spark, self._schema, paths)
        return LandedFormat(self._schema, self._source).impressions(spark, paths)

    def read_attributes(
        self, spark: SparkSession, landing: Place, table: FeatureTable
    ) -> DataFrame:
        """As ``OwnReader.read_attributes``."""
        if self._source.reader:
            return self._own().read_attributes(spark, self._schema, landing, table)
        return LandedFormat(self._schema, self._source).attributes(spark, landing, table)

    def read_events(
        self, spark: SparkSession, label: Label, landing: Place, days: Sequence[datetime.date]
    ) -> DataFrame:
        """Events of a label that comes later, which have landed as those of some days."""
        source = self._label_sources[label.name]
        paths = [events_file(landing, label.name, day, source.landed_suffix) for day in days]
        return LandedFormat(self._schema, source).events(spark, label, paths)

    def fetch(self, landing: Place, **options: int) -> dict[str, int | float]:
        """Get the log and land it by day; ValueError where nothing of the data set can."""
        if not self._source.fetch:
            raise ValueError(
                f"dataset {self._schema.name}: nothing fetches its log (source.fetch is not set); "
                f"land a file a day as {landing}/impressions/YYYY-MM-DD.{self.suffix}"
            )
        fetcher = cast(Fetcher, _module(self._source.fetch, "fetch", self._schema, ["fetch"]))
        return fetcher.fetch(self._schema, landing, **options)

    def _own(self) -> OwnReader:
        functions = ["read_files", "read_attributes"]
        name = self._source.reader or ""
        return cast(OwnReader, _module(name, "reader", self._schema, functions))


def reader_of(schema: Schema) -> Reader:
    """The reader of a data set's landed files."""
    data_set = data_set_of(schema.name)
    return Reader(schema, data_set.source, data_set.label_sources)


def _module(name: str, field: str, schema: Schema, functions: Sequence[str]) -> object:
    """The module that a schema file names; ValueError if not installed, or without a function."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and lacks something itself
        raise ValueError(
            f"dataset {schema.name}: source.{field} {name}: no such module (on PYTHONPATH?)"
        ) from error
    missing = [one for one in functions if not callable(getattr(module, one, None))]
    if missing:
        raise ValueError(
            f"dataset {schema.name}: source.{field} {name}: has no function {', '.join(missing)}"
        )
    return module
