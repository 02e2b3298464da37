"""What a schema file may say of a table of declared aggregates."""

from typing import Annotated, Literal

from pydantic import Field

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


class AggregatesEntry(Entry):
    """Aggregates of impressions over trailing days, as of the end of each day, by a key."""

    kind: Literal["aggregates"]
    name: ColumnName
    """Name of the table."""
    by: Annotated[list[ColumnName], Field(min_length=1, max_length=2)]
    """What a row is for: one or two of the user, the item, a context column, an attribute."""
    windows_days: list[Annotated[int, Field(ge=1, le=3_660)]]
    """Lengths of the windows, in days; values of all time are always there."""
    ttl: PositiveSpan
    """A row older than this at a request is expired."""
    delay: Span
    """From the end of the day until a reader may count on the row."""
    columns: Annotated[dict[ColumnName, AggregateEntry], Field(min_length=1)]
    """What is computed, by the name with which the columns begin."""
