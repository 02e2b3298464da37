"""What must hold of a schema as a whole: names, days, and that no label reaches an input."""

import datetime
from typing import TYPE_CHECKING

from features.schema.columns import TIME_CONTEXT, DeclarationError, Kind
from features.schema.tables import FeatureTable, Role, TableKind

if TYPE_CHECKING:
    from features.schema.schema import Schema

_NONE = datetime.timedelta(0)


def check_names(schema: "Schema") -> None:
    """DeclarationError for a name that is there twice, or that is of nothing."""
    names = [column.name for column in schema.columns()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DeclarationError(
            f"schema {schema.name}: columns {repeated} are declared twice", column=repeated[0]
        )
    tables = [table.name for table in schema.tables]
    for table in schema.tables:
        if tables.count(table.name) > 1:
            raise DeclarationError(f"table {table.name}: is declared twice", table=table.name)
        if table.role is Role.USER and schema.user is None:
            raise DeclarationError(
                f"table {table.name}: is of users, and schema {schema.name} has no user",
                table=table.name,
            )
    for column in schema.columns():
        if column.shares_table_with and column.shares_table_with not in names:
            raise DeclarationError(
                f"column {column.name}: shares_table_with {column.shares_table_with!r} is no "
                f"column of schema {schema.name}",
                column=column.name,
                field="shares_table_with",
            )
    unknown = sorted(set(schema.time_context) - {column.name for column in TIME_CONTEXT})
    if unknown:
        raise ValueError(f"schema {schema.name}: time_context {unknown} is not defined")


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
    if schema.label.delay < _NONE:
        raise ValueError(
            f"schema {schema.name}: label delay {_seconds(schema.label.delay)}; no label is known "
            "before its impression, so at least 0 s"
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
        "label.column": schema.label.column,
        "best_log_loss_column": schema.best_log_loss_column,
    }
    for field, name in of_label.items():
        if name and name not in stored:
            raise DeclarationError(
                f"schema {schema.name}: {name!r} tells the label and is not among its stored "
                f"columns {sorted(stored)}, which are never inputs",
                field=field,
            )


def _seconds(span: datetime.timedelta) -> str:
    return f"{span.total_seconds():g} s"
