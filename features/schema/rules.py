"""What must hold of a schema as a whole: names, days, and that no label reaches an input."""

import datetime
import re
from typing import TYPE_CHECKING

from features.schema.columns import (
    CREATED,
    DAY,
    DENSE_KINDS,
    EVENT_TIMESTAMP,
    EXAMPLE_ID,
    EXAMPLE_KEY,
    LABEL,
    REQUEST_TIME,
    SOURCE_FILE,
    SOURCE_LINE,
    TIME_CONTEXT,
    Column,
    DeclarationError,
    Dtype,
    Kind,
)
from features.schema.tables import FeatureTable, Role, TableKind

if TYPE_CHECKING:
    from features.schema.schema import Schema

_NONE = datetime.timedelta(0)
_OWN_TABLES = ("impressions", "impressions_raw", "examples")
"""The lake's, besides ``labels_…``, ``quarantine_…`` and ``…_end_of_day``."""
OWN_NAMES = {
    DAY: "the day that every table is partitioned by",
    EXAMPLE_ID: "the id of an impression, which the log has or example_id derives",
    EXAMPLE_KEY: "the text of which the id of an impression is derived",
    CREATED: "when a feature row counts",
    EVENT_TIMESTAMP: "when a feature row became true",
    SOURCE_FILE: "the file in which an impression landed",
    SOURCE_LINE: "the line at which an impression landed",
    REQUEST_TIME.name: "the moment of an impression; source.time says where that is read",
}
"""What the pipeline's own columns are, by their names."""


def check_names(schema: "Schema") -> None:
    """DeclarationError for a name that is there twice, is the pipeline's own, or is of nothing."""
    _check_own_names(schema)
    _check_ids(schema)
    names = [column.name for column in schema.columns()]
    # The inputs of a list of numbers have names of their own.
    lists = [column for column in schema.inputs(*DENSE_KINDS) if column.dtype.is_list]
    names += [name for column in lists for name in column.dense_names]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DeclarationError(
            f"schema {schema.name}: columns {repeated} are declared twice", column=repeated[0]
        )
    tables = [table.name for table in schema.tables]
    for table in schema.tables:
        if tables.count(table.name) > 1:
            raise DeclarationError(f"table {table.name}: is declared twice", table=table.name)
        if table.name in _OWN_TABLES or re.match("labels_|quarantine_|.*_end_of_day$", table.name):
            raise DeclarationError(
                f"table {table.name}: the lake has a table of this name itself; choose another",
                table=table.name,
                field="name",
            )
        if table.role is Role.USER and schema.user is None:
            raise DeclarationError(
                f"table {table.name}: is of users, and schema {schema.name} has no user",
                table=table.name,
            )
    _check_shared_tables(schema)
    for column in schema.context:
        is_dense_list = column.dtype.is_list and column.kind in DENSE_KINDS
        if column.dtype is Dtype.FLOAT64_LIST or is_dense_list:
            raise DeclarationError(
                f"column {column.name}: {column.dtype} in context; a request has no lists, so an "
                "attribute of the user or the item",
                column=column.name,
                field="dtype",
            )
    unknown = sorted(set(schema.time_context) - {column.name for column in TIME_CONTEXT})
    if unknown:
        raise ValueError(f"schema {schema.name}: time_context {unknown} is not defined")


def _check_own_names(schema: "Schema") -> None:
    own = dict(OWN_NAMES)
    for table in schema.tables:
        own[table.missing_indicator] = f"the input that says whether {table.name} has a row"
        own[table.timestamp_column] = f"when the row of {table.name} became true"
        own[table.visible_at_column] = f"from when the row of {table.name} counts"
        own[table.earlier_column] = f"the row of {table.name} before it"
        if table.by:
            own[table.of] = f"the key of {table.name}"
    if not _is_label(schema):
        own[LABEL] = (
            "1 or 0 for a positive or negative impression; a column may have this name where it is "
            f"stored, is of the target, of type {Dtype.INT64} from 0 to 1, and positive from 1"
        )
    for column in schema.columns():
        if column.name in own and column is not REQUEST_TIME:
            raise DeclarationError(
                f"column {column.name}: the pipeline has a column of this name itself, "
                f"{own[column.name]}; choose another name",
                column=column.name,
            )


def _check_ids(schema: "Schema") -> None:
    """The online store has keys of these types alone; a UUID is a text."""
    for role, column in schema.entities():
        if column.dtype not in {Dtype.INT64, Dtype.STRING}:
            raise DeclarationError(
                f"column {column.name}: type {column.dtype}; the id of {role}s must be of type "
                f"{Dtype.INT64} or {Dtype.STRING}",
                column=column.name,
                field="dtype",
            )


def _is_label(schema: "Schema") -> bool:
    """Whether the stored column ``label`` has the very values that examples have there."""
    return schema.label.column == LABEL and any(
        (column.name, column.dtype, column.minimum, column.maximum) == (LABEL, Dtype.INT64, 0, 1)
        and schema.label.positive_from == 1
        for column in schema.stored
    )


def _check_shared_tables(schema: "Schema") -> None:
    """An embedding table has one owner, a sparse column of the same ids as who looks them up."""
    columns = {column.name: column for column in schema.columns()}
    for column in columns.values():
        if not column.shares_table_with:
            continue
        if reason := _why_not_shared(column, columns.get(column.shares_table_with)):
            raise DeclarationError(
                f"column {column.name}: shares_table_with {column.shares_table_with!r} {reason}",
                column=column.name,
                field="shares_table_with",
            )


def _why_not_shared(column: Column, owner: Column | None) -> str:
    if owner is None:
        return "is no column of the schema"
    if column.kind is not Kind.SPARSE:
        return f"on a column of kind {column.kind}; only a sparse column has an embedding table"
    if owner.kind is not Kind.SPARSE:
        return f"is of kind {owner.kind}; only a sparse column has an embedding table"
    if owner.shares_table_with:
        return f"has no table of its own: it shares that of {owner.shares_table_with!r}"
    if owner.dtype.element is not column.dtype.element:
        return f"has ids of type {owner.dtype.element}, not {column.dtype.element}"
    return ""


def check_example_id(schema: "Schema") -> None:
    """DeclarationError where the ids of impressions are derived from what no impression has."""
    names = [column.name for column in schema.impression_columns()]
    keys = schema.example_id.keys if schema.example_id else ()
    for place, key in enumerate(keys):
        if key not in names or keys.index(key) < place:
            raise DeclarationError(
                f"schema {schema.name}: {key!r} is {'there twice' if key in names else 'unknown'}; "
                f"each one of the columns of an impression, {names}, once",
                field=f"example_id.from.{place}",
            )


def check_days(schema: "Schema") -> None:
    """DeclarationError for days that are in no order."""
    if schema.last_day is not None and schema.last_day < schema.first_day:
        raise DeclarationError(
            f"schema {schema.name}: last_day {schema.last_day}; not before first_day "
            f"{schema.first_day}",
            field="last_day",
        )
    if schema.epoch > schema.first_day:
        raise DeclarationError(
            f"schema {schema.name}: epoch {schema.epoch}; not after first_day {schema.first_day}, "
            "for attributes hold since the epoch",
            field="epoch",
        )


def check_request(schema: "Schema") -> None:
    """DeclarationError for an id of requests that is an input, may be missing, or is no id."""
    request = schema.request
    if request is None:
        return
    is_id = request.dtype in (Dtype.INT64, Dtype.STRING) and not request.is_nullable
    if not is_id or request.kind is not Kind.STORED:
        raise DeclarationError(
            f"column {request.name}: kind {request.kind}, type {request.dtype}"
            f"{', nullable' if request.is_nullable else ''}; a request's id is stored, of type "
            f"{Dtype.INT64} or {Dtype.STRING}, not nullable",
            column=request.name,
            field="dtype",
        )


def check_label_leaks(schema: "Schema") -> None:
    """ValueError with the field, its value and the limit, where a label could reach an input.

    A feature row is visible from its ``created`` on, that moment included: offline in
    ``features.pipeline.point_in_time``, online where stored rows are encoded. So nothing may be
    created at the moment of an impression that already knows of it:

    - a state row becomes true at the impressions that it counts, and is visible a table's ``delay``
      later, which must be above zero; their labels follow the label's delay after that;
    - a daily row counts what was known before its event, the day's end, and a state row whose delay
      counts from there is later than its event anyway: a delay of zero will do;
    - what is known only after the request (the label, and what it is drawn from) is stored with the
      impression, and is never an input.
    """
    for label in schema.labels:
        if label.delay < _NONE:
            raise ValueError(
                f"schema {schema.name}: label {label.name}: delay {_seconds(label.delay)}; no "
                "label is known before its impression, so at least 0 s"
            )
    for table in schema.tables:
        _check_delay(table, schema.label.delay)
    _check_stored(schema)


def _check_delay(table: FeatureTable, label_delay: datetime.timedelta) -> None:
    if table.delay < _NONE:
        raise DeclarationError(
            f"table {table.name}: delay {_seconds(table.delay)}; no row is known before its event, "
            "so at least 0 s",
            table=table.name,
            field="delay",
        )
    if table.kind is TableKind.STATE and table.delay == _NONE and not table.counts_from_day_end:
        raise DeclarationError(
            f"table {table.name}: delay 0 s, label delay {_seconds(label_delay)}; a row would be "
            "visible at the very impression that it counts, so the table's delay must be above 0 s",
            table=table.name,
            field="delay",
        )


def _check_stored(schema: "Schema") -> None:
    inputs = [column.name for column in schema.stored if column.kind is not Kind.STORED]
    if inputs:
        raise ValueError(
            f"schema {schema.name}: stored columns {inputs} are inputs; what is known only after "
            "the request must be of kind stored"
        )
    stored = {column.name for column in schema.stored}
    of_label = {
        f"labels.{label.name}.column": label.column
        for label in schema.labels
        if not label.comes_later
    }
    of_label["best_log_loss_column"] = schema.best_log_loss_column
    for field, name in of_label.items():
        if name and name not in stored:
            raise DeclarationError(
                f"schema {schema.name}: {name!r} tells the label and is not among its stored "
                f"columns {sorted(stored)}, which are never inputs",
                field=field,
            )


def _seconds(span: datetime.timedelta) -> str:
    return f"{span.total_seconds():g} s"
