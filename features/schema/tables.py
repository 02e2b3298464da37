"""Feature tables: whose rows they hold, when a row counts, and which inputs it gives."""

import dataclasses
import datetime
import enum
import functools

from features.schema.columns import CREATED, DENSE_KINDS, EVENT_TIMESTAMP, Column, Kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bag:
    """A sparse input that the encoder takes from a labelled history: the items with one label."""

    column: Column
    items: str
    labels: str
    label: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Affinity:
    """A dense input of a user and a candidate: how the user liked what is like the candidate.

    The share of positives among those items of a labelled history that have a value of an attribute
    in common with the candidate, as the values were at each impression.
    """

    column: Column
    on: str
    """Attribute of items, with one value or several."""
    values: str
    """Stored column: the attribute's values of all items of the history, item by item."""
    counts: str
    """Stored column: how many of ``values`` each item has."""
    labels: str
    """Stored column: the label of each item."""

    @property
    def stored(self) -> tuple[str, str, str]:
        """The columns of a user's row that it is made of."""
        return self.values, self.counts, self.labels


class TableKind(enum.StrEnum):
    """How a feature table is computed and when its rows appear."""

    STATE = "state"
    """One row per entity and moment at which something happened to it."""
    DAILY = "daily"
    """One row per entity and day, as of the day's end."""
    ATTRIBUTES = "attributes"
    """One row per entity since ``Schema.epoch``, and one more from each change on."""


class Role(enum.StrEnum):
    """What of an impression a table has rows for."""

    USER = "user"
    ITEM = "item"
    CANDIDATE = "candidate"
    """A key of one or two columns of the candidate, its item or its user: ``FeatureTable.by``."""


class AggregateKind(enum.StrEnum):
    """What a declared column makes of the impressions of its key."""

    COUNT = "count"
    """How many: of all, of those with a positive label, or of those with a value."""
    RATE = "rate"
    """Positives over labelled ones, smoothed with the label's prior."""
    MEAN = "mean"
    """Mean of a numeric column; empty without a value."""
    SUM = "sum"
    """Sum of a numeric column."""
    RECENCY = "recency"
    """When the last one happened, of all time; a model reads its age."""
    DISTINCT = "distinct"
    """How many different values of another column they have; exact, within windows only."""


IMPRESSIONS = "impressions"
"""What an aggregate is ``of`` that is of every impression."""
AGE = "age"
"""What a history keeps of an impression in addition to columns: how long it is ago."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aggregate:
    """A declared column: one value for each window of its table."""

    name: str
    """Begins the names of its columns: ``<name>_7d``, ``<name>_all``."""
    of: str
    """``impressions``, a label, or a numeric column of impressions."""
    kind: AggregateKind
    scale: float = 0
    """Of a sum or a mean of a float column: values are added as whole multiples of it."""
    distinct_of: str = ""
    """With the kind ``distinct``: the column whose values are counted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """The last impressions of a key, newest first: a list for each of some columns of theirs."""

    name: str
    """Begins the names of its columns: ``<name>_item_id``, ``<name>_age``."""
    of: str
    """``impressions`` for the last that were shown, or a label for its last positives."""
    length: int
    """How many are kept."""
    columns: tuple[str, ...]
    """What is kept of each: ids, context, attributes as they were visible at it, and ``age``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """A feature table: whose rows it has, when they can be counted on, and how long they hold."""

    name: str
    kind: TableKind
    role: Role
    columns: tuple[Column, ...]
    """What is stored, in this order, after the entity's id and the two times."""
    doc: str
    ttl: datetime.timedelta | None
    """A row older than this at the request is expired; None: never."""
    delay: datetime.timedelta
    """From the event (of a daily table: the day's end) until a reader may count on the row."""
    counts_from_day_end: bool = False
    """Of a state table: the delay counts from the end of the event's day, for only the daily build
    brings its rows online."""
    windows_days: tuple[int, ...] = ()
    """Trailing windows of a daily table; every daily table also has its all-time counts."""
    bags: tuple[Bag, ...] = ()
    """Sparse inputs that are computed from stored columns when encoding."""
    affinities: tuple[Affinity, ...] = ()
    """Of a table of state: dense inputs that the encoder makes of its rows and a candidate."""
    by: tuple[str, ...] = ()
    """With the role ``candidate``: the one or two columns that make the key."""
    aggregates: tuple[Aggregate, ...] = ()
    """Of a daily table that is declared: the values that it computes."""
    histories: tuple[History, ...] = ()
    """Of a daily table that is declared: the last impressions that it keeps."""

    def __post_init__(self) -> None:
        """State must expire: its jobs read back exactly one time-to-live."""
        if self.kind is TableKind.STATE and self.ttl is None:
            raise ValueError(f"table {self.name}: ttl None; a state table needs a finite ttl")

    @property
    def is_declared(self) -> bool:
        """Whether it says what it computes; another daily table is ``item_daily``."""
        return bool(self.aggregates or self.histories)

    @functools.cached_property
    def reads(self) -> frozenset[str]:
        """What its rows take of an impression but labels, numbers and what all of its kind take."""
        kept = {name for one in self.histories for name in one.columns} - {AGE}
        kept |= {one.on for one in self.affinities}
        return frozenset({*self.by, *kept})

    def first_visible(self, day: datetime.date) -> datetime.datetime:
        """The earliest moment from which a row of a day can count, as declared."""
        is_next_day = self.kind is TableKind.DAILY or self.counts_from_day_end
        since = day + datetime.timedelta(days=1) if is_next_day else day
        return datetime.datetime.combine(since, datetime.time(), datetime.UTC) + self.delay

    @functools.cached_property
    def of(self) -> str:
        """What it has rows for: tables of the same are read together. ``user``, ``item`` or a key.

        Of a key this is also the name of its column.
        """
        return f"by_{'_and_'.join(self.by)}" if self.by else self.role.value

    @property
    def missing_indicator(self) -> str:
        """Dense input that is 1 where the table had no usable row."""
        return f"{self.name}_missing"

    @functools.cached_property
    def timestamp_column(self) -> str:
        """Name of this table's event timestamp in joined rows."""
        return f"{self.name}__{EVENT_TIMESTAMP}"

    @functools.cached_property
    def visible_at_column(self) -> str:
        """Name of the moment from which its row counts, in rows that an online store gave."""
        return f"{self.name}__visible_at"

    @functools.cached_property
    def created_column(self) -> str:
        """Name of when its row was made available, in rows that an online store gave."""
        return f"{self.name}__{CREATED}"

    @functools.cached_property
    def earlier_column(self) -> str:
        """Name of the index of the row before it, in rows that an online store gave."""
        return f"{self.name}__earlier"

    @functools.cached_property
    def dense_columns(self) -> tuple[Column, ...]:
        """Its dense inputs: one block of a model's, in its order."""
        return tuple(column for column in self.columns if column.kind in DENSE_KINDS)

    @functools.cached_property
    def sparse_columns(self) -> tuple[Column, ...]:
        """Its sparse inputs, its bags among them."""
        own = (column for column in self.columns if column.kind is Kind.SPARSE)
        return (*own, *(bag.column for bag in self.bags))

    @property
    def derived_columns(self) -> tuple[Column, ...]:
        """Inputs that are made of stored columns when encoding."""
        return (*(bag.column for bag in self.bags), *(one.column for one in self.affinities))

    def derived_from(self, name: str) -> tuple[str, ...]:
        """Names of the derived inputs that are made of a stored column."""
        bags = (bag.column.name for bag in self.bags if name in (bag.items, bag.labels))
        return (*bags, *(one.column.name for one in self.affinities if name in one.stored))

    @functools.cached_property
    def encoded_columns(self) -> tuple[str, ...]:
        """Names of what the encoder reads: inputs, what others derive from, the event timestamp."""
        read = (
            c.name for c in self.columns if c.kind is not Kind.STORED or self.derived_from(c.name)
        )
        return (*read, self.timestamp_column)
