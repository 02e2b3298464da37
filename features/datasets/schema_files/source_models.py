"""What a schema file may say of where its log lands."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from features.datasets.schema_files.entry import Entry
from features.datasets.schema_files.values import ColumnName, Module, Text, WholePlace

TEXTS = ("csv", "tsv", "jsonl")


class TimeEntry(Entry):
    """The column with the moment of an impression."""

    column: Text = "timestamp"
    unit: Literal["seconds", "milliseconds", "microseconds"] | None = None
    """Of a number since 1970, UTC. Without it: a timestamp, or a text such as
    2025-01-31T23:59:59Z; UTC where it has no offset."""


class KafkaEntry(Entry):
    """A topic with a JSON object in each message."""

    servers: Text
    """Bootstrap servers, host:port, separated by commas."""
    topic: Text


class ReadyEntry(Entry):
    """When a day has landed."""

    marker: Annotated[str, Field(pattern=r"^[^/]+$")]
    """Name of a file without which the day does not count: with {day}, next to the day's file;
    else within the day's folder, where it begins with _ as what is no data does."""

    @model_validator(mode="after")
    def _is_no_data(self) -> Self:
        if "{day}" not in self.marker and self.marker[0] not in "._":
            raise PydanticCustomError(
                "marker", "marker: '{day}.done' next to the file, or _DONE within a folder"
            )
        return self


class SourceEntry(Entry):
    """What the landed files look like: one of the usual formats, or a reader of your own."""

    format: Literal["tsv", "csv", "parquet", "jsonl", "delta", "iceberg", "kafka"] | None = None
    """Of all landed files, which is also how their names end; or of tables, or of a topic."""
    compression: Literal["gz", "zst"] | None = None
    """Of tsv, csv and jsonl; names end with it too, such as .csv.gz."""
    path: WholePlace | None = None
    """Of delta and iceberg: place of the table of impressions, a path or s3://…; impressions below
    the data set's landing folder by default."""
    user_path: WholePlace | None = None
    """Of delta and iceberg: place of the table of user attributes; users next to the
    impressions by default."""
    item_path: WholePlace | None = None
    """As user_path, of item attributes; items by default."""
    partition: Text | None = None
    """Of delta and iceberg: partition column with the day, a date or a text such as 2025-01-31.
    Without it a day's rows are those whose time is on it."""
    kafka: KafkaEntry | None = None
    """Where the topic of the format kafka is."""
    ready: ReadyEntry | None = None
    """When a day has landed; by default when its file is there, whole, or when a table has rows of
    the day or of a later one."""
    time: TimeEntry = TimeEntry()
    columns: dict[ColumnName, Text] = {}
    """Names in the landed files, by the names used here; without an entry they are the same."""
    list_separator: Text = " "
    """What is between the values of a list in tsv and csv."""
    reader: Module | None = None
    """Instead of a format: Python module with functions read_files and read_attributes."""
    suffix: Annotated[str, Field(pattern=r"^[a-z0-9]+(\.[a-z0-9]+)*$")] | None = None
    """With a reader: how the name of a landed day ends."""
    fetch: Module | None = None
    """Python module with a function fetch, which gets the log and lands it."""

    @model_validator(mode="after")
    def _has_a_format_or_a_reader(self) -> Self:
        if bool(self.format) == bool(self.reader):
            raise PydanticCustomError("source", "needs exactly one of format and reader")
        if bool(self.reader) != bool(self.suffix):
            raise PydanticCustomError("source", "reader and suffix go together")
        if self.reader and self.model_fields_set & {"time", "columns", "list_separator"}:
            raise PydanticCustomError("source", "time, columns, list_separator: not with a reader")
        self._check_formats()
        return self

    def _check_formats(self) -> None:
        """Each key goes with some of the formats."""
        tables = ("delta", "iceberg")
        files = (*TEXTS, "parquet", None)
        allowed: dict[str, tuple[str | None, ...]] = {
            "compression": TEXTS,
            **dict.fromkeys(("path", "user_path", "item_path", "partition"), tables),
            "kafka": ("kafka",),
            "ready": files,
        }
        for key, formats in allowed.items():
            if getattr(self, key) is not None and self.format not in formats:
                named = ", ".join(filter(None, formats))
                raise PydanticCustomError("source", f"{key}: goes with format {named}")
        if self.format == "kafka" and self.kafka is None:
            raise PydanticCustomError("source", "format kafka needs kafka: {servers, topic}")
        if self.ready and self.format in TEXTS and "{day}" not in self.ready.marker:
            raise PydanticCustomError(
                "source", "ready.marker: of a file, its name has {day}, such as '{day}.done'"
            )

    @property
    def is_table(self) -> bool:
        """Whether it is read as a version of a table, and not as files."""
        return self.format in {"delta", "iceberg"}

    @property
    def is_typed(self) -> bool:
        """Whether columns have types where they land."""
        return self.is_table or self.format == "parquet"

    @property
    def landed_suffix(self) -> str:
        """How the name of a landed day ends."""
        return ".".join(filter(None, (self.format, self.compression))) or self.suffix or ""
