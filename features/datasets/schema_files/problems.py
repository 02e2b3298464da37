"""What is wrong with the values of a schema file, in words that are the same for all its forms."""

from typing import NamedTuple

from pydantic_core import ErrorDetails

from features.datasets.schema_files.entry import UNKNOWN_KEY
from features.datasets.schema_files.models import KINDS_OF_LABELS, KINDS_OF_TABLES

Key = tuple[str | int, ...]
"""Where a value is: the keys of mappings and the indices of lists that lead to it."""


class Problem(NamedTuple):
    """What is wrong with one value."""

    key: Key
    expected: str


class SchemaFileError(ValueError):
    """A file that is no schema; a line of the text for each thing that is wrong."""


def problem_of(error: ErrorDetails, *, is_python: bool = False) -> Problem:
    """What pydantic found, with the key as the file has it.

    Args:
        error: One of its errors.
        is_python: Whether the file is Python, where a date and a text are written otherwise.
    """
    kind, context = error["type"], error.get("ctx", {})
    key = _key(error["loc"])
    if kind == UNKNOWN_KEY:
        return Problem((*key, str(context["key"])), error["msg"])
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return Problem((*key, "kind"), f"expected one of {list(KINDS_OF_TABLES)}")
    said = error["msg"].replace("Input should be ", "expected ")
    if kind == "missing":
        said = "this key is required"
    elif kind in {"dict_type", "model_type", "model_attributes_type"}:
        said = "expected a mapping of keys to values"
    elif kind == "date_type":
        date = "datetime.date(2025, 1, 31)" if is_python else "2025-01-31"
        said = f"expected a date such as {date}"
    elif kind == "string_type":
        said = "expected a text" + ("" if is_python else "; put it into quotes")
    return Problem(key, said[0].lower() + said[1:])


def _key(loc: tuple[str | int, ...]) -> Key:
    """Without what pydantic adds: a table's or label's kind, and what is wrong in a key."""
    kinds = (
        {"tables": KINDS_OF_TABLES, "labels": KINDS_OF_LABELS}.get(str(loc[0]), ()) if loc else ()
    )
    return tuple(
        part
        for place, part in enumerate(loc)
        if part != "[key]" and not (part in kinds and place == 2)
    )
