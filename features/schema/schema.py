"""The schema of one data set, with its labels and the limits of a day."""

import dataclasses
import datetime
import functools
from collections.abc import Iterator

from features.schema import keys, label_rules, rules
from features.schema.columns import DENSE_KINDS, REQUEST_TIME, TIME_CONTEXT, Column, Kind
from features.schema.fingerprints import fingerprint
from features.schema.labels import Label
from features.schema.tables import Affinity, Bag, FeatureTable, Role, TableKind


@dataclasses.dataclass(frozen=True, kw_only=True)
class DerivedId:
    """What the ``example_id`` of an impression is made of, where its log has none that is int64."""

    keys: tuple[str, ...] = ()
    """Columns of an impression that together no other has."""
    column: str = ""
    """Or a column of the landed rows that alone is unique, such as a UUID."""


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
    max_rows_of_user: int = 100_000
    """Most impressions of one user on a day. With more it is a program, or an id that many share:
    they go to quarantine, and no task has more rows of a user than this."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schema:
    """A data set: its impressions, its feature tables, its labels and its limits."""

    name: str
    doc: str
    licence: str
    user: Column | None
    """The user's id; None where users have no id; what is known of them is request context."""
    item: Column
    context: tuple[Column, ...]
    """Impression columns that a request brings along."""
    stored: tuple[Column, ...]
    """Impression columns that are kept, and are never inputs; the labels' sources among them."""
    time_context: tuple[str, ...]
    """Which of TIME_CONTEXT the model uses, computed from the request time when encoding."""
    labels: tuple[Label, ...]
    target: str
    """Name of the label that training learns."""
    tables: tuple[FeatureTable, ...]
    limits: Limits
    history_length: int
    epoch: datetime.date
    """Day since which attributes hold; before every impression."""
    first_day: datetime.date
    last_day: datetime.date | None
    """Last day of a finished log; None where the log is still growing."""
    holdout_days: int
    """Newest days that a candidate does not train on, so that it can be judged on them."""
    request: Column | None = None
    """Id of the request whose answer an impression was a part of; stored, and never an input."""
    item_title: str = ""
    """Item attribute that names an item to a person."""
    best_log_loss_column: str = ""
    """Stored column with the true probability, in generated data."""
    example_id: DerivedId | None = None
    """What the ids of impressions are derived from; None where the log has them."""

    def __post_init__(self) -> None:
        """Names are unique, references resolve, and no input can be an impression's own label."""
        label_rules.check_labels(self)
        rules.check_label_leaks(self)
        keys.check_keys(self)
        rules.check_names(self)
        rules.check_example_id(self)
        label_rules.check_later_labels(self)
        rules.check_request(self)
        rules.check_days(self)

    @functools.cached_property
    def label(self) -> Label:
        """The target: the label that training learns."""
        return next(label for label in self.labels if label.name == self.target)

    @property
    def later_labels(self) -> tuple[Label, ...]:
        """The labels that come later."""
        return tuple(label for label in self.labels if label.comes_later)

    @property
    def maturity_days(self) -> int:
        """Days from a day until all its impressions have their final label; 0: it has them itself.

        The day that is learnt when a day has landed is so many days earlier.
        """
        return self.label.known_after_days if self.label.comes_later else 0

    @property
    def can_push(self) -> bool:
        """Whether rows of state may be brought online within a day.

        Events land a file a day, so within it nobody knows of those that have come. With a delay of
        a day or more no row needs to.
        """
        return not self.label.comes_later or self.label.delay >= datetime.timedelta(days=1)

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

    def key_of(self, table: FeatureTable) -> Column:
        """The key column of a table: an entity's id, or what its ``by`` makes."""
        return self.key(table.of)

    def key(self, of: str) -> Column:
        """The key column of the tables that are ``of`` the same."""
        return self._keys[of] if of in self._keys else self.entity(Role(of))

    @functools.cached_property
    def _keys(self) -> dict[str, Column]:
        return {table.of: keys.key_column(self, table) for table in self.tables if table.by}

    def key_columns(self) -> Iterator[tuple[str, Column]]:
        """What tables have rows for, with the key column of each: entities, then made keys."""
        yield from self.entities()
        yield from self._keys.items()

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
        request = () if self.request is None else (self.request,)
        return (*entities, REQUEST_TIME, *request, *self.context, *self.stored)

    def event_columns(self, label: Label) -> tuple[Column, ...]:
        """Columns of an event of a label that comes later, in their stored order."""
        by_name = {column.name: column for column in self.impression_columns()}
        return (REQUEST_TIME, *(by_name[name] for name in label.join))

    def columns(self) -> Iterator[Column]:
        """Every column of the schema once: the impressions', the request time's, the tables'."""
        yield from self.impression_columns()
        yield from (column for column in TIME_CONTEXT if column.name in self.time_context)
        for table in self.tables:
            yield from table.columns
            yield from (bag.column for bag in table.bags)
        # Made of two tables, and so after all: each table's own numbers stay one block.
        yield from (one.column for one in self.affinities)

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
    def affinities(self) -> tuple[Affinity, ...]:
        """The affinities of all tables."""
        return tuple(one for table in self.tables for one in table.affinities)

    @functools.cached_property
    def numbers(self) -> tuple[Column, ...]:
        """Columns that are dense inputs as they are: all but affinities, which come after them."""
        derived = {one.column.name for one in self.affinities}
        return tuple(one for one in self.inputs(*DENSE_KINDS) if one.name not in derived)

    @functools.cached_property
    def table_owners(self) -> dict[str, Column]:
        """By the name of each column, the one whose embedding table it uses."""
        by_name = {column.name: column for column in self.columns()}
        return {name: by_name[c.shares_table_with or name] for name, c in by_name.items()}

    def dense_inputs(self) -> tuple[str, ...]:
        """Names of the dense inputs: numbers, affinities, one missing indicator for each table."""
        return self._dense_inputs

    @functools.cached_property
    def _dense_inputs(self) -> tuple[str, ...]:
        numbers = self.inputs(*DENSE_KINDS)
        indicators = (table.missing_indicator for table in self.tables)
        return (*(name for column in numbers for name in column.dense_names), *indicators)

    def dense_kinds(self) -> tuple[Kind, ...]:
        """The kind of each dense input, which says what the model does with it first."""
        numbers = self.inputs(*DENSE_KINDS)
        kinds = (column.kind for column in numbers for _ in column.dense_names)
        return (*kinds, *(Kind.DENSE for _ in self.tables))

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change whenever anything that shapes an input does.

        Descriptions, limits and severities are left out: to reword one must not retire a model.
        """
        return fingerprint(self)
