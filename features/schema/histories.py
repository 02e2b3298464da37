"""Declared histories: the list columns of the last impressions of a key.

``features.pipeline.tables.history_rows`` computes them. The lists of one history have the same
length: the same place in each is of the same impression, the first of the newest.
"""

from collections.abc import Iterator, Mapping

from features.schema.columns import Column, DeclarationError, Dtype, Kind
from features.schema.labels import Label
from features.schema.tables import AGE, IMPRESSIONS, History


def columns_of(history: History, kept: Mapping[str, Column]) -> Iterator[Column]:
    """The columns of a history.

    Args:
        history: It; ``check`` has passed it.
        kept: By name the columns of an impression that a history may keep.
    """
    of_all = "impressions" if history.of == IMPRESSIONS else f"impressions with {history.of}"
    last = f"the last {history.length} {of_all}, newest first"
    for name in history.columns:
        if name == AGE:
            yield Column(
                name=f"{history.name}_{AGE}",
                dtype=Dtype.INT64_LIST,
                kind=Kind.AGE,
                max_length=history.length,
                unit="microseconds since 1970, UTC",
                doc=f"Moments of {last}; each enters the model as seconds before the request.",
            )
            continue
        source = kept[name]
        yield Column(
            name=f"{history.name}_{name}",
            dtype=Dtype.list_of(source.dtype),
            kind=Kind.SPARSE,
            max_length=history.length,
            shares_table_with=source.shares_table_with or source.name,
            doc=f"{name} of {last}.",
        )


def check(
    table: str, history: History, labels: Mapping[str, Label], kept: Mapping[str, Column]
) -> None:
    """DeclarationError where a history is of nothing, or keeps what it cannot.

    Args:
        table: Name of its table.
        history: It.
        labels: Of which positives it may be, by name.
        kept: By name the columns of an impression that it may keep.
    """
    known = sorted({IMPRESSIONS, *labels})
    if history.of not in known:
        raise _error(table, history, "of", f"of {history.of!r}; a history is of one of {known}")
    if AGE in kept and AGE in history.columns:
        raise _error(
            table,
            history,
            f"columns.{history.columns.index(AGE)}",
            f"columns {AGE!r} is how long an impression is ago, and the schema has a column of "
            "this name; rename that one",
        )
    for place, name in enumerate(history.columns):
        is_repeated = name in history.columns[:place]
        if is_repeated or (name != AGE and name not in kept):
            raise _error(
                table,
                history,
                f"columns.{place}",
                f"columns {name!r}{' twice' if is_repeated else ''}; each one of "
                f"{sorted({AGE, *kept})}, which are {AGE}, ids, context and attributes that are "
                "sparse and no lists",
            )


def _error(table: str, history: History, field: str, reason: str) -> DeclarationError:
    return DeclarationError(
        f"table {table}, history {history.name}: {reason}",
        table=table,
        field=f"histories.{history.name}.{field}",
    )
