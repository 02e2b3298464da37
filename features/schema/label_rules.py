"""What must hold of labels: of their names, their columns, and of what comes later."""

from typing import TYPE_CHECKING

from features.schema.columns import LABEL, REQUEST_TIME, DeclarationError, Dtype
from features.schema.rules import OWN_NAMES

if TYPE_CHECKING:
    from features.schema.labels import Label
    from features.schema.schema import Schema

_JOINED = (Dtype.INT64, Dtype.STRING)


def check_labels(schema: "Schema") -> None:
    """DeclarationError for a label that is there twice, or a target that is none of them."""
    names = [label.name for label in schema.labels]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DeclarationError(
            f"schema {schema.name}: labels {repeated} are declared twice", field="labels"
        )
    if schema.target not in names:
        raise DeclarationError(
            f"schema {schema.name}: target {schema.target!r} is not among its labels {names}",
            field="target",
        )


def check_later_labels(schema: "Schema") -> None:
    """DeclarationError for a label that could not be joined; and for a type that has no order.

    Raises:
        DeclarationError: The label has the name of a column, or is joined by a column that is not
            there, may be missing, or is of a type whose values are not compared.
    """
    counted = {"impressions", *(column.name for column in schema.context)}
    for label in schema.labels:
        if label.name in counted:
            raise DeclarationError(
                f"schema {schema.name}: label {label.name} has the name of what is known with the "
                f"request; not one of {sorted(counted)}, or an aggregate could mean either",
                field=f"labels.{label.name}",
            )
        if label.immature and label.name != schema.target:
            raise DeclarationError(
                f"schema {schema.name}: label {label.name} says how to learn it before it is "
                f"final, and is not the target, {schema.target}",
                field=f"labels.{label.name}.immature",
            )
        if label.comes_later:
            _check_name(schema, label)
            _check_join(schema, label)
        else:
            _check_label_type(schema, label)


def _check_name(schema: "Schema", label: "Label") -> None:
    taken = {column.name for column in schema.columns()} | {LABEL, *OWN_NAMES}
    if label.name in taken:
        raise DeclarationError(
            f"schema {schema.name}: label {label.name} comes later and has the name of a column; "
            "impressions get a column of its name when they are joined with its events",
            field=f"labels.{label.name}",
        )


def _check_join(schema: "Schema", label: "Label") -> None:
    columns = {column.name: column for column in schema.impression_columns()}
    del columns[REQUEST_TIME.name]
    for name in label.join:
        column = columns.get(name)
        if column is None:
            raise DeclarationError(
                f"schema {schema.name}: label {label.name} is joined by {name!r}, which is no "
                f"column of an impression; those are {list(columns)}",
                field=f"labels.{label.name}.join",
            )
        if column.dtype not in _JOINED or column.is_nullable:
            raise DeclarationError(
                f"schema {schema.name}: label {label.name} is joined by {name!r} of type "
                f"{column.dtype}{', nullable' if column.is_nullable else ''}; "
                f"{' or '.join(_JOINED)}, not nullable",
                field=f"labels.{label.name}.join",
            )
    if len(set(label.join)) < len(label.join):
        raise DeclarationError(
            f"schema {schema.name}: label {label.name} is joined by {list(label.join)}; each "
            "column once",
            field=f"labels.{label.name}.join",
        )


def _check_label_type(schema: "Schema", label: "Label") -> None:
    """A label of text has no order, one that is missing is neither; ratings are added as whole."""
    column = next(column for column in schema.stored if column.name == label.column)
    types = (Dtype.INT64,) if label.has_rating else (Dtype.INT64, Dtype.FLOAT64)
    if column.dtype not in types or column.is_nullable:
        raise DeclarationError(
            f"schema {schema.name}: label column {column.name!r} is of type {column.dtype}"
            f"{', nullable' if column.is_nullable else ''}; {' or '.join(types)}, not nullable"
            f"{' (has_rating adds whole ratings)' if label.has_rating else ''}",
            field=f"labels.{label.name}.column",
        )
