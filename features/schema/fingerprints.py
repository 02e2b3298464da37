"""Short hashes of what a schema declares, by which what was made under it is recognised."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from features.schema.columns import Column
    from features.schema.labels import Label
    from features.schema.schema import Schema

_LEFT_OUT = {"doc", "unit", "severity", "licence", "limits"}
"""To reword a description, or to move a limit, changes no row and no input."""
_OF_LABELS = {"labels", "target"}
_LEFT_OUT_WITHOUT_VALUE = {
    *("example_id", "request", "neutral", "by", "aggregates", "histories", "affinities")
}
"""Without them a declaration is what it was before there were such fields."""


def digest(value: object) -> str:
    """Sixteen hexadecimal digits of a declaration: dataclasses, tuples, mappings, plain values."""
    content = json.dumps(_plain(value), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def fingerprint(schema: "Schema") -> str:
    """Changes with whatever shapes an input of the model, and with what it learns."""
    own = {name: value for name, value in _fields(schema).items() if name not in _OF_LABELS}
    return digest(own | _labels(schema))


def _labels(schema: "Schema") -> dict[str, object]:
    """The target, which may be renamed; and the others by their names, which features may count."""
    others = {one.name: _label(one) for one in schema.labels if one is not schema.label}
    return {"label": _label(schema.label), **({"labels": others} if others else {})}


def _label(label: "Label") -> dict[str, object]:
    # What is learnt before it is final changes neither a mature row nor an input.
    left_out = {"name", "immature"} | (set() if label.comes_later else {"join", "window"})
    fields = [field.name for field in dataclasses.fields(label)]
    return {name: getattr(label, name) for name in fields if name not in left_out}


def rows_fingerprint(schema: "Schema") -> str:
    """Changes with whatever shapes the rows of features and examples in the lake.

    How a stored value is encoded is left out: a larger embedding table makes no row stale.
    """
    tables = tuple(
        (
            (table.name, table.kind, table.role, table.ttl, table.windows_days),
            (table.delay, table.counts_from_day_end),
            tuple(map(_stored, table.columns)),
            *((table.by, table.aggregates) if table.is_declared else ()),
            *((table.histories,) if table.histories else ()),
        )
        for table in schema.tables
    )
    labels = _labels(schema)
    own = (labels.pop("label"), schema.history_length, schema.epoch, *labels.values())
    return digest((impressions_fingerprint(schema), tables, own))


def impressions_fingerprint(schema: "Schema") -> str:
    """As ``rows_fingerprint``, of the impressions alone: a new feature leaves the log as it is."""
    columns = tuple(map(_stored, schema.impression_columns()))
    return digest((columns, schema.example_id) if schema.example_id else columns)


def events_fingerprint(schema: "Schema", label: "Label") -> str:
    """As ``rows_fingerprint``, of the events of a label that comes later."""
    return digest(tuple(map(_stored, schema.event_columns(label))))


def _stored(column: "Column") -> tuple[str, str, int]:
    return column.name, column.dtype, column.max_length


def _fields(declaration: "DataclassInstance") -> dict[str, object]:
    """The fields of a declaration that shape rows or inputs."""
    fields = {one.name: getattr(declaration, one.name) for one in dataclasses.fields(declaration)}
    return {
        name: value
        for name, value in fields.items()
        if name not in _LEFT_OUT and not (name in _LEFT_OUT_WITHOUT_VALUE and value in (None, ()))
    }


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(of_field) for name, of_field in _fields(value).items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value if isinstance(value, int | float | bool | str | None) else str(value)
