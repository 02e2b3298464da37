"""What a schema file may say of a table of declared aggregates."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from features.datasets.schema_files.entry import Entry
from features.datasets.schema_files.values import ColumnName, Number, PositiveSpan, Span
from features.schema import AggregateKind


class AggregateEntry(Entry):
    """A value for each window and for all time, such as ``clicks_7d`` and ``clicks_all``."""

    of: ColumnName
    """What it is made of: impressions for all of them, a label's name, or a numeric column of
    context or stored."""
    kind: Annotated[AggregateKind, Field(strict=False)]
    """count: of impressions, of positives, or of those with a value. rate: positives over labelled,
    smoothed with the label's prior. mean, sum: of a numeric column. recency: age since the last
    one. distinct: how many different values of distinct_of."""
    scale: Annotated[Number, Field(gt=0)] | None = None
    """Of a sum or a mean of a float64 column: values are added as whole multiples of this, such as
    0.01, so that the order of addition changes nothing."""
    distinct_of: ColumnName | None = None
    """With the kind distinct: user, item or a context column, whose different values are counted;
    exact, within windows_days only."""


class HistoryEntry(Entry):
    """The last impressions of a key, newest first, such as ``clicked_item_id``, ``clicked_age``."""

    of: ColumnName
    """impressions for the last that were shown, or a label's name for its last positives."""
    length: Annotated[int, Field(ge=1, le=1_000)]
    """How many are kept; age is an input for each of them."""
    columns: Annotated[list[ColumnName], Field(min_length=1)]
    """What is kept of each: the user, the item, context and attributes that are sparse, as they
    were at the impression; and age, the time since then. An impression without one of them is in no
    list."""


class AggregatesEntry(Entry):
    """Aggregates of impressions over trailing days, and the last of them, by a key and day."""

    kind: Literal["aggregates"]
    name: ColumnName
    """Name of the table."""
    by: Annotated[list[ColumnName], Field(min_length=1, max_length=2)]
    """What a row is for: one or two of the user, the item, a context column, an attribute."""
    windows_days: list[Annotated[int, Field(ge=1, le=3_660)]] = []
    """Lengths of the windows of columns, in days; values of all time are always there."""
    ttl: PositiveSpan
    """A row older than this at a request is expired."""
    delay: Span
    """From the end of the day until a reader may count on the row."""
    columns: dict[ColumnName, AggregateEntry] = {}
    """What is computed over windows, by the name with which the columns begin."""
    histories: dict[ColumnName, HistoryEntry] = {}
    """The last impressions that are kept, by the name with which the columns begin."""

    @model_validator(mode="after")
    def _has_columns(self) -> Self:
        if not self.columns and not self.histories:
            raise PydanticCustomError("columns", "needs columns, histories or both")
        return self
