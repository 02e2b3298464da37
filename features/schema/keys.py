"""Keys of declared tables: which columns may make one, and the text that two of them make.

``features.pipeline.tables.keys`` makes the same keys in Spark.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from features.schema.columns import Column, DeclarationError, Dtype, Kind
from features.schema.tables import FeatureTable, Role, TableKind

if TYPE_CHECKING:
    from features.schema.schema import Schema

SEPARATOR, ESCAPE = "|", "\\"
MOST_COLUMNS = 2


def pair_key(first: int | str | None, second: int | str | None) -> str | None:
    """The key of two values, ``a|b``; None where one is missing.

    Within the values a bar and a backslash have a backslash before them, so that different pairs
    have different keys.
    """
    if first is None or second is None:
        return None
    return SEPARATOR.join(_escaped(str(value)) for value in (first, second))


def parts_of_key(key: str) -> list[str]:
    """The texts of the two values that ``pair_key`` has made a key of."""
    parts, position = [""], 0
    while position < len(key):
        if key[position] == SEPARATOR:
            parts.append("")
        else:
            position += key[position] == ESCAPE
            parts[-1] += key[position]
        position += 1
    return parts


def _escaped(text: str) -> str:
    return text.replace(ESCAPE, ESCAPE + ESCAPE).replace(SEPARATOR, ESCAPE + SEPARATOR)


def keys_of(columns: Sequence[Sequence[int | str | None]]) -> list[int | str | None]:
    """The key of each row from the values of its one or two columns."""
    if len(columns) == 1:
        return list(columns[0])
    return [pair_key(first, second) for first, second in zip(*columns, strict=True)]


def key_sources(schema: "Schema") -> dict[str, Column]:
    """The columns that a request has, or finds by its ids: of these a key is made."""
    attributes = (
        column
        for table in schema.tables
        if table.kind is TableKind.ATTRIBUTES
        for column in table.columns
    )
    entities = (column for _, column in schema.entities())
    return {column.name: column for column in (*entities, *schema.context, *attributes)}


def small_keys(schema: "Schema") -> list[str]:
    """The keys of declared tables that are made of no id, and so have few values.

    The endpoint holds their rows in memory, with those of the items.
    """
    ids = {column.name for _, column in schema.entities()}
    return list(dict.fromkeys(t.of for t in schema.tables if t.by and not ids.intersection(t.by)))


def attributes_read(schema: "Schema", table: FeatureTable) -> list[FeatureTable]:
    """The tables of attributes whose columns a table's key, histories or affinities are made of."""
    return [
        other
        for other in schema.tables
        if other.kind is TableKind.ATTRIBUTES
        and any(column.name in table.reads for column in other.columns)
    ]


def key_column(schema: "Schema", table: FeatureTable) -> Column:
    """The column of the key of a table that has one of its own."""
    sources = key_sources(schema)
    of = [sources[name] for name in table.by]
    doc = f"Key made of {' and '.join(table.by)}."
    if len(of) > 1:
        return Column(name=table.of, dtype=Dtype.STRING, kind=Kind.STORED, doc=doc)
    return Column(
        name=table.of,
        dtype=of[0].dtype,
        kind=Kind.STORED,
        doc=doc,
        minimum=of[0].minimum,
        maximum=of[0].maximum,
    )


def check_keys(schema: "Schema") -> None:
    """DeclarationError for a key that a request could not make."""
    sources, ids = key_sources(schema), [column for _, column in schema.entities()]
    stored = {column.name for column in schema.stored}
    for table in schema.tables:
        if (table.role is Role.CANDIDATE) != bool(table.by):
            raise _error(table, f"role {table.role} with by {list(table.by)}")
        if len(table.by) > MOST_COLUMNS or len(set(table.by)) != len(table.by):
            raise _error(table, f"by {list(table.by)}; one column, or two different ones")
        for name in table.by:
            if name in stored:
                raise _error(table, f"by {name!r}, which is known only after the request")
            if name not in sources:
                raise _error(table, f"by {name!r}; one of {sorted(sources)}")
            _check_source(table, sources[name], is_id=sources[name] in ids)
    by_key: dict[str, FeatureTable] = {}
    for table in (one for one in schema.tables if one.by):
        first = by_key.setdefault(table.of, table)
        if first.by != table.by:
            raise _error(
                table,
                f"by {list(table.by)} and by {list(first.by)} of {first.name} have one name, "
                f"{table.of}; rename a column",
            )


def _check_source(table: FeatureTable, column: Column, *, is_id: bool) -> None:
    if column.dtype not in {Dtype.INT64, Dtype.STRING}:
        raise _error(
            table,
            f"by {column.name!r} of type {column.dtype}; a key has one value, of type "
            f"{Dtype.INT64} or {Dtype.STRING}",
        )
    if column.kind is not Kind.SPARSE and not is_id:
        raise _error(table, f"by {column.name!r} of kind {column.kind}; sparse, as an id is")


def _error(table: FeatureTable, reason: str) -> DeclarationError:
    return DeclarationError(f"table {table.name}: {reason}", table=table.name, field="by")
