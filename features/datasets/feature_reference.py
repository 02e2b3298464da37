"""The feature reference, generated from the schemas: ``docs/features.md``."""

import datetime
from collections.abc import Iterable
from pathlib import Path

from features.pages import site
from features.schema import Column, Dtype, Kind, Schema, TableKind

_TEMPLATE = Path(__file__).with_name("features.md.j2")
_KINDS = {
    TableKind.STATE: "One row per entity and moment",
    TableKind.DAILY: "One row per entity and day, as of the day's end",
    TableKind.ATTRIBUTES: "One row per entity, and one from each change on",
}


def reference(schemas: Iterable[Schema]) -> str:
    """The whole page."""
    return site.markdown(
        _TEMPLATE, schemas=schemas, kinds=_KINDS, span=_span, values=values_in_words
    )


def values_in_words(column: Column) -> str:
    """What a value of a column may be."""
    parts = []
    if column.vocabulary:
        parts.append(f"{len(column.vocabulary)} known")
    if column.num_ids:
        parts.append(f"ids below {column.num_ids}")
    if column.hash_size:
        parts.append(f"hashed to {column.hash_size}")
    if column.minimum is not None or column.maximum is not None:
        low = "" if column.minimum is None else f"{column.minimum:g}"
        high = "" if column.maximum is None else f"{column.maximum:g}"
        parts.append(f"{low} to {high}" if high else f"from {low}")
    if column.dtype.is_list:
        many = "exactly" if column.dtype is Dtype.FLOAT64_LIST else "at most"
        parts.append(f"{many} {column.max_length}")
    if column.kind is Kind.SPARSE and column.shares_table_with:
        parts.append(f"table of `{column.shares_table_with}`")
    if column.unit and column.dtype is not Dtype.TIMESTAMP:
        parts.append(column.unit)
    return ", ".join(parts)


def _span(span: datetime.timedelta) -> str:
    seconds = span.total_seconds()
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} seconds"
