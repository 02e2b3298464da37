"""The feature reference, generated from the schemas: ``docs/features.md``."""

from collections.abc import Iterable

from features.schema import Column, Dtype, FeatureTable, Kind, Schema, TableKind

_HEAD = """# Features

Generated from the schemas by `make docs`; `features/schema/columns.py` says what the kinds mean. A
column of kind *stored* is kept and shown, and the model does not read it.
"""
_KINDS = {
    TableKind.STATE: "one row per entity and moment",
    TableKind.DAILY: "one row per entity and day, as of the day's end",
    TableKind.ATTRIBUTES: "one row per entity",
}


def reference(schemas: Iterable[Schema]) -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_section(schema) for schema in schemas)])


def _section(schema: Schema) -> str:
    label = schema.label
    lines = [
        f"## {schema.name}",
        "",
        schema.doc,
        "",
        f"- Licence: {schema.licence}",
        f"- Label: `{label.column}` of {label.positive_from:g} or more, known "
        f"{_span(label.delay.total_seconds())} after the impression",
        f"- Days: {schema.first_day} to {schema.last_day or 'now'}; holdout "
        f"{schema.holdout_days} days; fingerprint `{schema.fingerprint()}`",
        "",
        "### Impressions",
        "",
        *_table(schema.impression_columns()),
        "",
    ]
    time_context = [column for column in schema.columns() if column.name in schema.time_context]
    if time_context:
        lines += ["### From the request time", "", *_table(time_context), ""]
    for table in schema.tables:
        lines += _feature_table(table)
    return "\n".join(lines)


def _feature_table(table: FeatureTable) -> list[str]:
    held = "never expires" if table.ttl is None else f"expires after {table.ttl.days} days"
    counts = f"counts from {_span(table.delay.total_seconds())} after its event"
    return [
        f"### {table.name}",
        "",
        f"{table.doc} {_KINDS[table.kind].capitalize()}; {counts}; {held}.",
        "",
        *_table([*table.columns, *(bag.column for bag in table.bags)]),
        "",
    ]


def _table(columns: Iterable[Column]) -> list[str]:
    head = ["| column | type | kind | values | meaning |", "| --- | --- | --- | --- | --- |"]
    return head + [
        f"| `{column.name}` | {column.dtype} | {column.kind} | {_values(column)} | {column.doc} |"
        for column in columns
    ]


def _values(column: Column) -> str:
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
        parts.append(f"at most {column.max_length}")
    if column.kind is Kind.SPARSE and column.shares_table_with:
        parts.append(f"table of `{column.shares_table_with}`")
    if column.unit and column.dtype is not Dtype.TIMESTAMP:
        parts.append(column.unit)
    return ", ".join(parts)


def _span(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} seconds"
