"""What pydantic finds wrong in a schema file, with the key as the file has it."""

from pydantic_core import ErrorDetails

from features.datasets.schema_files.entry import UNKNOWN_KEY
from features.datasets.schema_files.marked_yaml import Key, Problem
from features.datasets.schema_files.models import KINDS_OF_LABELS, KINDS_OF_TABLES


def problem_of(error: ErrorDetails) -> Problem:
    """What pydantic found, with the key as the file has it."""
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
        said = "expected a date such as 2025-01-31"
    elif kind == "string_type":
        said = "expected a text; put it into quotes"
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
