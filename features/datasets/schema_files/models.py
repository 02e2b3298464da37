"""What a schema file may say: a model for each of its mappings; its JSON schema is made of them.

The keys are the fields, the texts below them what an editor shows. ``build`` makes the schema.
"""

import datetime
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from features.datasets.schema_files.aggregate_models import AggregatesEntry
from features.datasets.schema_files.entry import Entry
from features.datasets.schema_files.source_models import TEXTS, SourceEntry
from features.datasets.schema_files.values import (
    ColumnName,
    Number,
    NumberOrText,
    PositiveSpan,
    Share,
    Span,
    Text,
)
from features.schema import Correction, Dtype, Kind, Severity


class StoredEntry(Entry):
    """A column that is kept and is never an input."""

    doc: Text
    """What the value means, in a sentence."""
    type: Annotated[Dtype, Field(strict=False)]
    """Physical type of a value."""
    unit: str = ""
    minimum: Number | None = None
    """Smallest allowed value."""
    maximum: Number | None = None
    """Largest allowed value."""
    vocabulary: list[Text] = []
    """All allowed values of a text."""
    nullable: bool = False
    """Whether a value may be missing."""
    max_length: Annotated[int, Field(ge=1)] | None = None
    """Most values in one row of a list; of a list of numbers each row has exactly so many."""
    severity: Annotated[Severity, Field(strict=False)] = Severity.WARNING
    """What a value outside the limits does: critical stops the day, warning sends the row to
    quarantine, info is reported."""


class ColumnEntry(StoredEntry):
    """A column, and what the model makes of it."""

    kind: Annotated[Kind, Field(strict=False)]
    """sparse: an id, or a list of ids, with an embedding each. dense: a number. rate: a share
    between 0 and 1. count: a number with a long tail. age: microseconds since 1970 of a past
    moment. stored: no input."""
    num_ids: Annotated[int, Field(ge=1)] | None = None
    """Sparse: the ids are the integers below this number."""
    hash_size: Annotated[int, Field(ge=1)] | None = None
    """Sparse: any id, hashed to this many rows of the embedding table."""
    shares_table_with: ColumnName | None = None
    """Sparse: the column whose embedding table this one uses."""


class ContextEntry(ColumnEntry):
    """A column that a request brings along."""

    neutral: NumberOrText | None = None
    """What every served request has instead: training sees the value, such as a position."""


class RequestEntry(StoredEntry):
    """The id of a request, whose answer was one page of results."""

    name: ColumnName
    severity: Annotated[Severity, Field(strict=False)] = Severity.CRITICAL


class EntityEntry(ColumnEntry):
    """The id of a user or an item."""

    name: ColumnName
    severity: Annotated[Severity, Field(strict=False)] = Severity.CRITICAL


class ExampleIdEntry(Entry):
    """What the id of an impression is derived from, a hash of 63 bits; one of both keys."""

    keys: Annotated[list[ColumnName], Field(min_length=1)] | None = Field(None, alias="from")
    """Columns of an impression that together no other has: such as the request's and the item's."""
    column: Text | None = None
    """A column of the landed rows that alone is unique, of any type: such as a UUID."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if bool(self.keys) == bool(self.column):
            raise PydanticCustomError("example_id", "needs exactly one of from and column")
        return self


class UserStateEntry(Entry):
    """Counts, rates, recency and the last items of a user, after each impression."""

    kind: Literal["user_state"]
    history_length: Annotated[int, Field(ge=1, le=10_000)]
    """How many of the last labelled items are kept."""
    affinities: list[ColumnName] = []
    """Sparse attributes of items. Each is an input user_affinity_<attribute>: the smoothed share of
    positives among those of the last items that have a value in common with the candidate."""
    ttl: PositiveSpan
    """A row older than this at a request is expired."""
    delay: Span
    """From the impression until a reader may count on the row."""


class ItemDailyEntry(Entry):
    """Counts and rates of an item over trailing days and all time, as of the end of each day."""

    kind: Literal["item_daily"]
    windows_days: list[Annotated[int, Field(ge=1, le=3_660)]]
    """Lengths of the windows, in days; the counts of all time are always there."""
    ttl: PositiveSpan
    """A row older than this at a request is expired."""
    delay: Span
    """From the end of the day until a reader may count on the row."""


class _AttributesEntry(Entry):
    doc: Text
    """Where the values come from, in a sentence."""
    columns: Annotated[dict[ColumnName, ColumnEntry], Field(min_length=1)]
    """What is known of each, by name."""


class UserAttributesEntry(_AttributesEntry):
    """What is known of a user; landed as ``users.<format>``, next to the folder of impressions."""

    kind: Literal["user_attributes"]


class ItemAttributesEntry(_AttributesEntry):
    """What is known of an item; landed as ``items.<format>``, next to the folder of impressions."""

    kind: Literal["item_attributes"]


TableEntry = Annotated[
    UserStateEntry | ItemDailyEntry | UserAttributesEntry | ItemAttributesEntry | AggregatesEntry,
    Field(discriminator="kind"),
]
KINDS_OF_TABLES = ("user_state", "item_daily", "user_attributes", "item_attributes", "aggregates")


class LimitsEntry(Entry):
    """What a day may look like as a whole before it is stopped or reported."""

    min_positive_rate: Share
    """Smallest share of positives on a day."""
    max_positive_rate: Share
    """Largest share of positives on a day."""
    min_share_of_trailing_rows: Annotated[Number, Field(ge=0)]
    """Fewest rows of a day, as a share of the trailing days' median; below it the day stops."""
    max_times_trailing_rows: Annotated[Number, Field(gt=0)]
    """Most rows of a day, in trailing medians; above it the day is reported."""
    trailing_days: Annotated[int, Field(ge=1)] = 28
    min_rows: Annotated[int, Field(ge=0)] = 1
    """Fewest rows of a day; 0 where a day may be empty."""
    max_quarantined_share: Share = 0.05
    """Largest share of a day's rows that may go to quarantine; above it the day stops."""
    max_rows_of_user: Annotated[int, Field(ge=1)] = 100_000
    """Most impressions of a user on a day; with more, they all go to quarantine."""


class _AnyLabelEntry(Entry):
    prior_rate: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    """Positive rate towards which small counts are smoothed."""
    prior_weight: Annotated[Number, Field(gt=0)] = 10
    """How many impressions that prior is worth."""


class LabelEntry(_AnyLabelEntry):
    """What counts as positive, and when that is known: a label in the row of its impression."""

    column: ColumnName
    """Stored column from which the label is read."""
    positive_from: Number
    """Smallest value that is a positive."""
    delay: Span
    """From the impression until its label is known."""
    has_rating: bool = False
    """Whether the column is a graded rating, whose mean is a feature too."""


class ImmatureEntry(Entry):
    """That rows are learnt before their label is final, and what corrects for events to come."""

    correction: Annotated[Correction, Field(strict=False)]
    """inverse_probability: a positive counts once over the share of events that are known at its
    age, by the delays of mature rows; right where delays do not depend on features."""
    min_known_share: Annotated[Number, Field(ge=0.05, le=1)] = 0.2
    """A row is learnt from the age on at which this share of its events would be known."""
    delay_days: Annotated[int, Field(ge=1, le=366)] = 14
    """How many of the newest mature days say how late events are."""


class LaterLabelEntry(_AnyLabelEntry):
    """A label that comes later, from events that land as labels/<label>/<day>.<format>."""

    source: SourceEntry
    """What the landed events look like; a file has those of its day."""
    join: Annotated[list[ColumnName], Field(min_length=1)]
    """Columns of an impression that its events have too, such as the request and the item."""
    window: PositiveSpan
    """An impression is positive where an event comes within so long after it. Where several
    impressions have an event's columns, the newest before it has it."""
    delay: Span
    """From the end of the window until the label is known, a negative as a positive one."""
    immature: ImmatureEntry | None = None
    """Of the target: rows whose window is not over are learnt too; without it they wait."""

    @model_validator(mode="after")
    def _has_a_format(self) -> Self:
        if self.source.format not in (*TEXTS, "parquet") or self.source.fetch or self.source.ready:
            raise PydanticCustomError(
                "source",
                "source of a label: a format of files and how they look; no table, no topic, no "
                "reader, no fetch, no ready",
            )
        return self


IN_THE_ROW, COMES_LATER = KINDS_OF_LABELS = ("in_the_row", "comes_later")


def _kind_of_label(value: object) -> str:
    if isinstance(value, dict):
        return COMES_LATER if {"source", "join", "window"} & value.keys() else IN_THE_ROW
    return COMES_LATER if isinstance(value, LaterLabelEntry) else IN_THE_ROW


AnyLabel = Annotated[
    Annotated[LabelEntry, Tag(IN_THE_ROW)] | Annotated[LaterLabelEntry, Tag(COMES_LATER)],
    Discriminator(_kind_of_label),
]


class DataSetEntry(Entry):
    """A data set: its impressions, feature tables, labels, limits and landed files."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
    """Name of the data set, which is also the name of this file."""
    doc: Text
    """What an impression is, in a sentence or two."""
    licence: Text
    first_day: datetime.date
    """First day of the log."""
    last_day: datetime.date | None = None
    """Last day of a finished log; without it the log is still growing."""
    holdout_days: Annotated[int, Field(ge=1)]
    """Newest days that a candidate does not train on, so that it can be judged on them."""
    epoch: datetime.date
    """Day since which attributes hold; not after the first day."""
    time_context: list[Literal["hour_of_day", "day_of_week"]] = []
    """Inputs computed from the moment of the request, UTC."""
    user: EntityEntry | None = None
    """Id of the user; without it, what is known of users is context."""
    item: EntityEntry
    """Id of the item."""
    request: RequestEntry | None = None
    """Id of the request, shared by the impressions of one page of results."""
    example_id: ExampleIdEntry | None = None
    """Without it the log has a column example_id of type int64, unique in the data set."""
    context: dict[ColumnName, ContextEntry] = {}
    """Columns of an impression that a request brings along, by name."""
    stored: dict[ColumnName, StoredEntry] = {}
    """Columns of an impression that are known only after it, by name; never inputs."""
    labels: Annotated[dict[ColumnName, AnyLabel], Field(min_length=1)]
    """What happened to an impression, by name: a click, an order, a rating of 4 or more."""
    target: ColumnName
    """The label that training learns."""
    best_log_loss_column: ColumnName | None = None
    """Stored column with the true probability, in generated data."""
    tables: Annotated[list[TableEntry], Field(min_length=1)]
    """Feature tables, at least one; their order is the order of the inputs."""
    item_title: ColumnName | None = None
    """Item attribute that names an item to a person."""
    limits: LimitsEntry
    source: SourceEntry
