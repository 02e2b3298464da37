"""A mapping: a YAML file that says which values replace others in rows that broke a rule.

device:vocabulary:        # rows that this rule holds
  device:                 # the column
    fridge: phone         # value: the one in its place; null stands for a missing value
    toaster: null
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import StrictFloat, StrictInt, StrictStr, TypeAdapter, ValidationError

from features.datasets.schema_files.marked_yaml import MarkedYaml
from features.datasets.schema_files.problems import Key, Problem
from features.schema import Column, Dtype, Schema

Value = int | float | str | None
_FILE: TypeAdapter[Any] = TypeAdapter(dict[StrictStr, dict[StrictStr, dict[object, object]]])
_VALUES: dict[Dtype, TypeAdapter[Any]] = {
    Dtype.INT64: TypeAdapter(dict[StrictInt | None, StrictInt | None]),
    Dtype.FLOAT64: TypeAdapter(dict[StrictFloat | None, StrictFloat | None]),
    Dtype.STRING: TypeAdapter(dict[StrictStr | None, StrictStr | None]),
}


@dataclasses.dataclass(frozen=True)
class Replacement:
    """A value of a column, in rows that broke a rule, and what takes its place."""

    rule: str
    column: str
    value: Value
    by: Value


def read_mapping(path: Path, schema: Schema, rules: list[str]) -> list[Replacement]:
    """The replacements of a file, in its order.

    Args:
        path: The file.
        schema: Its columns are the ones that can be corrected.
        rules: Names of the rules that hold rows.

    Raises:
        SchemaFileError: It cannot be read; or a rule, a column or a value is wrong. Names file,
            line, key and value of each.
    """
    marked = MarkedYaml(path)
    try:
        found = _FILE.validate_python(marked.data)
    except ValidationError as error:
        raise marked.error(list(_problems(error, ()))) from error
    columns = {column.name: column for column in schema.impression_columns()}
    problems = list(_problems_of_names(found, columns, rules))
    read: list[Replacement] = []
    for rule, by_column in found.items():
        for column, values in by_column.items():
            adapter = _VALUES.get(columns[column].dtype) if column in columns else None
            if adapter is None:
                continue  # named among the problems
            try:
                typed = adapter.validate_python(values)
            except ValidationError as error:
                problems.extend(_problems(error, (rule, column)))
            else:
                read.extend(Replacement(rule, column, old, new) for old, new in typed.items())
    if problems:
        raise marked.error(problems)
    return read


def _problems_of_names(
    found: Mapping[str, Mapping[str, object]], columns: Mapping[str, Column], rules: list[str]
) -> Iterator[Problem]:
    for rule, by_column in found.items():
        if rule not in rules:
            yield Problem((rule,), f"no rule that holds rows; expected one of {rules}")
        for name in by_column:
            column = columns.get(name)
            if column is None:
                yield Problem((rule, name), f"no such column; expected one of {sorted(columns)}")
            elif column.dtype not in _VALUES:
                yield Problem(
                    (rule, name),
                    f"a column of the type {column.dtype}; a mapping has integers, numbers and "
                    "texts, other values are corrected by --file",
                )


def _problems(error: ValidationError, above: Key) -> Iterator[Problem]:
    """What pydantic found, with the keys as the file has them."""
    for one in error.errors():
        said = one["msg"].replace("Input should be ", "expected ")
        if one["loc"][-1:] == ("[key]",):
            said = f"the value that is replaced: {said}"
        parts = ("null" if part is None else part for part in one["loc"] if part != "[key]")
        yield Problem((*above, *map(str, parts)), said)
