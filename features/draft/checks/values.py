"""Values of landed files as DuckDB reads them, by the same rules as the job that ingests them."""

import csv
import json
from collections.abc import Iterator
from typing import IO

from features.draft.log.moments import moment_sql
from features.draft.log.sample import SEPARATORS, split_suffix, text
from features.places import place
from features.schema import Column, Dtype
from features.spark.landed_columns import opened

_NUMBER = r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*"
_NO_NUMBER = r"(?i)\s*[+-]?(nan|inf|infinity)\s*"
_MOST_LINES = 5_000_000


def typed(column: str, of: Column, *, unit: str | None, is_text: bool, separator: str) -> str:
    """A column of landed rows as its type in SQL; null for what cannot be read as that.

    Args:
        column: The landed column, in SQL.
        of: Its declaration.
        unit: Of a time that is a number.
        is_text: Whether the files have texts, or lists of texts.
        separator: Between the values of a list that is one text; empty where lists are lists.
    """
    if of.dtype is Dtype.TIMESTAMP:
        # A Parquet file has moments, with or without a zone.
        kind = "VARCHAR" if is_text else "TIMESTAMP WITH TIME ZONE"
        return moment_sql(column, unit=unit, kind=kind)
    if not is_text:
        return column
    if of.dtype.is_list:
        return _list(column, of, separator)
    return {Dtype.INT64: _whole, Dtype.FLOAT64: _float}.get(of.dtype, str)(column)


def _whole(value: str) -> str:
    """``1995`` and ``1995.0`` are the integer 1995; ``1995.5`` is none."""
    number = f"try_cast(trim({value}) AS DECIMAL(38, 18))"
    return (
        f"CASE WHEN regexp_full_match({value}, '{_NUMBER}') THEN coalesce("
        f"CASE WHEN {number} = floor({number}) THEN try_cast({number} AS BIGINT) END, "
        f"CASE WHEN regexp_full_match({value}, '\\s*[+-]?[0-9]+\\s*') "
        f"THEN try_cast(trim({value}) AS BIGINT) END) END"
    )


def _float(value: str) -> str:
    number = (
        f"regexp_full_match({value}, '{_NUMBER}') OR regexp_full_match({value}, '{_NO_NUMBER}')"
    )
    return f"CASE WHEN {number} THEN try_cast(trim({value}) AS DOUBLE) END"


def _list(value: str, of: Column, separator: str) -> str:
    parts = value
    if separator:
        # Without a text a list is empty, and missing only where it may be.
        whole = value if of.is_nullable else f"coalesce({value}, '')"
        split = f"list_transform(string_split({whole}, {text(separator)}), x -> trim(x))"
        parts = f"list_filter({split}, x -> x <> '')"
    numbers = {Dtype.INT64_LIST: _whole, Dtype.FLOAT64_LIST: _float}.get(of.dtype)
    return f"list_transform({parts}, x -> {numbers('x')})" if numbers else parts


def where(file: str, column: str, value: str) -> str:
    """The file and the line that has a value, as far as a look from its begin finds it."""
    path = place(file)
    short = "/".join(path.parts[-2:])
    kind, _ = split_suffix(path)
    if kind not in {*SEPARATORS, "jsonl"}:
        return short
    with opened(path, errors="replace", newline="") as content:
        for number, found in _column(content, kind, column):
            if found == value:
                return f"{short}, line {number}"
            if number > _MOST_LINES:
                break
    return short


def _column(content: IO[str], kind: str, column: str) -> Iterator[tuple[int, str | None]]:
    """The values of one column with their lines, from 1 on."""
    if kind == "jsonl":
        for number, line in enumerate(content, start=1):
            try:
                found = json.loads(line).get(column)
            except (ValueError, AttributeError):
                continue
            yield number, found if isinstance(found, str) else json.dumps(found)
        return
    reader = csv.reader(content, delimiter=SEPARATORS[kind])
    header = next(reader, [])
    at = header.index(column) if column in header else len(header)
    for row in reader:
        yield reader.line_num, row[at] if at < len(row) else None
