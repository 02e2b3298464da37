"""What a schema must declare so that no impression's inputs depend on its own label.

A feature row is visible from its ``created`` on, that moment included: offline in
``features.pipeline.point_in_time``, online where stored rows are encoded. So nothing may be created
at the moment of an impression that already knows of it:

- a state row becomes true at the impressions that it counts, and is visible a table's ``delay``
  later, which must be above zero; their labels follow the label's delay after that;
- a daily row counts what was known before its event, the day's end, and a state row whose delay
  counts from there is later than its event anyway: a delay of zero will do;
- what is known only after the request (the label, and what it is drawn from) is stored with the
  impression, and is never an input.
"""

import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from features.schema.schema import Schema
    from features.schema.tables import FeatureTable

_NONE = datetime.timedelta(0)


def check_label_leaks(schema: "Schema") -> None:
    """ValueError with the field, its value and the limit, where a label could reach an input."""
    if schema.label.delay < _NONE:
        raise ValueError(
            f"schema {schema.name}: label delay {_seconds(schema.label.delay)}; no label is known "
            "before its impression, so at least 0 s"
        )
    for table in schema.tables:
        _check_delay(table, schema.label.delay)
    _check_stored(schema)


def _check_delay(table: "FeatureTable", label_delay: datetime.timedelta) -> None:
    if table.delay < _NONE:
        raise ValueError(
            f"table {table.name}: delay {_seconds(table.delay)}; no row is known before its event, "
            "so at least 0 s"
        )
    if table.kind == "state" and table.delay == _NONE and not table.counts_from_day_end:
        raise ValueError(
            f"table {table.name}: delay 0 s, label delay {_seconds(label_delay)}; a row would be "
            "visible at the very impression that it counts, so the table's delay must be above 0 s"
        )


def _check_stored(schema: "Schema") -> None:
    inputs = [column.name for column in schema.stored if column.kind != "stored"]
    if inputs:
        raise ValueError(
            f"schema {schema.name}: stored columns {inputs} are inputs; what is known only after "
            "the request must be of kind stored"
        )
    stored = {column.name for column in schema.stored}
    for name in (schema.label.column, schema.best_log_loss_column):
        if name and name not in stored:
            raise ValueError(
                f"schema {schema.name}: {name!r} tells the label and is not among its stored "
                f"columns {sorted(stored)}, which are never inputs"
            )


def _seconds(span: datetime.timedelta) -> str:
    return f"{span.total_seconds():g} s"
