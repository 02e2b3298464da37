"""The one schema: every column once, and everything else is a projection of it.

Spark types, Feast fields, the Great Expectations suite, the embedding tables, the request check and
the feature reference are derived from these values, each beside its consumer. Standard library
only. Nothing here knows how a value is computed, stored or learnt from.

Three times are kept apart. A feature row has the time at which its value became true
(``event_timestamp``) and the time from which a reader may count on it (``created``: the event plus
the table's declared delay, never a clock). The day for which a job runs is its argument.
"""

import dataclasses
import datetime
import enum
import functools
from collections.abc import Iterator

from features.schema.fingerprints import digest
from features.schema.leak_checks import refuse_label_leaks

EVENT_TIMESTAMP = "event_timestamp"
"""When a feature row's value became true."""
CREATED = "created"
"""From when a reader may count on a feature row."""
EXAMPLE_ID = "example_id"
"""Integer that the log gives to one impression, unique in the data set."""
LABEL = "label"
"""1 for a positive impression, 0 for a negative one."""
DAY = "day"
"""Partition column of every lake table."""


class Dtype(enum.StrEnum):
    """Physical type of a column."""

    INT64 = "int64"
    FLOAT64 = "float64"
    STRING = "string"
    TIMESTAMP = "timestamp"
    INT64_LIST = "list<int64>"
    STRING_LIST = "list<string>"

    @property
    def is_list(self) -> bool:
        """Whether one row holds many values."""
        return self in {Dtype.INT64_LIST, Dtype.STRING_LIST}

    @property
    def element(self) -> "Dtype":
        """Type of one value of the column."""
        return {Dtype.INT64_LIST: Dtype.INT64, Dtype.STRING_LIST: Dtype.STRING}.get(self, self)

    @staticmethod
    def list_of(element: "Dtype") -> "Dtype":
        """The list type whose elements are ``element``."""
        return Dtype(f"list<{element.value}>")


class Kind(enum.StrEnum):
    """What the model makes of a column."""

    SPARSE = "sparse"
    """An id, or a bag of ids, looked up in an embedding table."""
    DENSE = "dense"
    """A number that enters the bottom MLP."""
    RATE = "rate"
    """A share strictly between 0 and 1: dense, as its log odds inside the model."""
    COUNT = "count"
    """A non-negative number with a long tail: dense, after log(1 + x) inside the model."""
    AGE = "age"
    """Epoch microseconds of a past event: dense, as log(1 + seconds until the request)."""
    STORED = "stored"
    """Kept in the tables, not an input of the model."""


DENSE_KINDS = (Kind.DENSE, Kind.RATE, Kind.COUNT, Kind.AGE)


class Severity(enum.StrEnum):
    """What a broken rule does."""

    CRITICAL = "critical"
    """The day stops."""
    WARNING = "warning"
    """The row goes to quarantine, with the rule and the reason."""
    INFO = "info"
    """It is reported."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its meaning, its limits and what the model makes of it.

    Sparse columns name exactly one of ``vocabulary``, ``num_ids`` (ids are the integers below it)
    and ``hash_size`` (any id, hashed). Row 0 of every embedding table stands for "missing or
    unknown", so a table has one row more than the ids that it tells apart.
    """

    name: str
    dtype: Dtype
    kind: Kind
    doc: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    vocabulary: tuple[str, ...] = ()
    num_ids: int = 0
    hash_size: int = 0
    is_nullable: bool = False
    max_length: int = 0
    """Most values in one row of a list column; 0 where the column is no list."""
    shares_table_with: str = ""
    """Sparse column whose embedding table this one looks up, for example a history of item ids."""
    severity: Severity = Severity.WARNING
    """What a value outside the limits does to its row."""

    def __post_init__(self) -> None:
        """Refuse a declaration that no consumer could honour."""
        sizes = [bool(self.vocabulary), self.num_ids > 0, self.hash_size > 0]
        own_table = self.kind is Kind.SPARSE and not self.shares_table_with
        if own_table and sum(sizes) != 1:
            raise ValueError(
                f"column {self.name}: {sum(sizes)} of vocabulary, num_ids, hash_size are set; "
                "a sparse column needs exactly one"
            )
        if self.dtype.is_list != (self.max_length > 0):
            raise ValueError(
                f"column {self.name}: max_length {self.max_length} with type {self.dtype}; "
                "list columns need a positive max_length, others none"
            )
        if not self.doc:
            raise ValueError(f"column {self.name}: doc is empty; every column is described")

    @property
    def num_rows(self) -> int:
        """Rows of the column's own embedding table, with row 0 for missing or unknown."""
        return 1 + (len(self.vocabulary) or self.num_ids or self.hash_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bag:
    """A sparse input that the encoder takes from a labelled history: the items with one label."""

    column: Column
    items: str
    labels: str
    label: int


class TableKind(enum.StrEnum):
    """How a feature table is computed and when its rows appear."""

    STATE = "state"
    """One row per entity and moment at which something happened to it."""
    DAILY = "daily"
    """One row per entity and day, as of the day's end."""
    ATTRIBUTES = "attributes"
    """One row per entity; true since ``Schema.epoch``."""


class Role(enum.StrEnum):
    """Which side of an impression an entity is on."""

    USER = "user"
    ITEM = "item"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """A feature table: whose rows it has, when they can be counted on, and how long they hold."""

    name: str
    kind: TableKind
    role: Role
    columns: tuple[Column, ...]
    """What is stored, in this order, beside the entity's id and the two times."""
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

    def __post_init__(self) -> None:
        """State must expire: its jobs read back exactly one time-to-live."""
        if self.kind is TableKind.STATE and self.ttl is None:
            raise ValueError(f"table {self.name}: ttl None; a state table needs a finite ttl")

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
    def earlier_column(self) -> str:
        """Name of the place of the row before it, in rows that an online store gave."""
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

    @functools.cached_property
    def encoded_columns(self) -> tuple[str, ...]:
        """Names of what the encoder reads: inputs, what bags are made of, the event timestamp."""
        in_bags = {name for bag in self.bags for name in (bag.items, bag.labels)}
        names = [c.name for c in self.columns if c.kind is not Kind.STORED or c.name in in_bags]
        return (*names, self.timestamp_column)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """What counts as a positive impression, and when that is known."""

    column: str
    """Impression column from which the label is read."""
    positive_from: float
    """Smallest value of that column that is a positive."""
    delay: datetime.timedelta
    """From the impression until the label may enter a feature."""
    has_rating: bool = False
    """Whether the column is a graded rating, whose mean is a feature too."""
    prior_rate: float = 0.5
    """Positive rate towards which small counts are smoothed."""
    prior_weight: float = 10.0
    """How many impressions that prior is worth."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a day may look like as a whole before it is stopped or reported."""

    min_positive_rate: float
    max_positive_rate: float
    min_share_of_trailing_rows: float
    """Fewest published rows of a day, as a share of the trailing days' median; below it, with
    enough trailing days, the day stops."""
    max_times_trailing_rows: float
    """Most published rows of a day, in trailing medians; above it: reported."""
    trailing_days: int = 28
    min_rows: int = 1
    """Fewest published rows of a day; below it the day stops. 0 where a day may be empty."""
    max_quarantined_share: float = 0.05
    """Largest share of a day's rows that may go to quarantine; above it the day stops."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schema:
    """A data set: its impressions, its feature tables, its label and its limits."""

    name: str
    doc: str
    licence: str
    user: Column | None
    """The user's id; None where users cannot be told apart, then they are request context."""
    item: Column
    context: tuple[Column, ...]
    """Impression columns that a request brings along."""
    stored: tuple[Column, ...]
    """Impression columns that are kept, and are never inputs; the label's source among them."""
    time_context: tuple[str, ...]
    """Which of TIME_CONTEXT the model uses, computed from the request time when encoding."""
    label: Label
    tables: tuple[FeatureTable, ...]
    limits: Limits
    history_length: int
    epoch: datetime.date
    """Day since which attributes hold; before every impression."""
    first_day: datetime.date
    last_day: datetime.date | None
    """Last day of a finished log; None where the log goes on."""
    holdout_days: int
    """Newest days that a candidate does not train on, so that it can be judged on them."""
    item_title: str = ""
    """Item attribute that names an item to a person."""
    best_log_loss_column: str = ""
    """Stored column with the true probability, in generated data."""

    def __post_init__(self) -> None:
        """Names are unique, references resolve, and no input can be an impression's own label."""
        refuse_label_leaks(self)
        names = [column.name for column in self.columns()]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"schema {self.name}: columns {repeated} are declared twice")
        for column in self.columns():
            if column.shares_table_with and column.shares_table_with not in names:
                raise ValueError(
                    f"column {column.name}: shares_table_with {column.shares_table_with!r} is no "
                    f"column of schema {self.name}"
                )
        unknown = sorted(set(self.time_context) - {column.name for column in TIME_CONTEXT})
        if unknown:
            raise ValueError(f"schema {self.name}: time_context {unknown} is not defined")

    def entities(self) -> Iterator[tuple[Role, Column]]:
        """The entities of the data set, the user first where there is one."""
        if self.user is not None:
            yield Role.USER, self.user
        yield Role.ITEM, self.item

    def entity(self, role: Role) -> Column:
        """The id column of one side of an impression."""
        column = self.user if role is Role.USER else self.item
        if column is None:
            raise ValueError(f"schema {self.name}: role {role} has no id column")
        return column

    def table(self, name: str) -> FeatureTable:
        """A feature table by name."""
        for table in self.tables:
            if table.name == name:
                return table
        raise ValueError(
            f"table {name!r}: not in schema {self.name}; it has {[t.name for t in self.tables]}"
        )

    def tables_of(self, kind: TableKind) -> tuple[FeatureTable, ...]:
        """The feature tables that are computed in one way."""
        return tuple(table for table in self.tables if table.kind is kind)

    def without_push(self) -> "Schema":
        """The same where nothing brings state online within a day: it counts when daily rows do.

        Raises:
            ValueError: No daily table says when that is.
        """
        delays = [table.delay for table in self.tables_of(TableKind.DAILY)]
        if not delays and self.tables_of(TableKind.STATE):
            raise ValueError(f"schema {self.name}: no daily table; state needs one or a push")
        tables = tuple(
            dataclasses.replace(table, delay=max(delays), counts_from_day_end=True)
            if table.kind is TableKind.STATE
            else table
            for table in self.tables
        )
        return dataclasses.replace(self, tables=tables)

    def impression_columns(self) -> tuple[Column, ...]:
        """Columns of one impression, in the order in which they are stored."""
        entities = tuple(column for _, column in self.entities())
        return (*entities, REQUEST_TIME, *self.context, *self.stored)

    def columns(self) -> Iterator[Column]:
        """Every column of the schema once: the impressions', the request time's, the tables'."""
        yield from self.impression_columns()
        yield from (column for column in TIME_CONTEXT if column.name in self.time_context)
        for table in self.tables:
            yield from table.columns
            yield from (bag.column for bag in table.bags)

    def inputs(self, *kinds: Kind) -> tuple[Column, ...]:
        """Columns of these kinds in schema order, which is their order in a model's input."""
        return tuple(column for column in self.columns() if column.kind in kinds)

    def sparse_inputs(self) -> tuple[Column, ...]:
        """Columns that are looked up in embedding tables."""
        return self._sparse_inputs

    # What every request asks for is looked up once.

    @functools.cached_property
    def _sparse_inputs(self) -> tuple[Column, ...]:
        return self.inputs(Kind.SPARSE)

    @functools.cached_property
    def shared_sparse_inputs(self) -> tuple[Column, ...]:
        """Those of no table that are the same for all candidates of a user."""
        names = {*self.time_context, self.user.name if self.user else ""}
        return tuple(column for column in self._sparse_inputs if column.name in names)

    @functools.cached_property
    def each_sparse_inputs(self) -> tuple[Column, ...]:
        """Those of no table that may differ from candidate to candidate."""
        names = {self.item.name, *(column.name for column in self.context)}
        return tuple(column for column in self._sparse_inputs if column.name in names)

    @functools.cached_property
    def bags(self) -> dict[str, Bag]:
        """The bags of all tables by the names of their columns."""
        return {bag.column.name: bag for table in self.tables for bag in table.bags}

    @functools.cached_property
    def table_owners(self) -> dict[str, Column]:
        """By the name of each column, the one whose embedding table it uses."""
        by_name = {column.name: column for column in self.columns()}
        return {name: by_name[c.shares_table_with or name] for name, c in by_name.items()}

    def dense_inputs(self) -> tuple[str, ...]:
        """Names of the dense inputs: the numbers, then one missing indicator for each table."""
        return self._dense_inputs

    @functools.cached_property
    def _dense_inputs(self) -> tuple[str, ...]:
        numbers = self.inputs(*DENSE_KINDS)
        indicators = (table.missing_indicator for table in self.tables)
        return (*(column.name for column in numbers), *indicators)

    def dense_kinds(self) -> tuple[Kind, ...]:
        """The kind of each dense input, which says what the model does with it first."""
        numbers = self.inputs(*DENSE_KINDS)
        return (*(column.kind for column in numbers), *(Kind.DENSE for _ in self.tables))

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change whenever anything that shapes an input does.

        Descriptions, limits and severities are left out: to reword one must not retire a model.
        """
        return digest(self)


REQUEST_TIME = Column(
    name="timestamp",
    dtype=Dtype.TIMESTAMP,
    kind=Kind.STORED,
    unit="UTC, microseconds",
    doc="When the impression happened; in a request, the moment for which to rank.",
    severity=Severity.CRITICAL,
)

TIME_CONTEXT = (
    Column(
        name="hour_of_day",
        dtype=Dtype.INT64,
        kind=Kind.SPARSE,
        num_ids=24,
        unit="hours, UTC",
        doc="Hour of the request.",
    ),
    Column(
        name="day_of_week",
        dtype=Dtype.INT64,
        kind=Kind.SPARSE,
        num_ids=7,
        unit="days, Monday is 0",
        doc="Day of the week of the request.",
    ),
)
"""Inputs computed from the request time by the shared encoder."""
