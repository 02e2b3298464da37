"""What has landed of a data set: in one of the usual formats, or for a reader of its own."""

import datetime
import importlib
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from pyspark.sql import DataFrame, SparkSession

from features.datasets.catalog import data_set_of
from features.datasets.landed_content import (
    content_of_attributes,
    content_of_files,
    content_of_names,
    content_of_source,
)
from features.datasets.landed_format import LandedFormat
from features.datasets.landed_table import LandedTable
from features.datasets.schema_files.source_models import SourceEntry
from features.places import Place
from features.runbooks import RunbookError
from features.schema import FeatureTable, Label, Schema
from features.spark.example_ids import with_example_id
from features.spark.landing import (
    INTRADAY,
    events_file,
    has_landed,
    impressions_file,
    landed_files,
    marker_of,
)


class OwnReader(Protocol):
    """What the module offers that a schema file names as its ``reader``."""

    def read_files(self, spark: SparkSession, schema: Schema, paths: Sequence[Place]) -> DataFrame:
        """Impressions of some landed files, which may hold days or parts of days.

        Typed as the schema says, with ``day`` and where each row landed (``SOURCE``). Where the
        schema derives ids from columns, without ``example_id``; from one column, with that one.
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
        self.versions: dict[str, int] = {}
        """Of the tables that were read, by their places; none of files."""
        self.marker = source.ready.marker if source.ready else ""
        """File without which a day has not landed; empty: none is asked for."""

    def read_days(
        self, spark: SparkSession, landing: Place, days: Sequence[datetime.date]
    ) -> DataFrame:
        """Impressions of some days, typed, with ``day`` and where each landed.

        Args:
            spark: The session.
            landing: Folder of the data set.
            days: The days, all of which must have landed.

        Raises:
            RunbookError: A day has not landed, is cut off, or lacks a column.
        """
        if kafka := self._source.kafka:
            rows = LandedFormat(self._schema, self._source).messages(spark, kafka, days)
            return with_example_id(self._schema, rows)
        if self._source.is_table:
            rows = self._table(landing).of_days(spark, days)
            return with_example_id(self._schema, rows)
        paths = [impressions_file(landing, day, self.suffix) for day in days]
        if self.marker:
            self._require_markers(paths)
        return self.read_files(spark, paths)

    def read_parts(self, spark: SparkSession, landing: Place, paths: Sequence[Place]) -> DataFrame:
        """The same of files that ``landed_since`` has named."""
        if not self._source.is_table:
            return self.read_files(spark, paths)
        return with_example_id(self._schema, self._table(landing).of_files(spark, paths))

    def read_files(self, spark: SparkSession, paths: Sequence[Place]) -> DataFrame:
        """As ``OwnReader.read_files``, with ids; ValueError for a file that is cut off."""
        if self._source.reader:
            rows = self._own().read_files(spark, self._schema, paths)
        else:
            rows = LandedFormat(self._schema, self._source).impressions(spark, paths)
        return with_example_id(self._schema, rows)

    def landed_since(self, landing: Place, first: datetime.date) -> list[Place]:
        """Files with impressions of a day or of later ones: the days' own, else their parts.

        Of a table, its data files, which may have earlier rows too; of a topic, none.
        """
        if self._source.format == "kafka":
            return []
        if self._source.is_table:
            return self._table(landing).files_since(first)
        folders = [landing / "impressions", landing / INTRADAY]
        names = {path.name[:10] for folder in folders for path in folder.glob("????-??-??*")}
        wanted = sorted(name for name in names if name >= first.isoformat())
        return [
            path
            for name in wanted
            for path in landed_files(landing, name, self.suffix, self.marker)
        ]

    def has_landed(self, landing: Place, day: datetime.date) -> bool:
        """Whether a day is there, whole, or in a table rows of it or of a later one.

        A topic has no days that land: of one it is never known.
        """
        if self._source.format == "kafka":
            return False
        if self._source.is_table:
            return self._table(landing).has_landed(day)
        return has_landed(impressions_file(landing, day, self.suffix), self.marker)

    def read_attributes(
        self, spark: SparkSession, landing: Place, table: FeatureTable
    ) -> DataFrame:
        """As ``OwnReader.read_attributes``."""
        if self._source.reader:
            return self._own().read_attributes(spark, self._schema, landing, table)
        if self._source.is_table:
            return self._table(landing).attributes(spark, table)
        return LandedFormat(self._schema, self._source).attributes(spark, landing, table)

    def event_files(self, landing: Place, day: datetime.date) -> list[Place]:
        """Where the events of the labels that come later land, of one day."""
        sources = self._label_sources.items()
        return [events_file(landing, name, day, one.landed_suffix) for name, one in sources]

    def read_events(
        self, spark: SparkSession, label: Label, landing: Place, days: Sequence[datetime.date]
    ) -> DataFrame:
        """Events of a label that comes later, which have landed as those of some days."""
        source = self._label_sources[label.name]
        paths = [events_file(landing, label.name, day, source.landed_suffix) for day in days]
        return LandedFormat(self._schema, source).events(spark, label, paths)

    def landed_inputs(
        self, landing: Place, day: datetime.date, label: Label | None = None
    ) -> dict[str, str]:
        """What a day's raw rows are made of: hashes of what has landed, and of how it is read.

        Args:
            landing: Folder of the data set.
            day: The day.
            label: Whose events; None: the impressions.

        Returns:
            Nothing of a day that has not landed, and of a topic, of which only reading it tells.
        """
        source = self._label_sources[label.name] if label else self._source
        if source.kafka:
            return {}
        if label:
            path = events_file(landing, label.name, day, source.landed_suffix)
            found = content_of_files([path])
        elif source.is_table:
            there = self._table(landing).content_of_day(day)
            found = content_of_names(there) if there else ""
        else:
            found = content_of_files([impressions_file(landing, day, self.suffix)])
        return {"landed": found, "source": content_of_source(source)} if found else {}

    def attribute_inputs(self, landing: Place) -> dict[str, str]:
        """The same of attributes; nothing where they are tables."""
        found = "" if self._source.is_table else content_of_attributes(landing)
        return {"landed": found, "source": content_of_source(self._source)} if found else {}

    def _table(self, landing: Place) -> LandedTable:
        """The tables as they are now."""
        return LandedTable(LandedFormat(self._schema, self._source), landing, self.versions)

    def _require_markers(self, paths: Sequence[Place]) -> None:
        markers = [marker_of(path, self.marker) for path in paths]
        if missing := [marker for marker in markers if not marker.exists()]:
            raise RunbookError(
                f"file {missing[0]}: is not there, and without it the day has not landed "
                f"({len(missing)} of {len(markers)} missing)",
                runbook="day-not-landed",
            )

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
