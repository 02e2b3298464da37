"""A schema file as the schema that it declares, or as errors that name its lines."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from features.datasets.schema_files.aggregate_models import AggregatesEntry
from features.datasets.schema_files.declared_tables import declared_table
from features.datasets.schema_files.discovery import PYTHON
from features.datasets.schema_files.marked_yaml import MarkedYaml
from features.datasets.schema_files.models import (
    AnyLabel,
    ColumnEntry,
    ContextEntry,
    DataSetEntry,
    ItemAttributesEntry,
    ItemDailyEntry,
    LaterLabelEntry,
    StoredEntry,
    TableEntry,
    UserAttributesEntry,
    UserStateEntry,
)
from features.datasets.schema_files.problems import Key, Problem, problem_of
from features.datasets.schema_files.python_file import PythonFile
from features.datasets.schema_files.source_models import SourceEntry
from features.schema import (
    EXAMPLE_ID,
    REQUEST_TIME,
    Column,
    DeclarationError,
    DerivedId,
    FeatureTable,
    Immature,
    Kind,
    Label,
    Limits,
    Role,
    Schema,
)
from features.schema.aggregate_tables import Sources
from features.schema.derived_tables import attributes, item_daily, user_state


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set as its file declares it."""

    path: Path
    schema: Schema
    source: SourceEntry
    label_sources: Mapping[str, SourceEntry] = dataclasses.field(default_factory=dict)
    """Of the labels that come later, what their landed events look like."""


def read_data_set(path: Path) -> DataSet:
    """The data set of a schema file; SchemaFileError with a line for each thing that is wrong."""
    return read_entry(path)[1]


def read_entry(path: Path) -> tuple[DataSetEntry, DataSet]:
    """The same, with what the file says in its own words."""
    is_python = path.suffix == PYTHON
    text = PythonFile(path) if is_python else MarkedYaml(path)
    try:
        entry = DataSetEntry.model_validate(text.data)
    except ValidationError as error:
        found = [problem_of(one, is_python=is_python) for one in error.errors()]
        raise text.error(found) from None
    if problems := list(_problems(path, entry)):
        raise text.error(problems)
    builder = _Builder()
    try:
        schema = builder.schema(entry)
    except DeclarationError as error:
        raise text.error([Problem(builder.key_of(error), str(error))]) from None
    return entry, DataSet(path, schema, entry.source, _label_sources(entry))


class _Builder:
    """Makes a schema, and remembers which key has declared which column and which table."""

    def __init__(self) -> None:
        self._columns: dict[str, Key] = {}
        self._tables: dict[str, Key] = {}

    def key_of(self, error: DeclarationError) -> Key:
        """The key that has declared what is wrong."""
        field = {"dtype": "type"}.get(error.field, error.field)
        fields = tuple(int(p) if p.isdigit() else p for p in field.split(".")) if field else ()
        if error.column:
            return (*self._columns.get(error.column, ()), *fields)
        return (*self._tables.get(error.table, ()), *fields)

    def schema(self, entry: DataSetEntry) -> Schema:
        """The schema; DeclarationError for what no consumer could honour."""
        item = self._column(entry.item.name, entry.item, ("item",))
        user = self._column(entry.user.name, entry.user, ("user",)) if entry.user else None
        request = entry.request
        labels = tuple(_label(name, label) for name, label in entry.labels.items())
        context = self._columns_of(entry.context, ("context",))
        stored = self._columns_of(entry.stored, ("stored",))
        lengths = [t.history_length for t in entry.tables if isinstance(t, UserStateEntry)]
        label = next((one for one in labels if one.name == entry.target), labels[0])
        sources = Sources(
            labels={one.name: one for one in labels},
            columns={column.name: column for column in (*context, *stored)},
            context={column.name: column for column in context},
            user=user,
            item=item,
            attributes=self._attributes(entry.tables, UserAttributesEntry, ItemAttributesEntry),
            of_items=self._attributes(entry.tables, ItemAttributesEntry),
        )
        tables = [
            self._table(table, item, label, sources, ("tables", index))
            for index, table in enumerate(entry.tables)
        ]
        return Schema(
            name=entry.name,
            doc=entry.doc,
            licence=entry.licence,
            user=user,
            item=item,
            request=self._column(request.name, request, ("request",)) if request else None,
            context=context,
            stored=stored,
            time_context=tuple(entry.time_context),
            labels=labels,
            target=entry.target,
            tables=tuple(tables),
            limits=Limits(**dict(entry.limits)),
            history_length=max(lengths, default=0),
            epoch=entry.epoch,
            first_day=entry.first_day,
            last_day=entry.last_day,
            holdout_days=entry.holdout_days,
            item_title=entry.item_title or "",
            best_log_loss_column=entry.best_log_loss_column or "",
            example_id=_derived_id(entry),
        )

    def _table(
        self, entry: TableEntry, item: Column, label: Label, sources: Sources, key: Key
    ) -> FeatureTable:
        self._tables[entry.name if isinstance(entry, AggregatesEntry) else entry.kind] = key
        if isinstance(entry, AggregatesEntry):
            table = declared_table(entry, sources)
        elif isinstance(entry, UserStateEntry):
            table = user_state(
                item=item,
                label=label,
                history_length=entry.history_length,
                ttl=entry.ttl,
                delay=entry.delay,
                affinities=entry.affinities,
                attributes=sources.of_items,
            )
        elif isinstance(entry, ItemDailyEntry):
            windows = tuple(entry.windows_days)
            table = item_daily(label=label, windows_days=windows, ttl=entry.ttl, delay=entry.delay)
        else:
            role = Role.USER if entry.kind == "user_attributes" else Role.ITEM
            columns = self._columns_of(entry.columns, (*key, "columns"))
            return attributes(role, doc=entry.doc, columns=columns)
        # A column of this name that the file declares itself is the one to be renamed.
        for column in (*table.columns, *table.derived_columns):
            self._columns.setdefault(column.name, key)
        return table

    def _attributes(self, entries: Sequence[TableEntry], *kinds: type) -> dict[str, Column]:
        """Columns of attributes by name, which a table before theirs may keep in a history."""
        return {
            column.name: column
            for index, entry in enumerate(entries)
            if isinstance(entry, UserAttributesEntry | ItemAttributesEntry)
            if isinstance(entry, kinds)
            for column in self._columns_of(entry.columns, ("tables", index, "columns"))
        }

    def _columns_of(self, entries: Mapping[str, StoredEntry], key: Key) -> tuple[Column, ...]:
        return tuple(self._column(name, entry, (*key, name)) for name, entry in entries.items())

    def _column(self, name: str, entry: StoredEntry, key: Key) -> Column:
        self._columns[name] = key
        of_input = entry if isinstance(entry, ColumnEntry) else None
        return Column(
            name=name,
            dtype=entry.type,
            kind=of_input.kind if of_input else Kind.STORED,
            doc=entry.doc,
            unit=entry.unit,
            minimum=entry.minimum,
            maximum=entry.maximum,
            vocabulary=tuple(entry.vocabulary),
            num_ids=(of_input and of_input.num_ids) or 0,
            hash_size=(of_input and of_input.hash_size) or 0,
            is_nullable=entry.nullable,
            max_length=entry.max_length or 0,
            shares_table_with=(of_input and of_input.shares_table_with) or "",
            severity=entry.severity,
            neutral=entry.neutral if isinstance(entry, ContextEntry) else None,
        )


def _derived_id(entry: DataSetEntry) -> DerivedId | None:
    found = entry.example_id
    return DerivedId(keys=tuple(found.keys or ()), column=found.column or "") if found else None


def _label(name: str, entry: AnyLabel) -> Label:
    given = dict(entry)
    if isinstance(entry, LaterLabelEntry):
        del given["source"]
        given |= {"column": name, "positive_from": 1, "join": tuple(entry.join)}
        given["immature"] = Immature(**dict(entry.immature)) if entry.immature else None
    return Label(name=name, **given)


def _label_sources(entry: DataSetEntry) -> dict[str, SourceEntry]:
    later = {n: one for n, one in entry.labels.items() if isinstance(one, LaterLabelEntry)}
    return {name: label.source for name, label in later.items()}


def _problems(path: Path, entry: DataSetEntry) -> Iterator[Problem]:
    """What is wrong with the file and no rule of the schema."""
    if entry.name != path.stem:
        yield Problem(("name",), f"the name of the file, {path.stem}")
    of_tables = {
        name: table.kind
        for table in entry.tables
        if isinstance(table, UserAttributesEntry | ItemAttributesEntry)
        for name in table.columns
    }
    if entry.item_title and of_tables.get(entry.item_title) != "item_attributes":
        yield Problem(("item_title",), "a column of the table item_attributes")
    entities = {entity.name for entity in (entry.user, entry.item, entry.request) if entity}
    own_id = () if entry.example_id else (EXAMPLE_ID,)
    landed = sorted({*own_id, *entities, *entry.context, *entry.stored, *of_tables})
    for name in entry.source.columns:
        if name not in landed:
            yield Problem(("source", "columns", name), f"columns are {landed}")
    if entry.source.format:
        yield from _read_twice(entry)
    for name, label in entry.labels.items():
        if isinstance(label, LaterLabelEntry):
            yield from _of_label_source(("labels", name, "source"), label)
    limits = entry.limits
    if limits.min_positive_rate > limits.max_positive_rate:
        yield Problem(
            ("limits", "min_positive_rate"),
            f"not above max_positive_rate {limits.max_positive_rate:g}; no day would pass",
        )


def _of_label_source(key: Key, label: LaterLabelEntry) -> Iterator[Problem]:
    for name in label.source.columns:
        if name not in label.join:
            yield Problem((*key, "columns", name), f"join has {label.join}")
    yield from _same_column(key, label.source, (REQUEST_TIME.name, *label.join))


def _read_twice(entry: DataSetEntry) -> Iterator[Problem]:
    user = entry.user
    entities = [entity.name for entity in (user, entry.item, entry.request) if entity]
    own_id = () if entry.example_id else (EXAMPLE_ID,)
    files = [(REQUEST_TIME.name, *own_id, *entities, *entry.context, *entry.stored)]
    for table in entry.tables:
        if table.kind == "item_attributes":
            files.append((entry.item.name, *table.columns))
        elif table.kind == "user_attributes" and user:
            files.append((user.name, *table.columns))
    for columns in files:
        yield from _same_column(("source",), entry.source, columns)


def _same_column(key: Key, source: SourceEntry, columns: Iterable[str]) -> Iterator[Problem]:
    """Two columns that read one column of the same landed file: one of them is a slip."""
    readers: dict[str, str] = {}
    for name in columns:
        is_time = name == REQUEST_TIME.name
        landed = source.time.column if is_time else source.columns.get(name, name)
        first = readers.setdefault(landed, name)
        if first != name:
            named = next((one for one in (name, first) if one in source.columns), None)
            field = ("columns", named) if named else ("time", "column")
            said = f"{first} and {name} would both read the column {landed!r}"
            yield Problem((*key, *field), said)
