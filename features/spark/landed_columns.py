"""Whether landed files have the columns of a schema: their headers, and the types of Parquet."""

import csv
import io
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from features.places import Place, arrow_file
from features.runbooks import RunbookError
from features.schema import EXAMPLE_ID, EXAMPLE_KEY, Dtype

INT96: dict[str, str] = {"coerce_int96_timestamp_unit": "us"}
"""Moments as Spark writes them by default, and reads them; Arrow would have them as nanoseconds."""
HOW_TO_IDENTIFY = (
    "an impression needs an id that is unique in the log: name its column of integers in "
    "source.columns.example_id, or declare example_id: {from: [columns that together no other "
    "impression has]} or example_id: {column: a column that alone is unique, such as a UUID}"
)
"""Said wherever the log has no ids, and the schema derives none."""
_TYPES_READ = {
    Dtype.INT64: "integers, and no uint64",
    Dtype.FLOAT64: "float, double and integers, and no uint64",
    Dtype.STRING: "strings",
    Dtype.TIMESTAMP: "timestamps in milliseconds or microseconds",
}


def opened(file: Place, *, errors: str, newline: str | None = None) -> io.TextIOWrapper:
    """A landed text in UTF-8, decompressed where its name says that it is compressed."""
    files, path = arrow_file(file)
    return io.TextIOWrapper(
        files.open_input_stream(path), encoding="utf-8-sig", errors=errors, newline=newline
    )


def header_of(path: Place, separator: str, columns: Mapping[str, str]) -> tuple[str, ...]:
    """The names in a file's first line; RunbookError where one of the columns is not there once."""
    with opened(path, errors="replace", newline="") as content:
        header = next(csv.reader([content.readline()], delimiter=separator), [])
    problem = ""
    if not any(name.strip() for name in header):
        problem = f"is empty; expected a header with the columns {list(columns.values())}"
    elif missing := [name for name, landed in columns.items() if landed not in header]:
        problem = (
            f"column {columns[missing[0]]}, which is read as {missing[0]}, is not in the header "
            f"{header}{_hint(missing[0])}"
        )
    elif repeated := sorted({name for name in columns.values() if header.count(name) > 1}):
        problem = f"columns {repeated} are more than once in the header {header}; expected once"
    if problem:
        raise RunbookError(f"file {path}, line 1: {problem}", runbook="critical-validation")
    return tuple(header)


def _hint(name: str) -> str:
    return f"; {HOW_TO_IDENTIFY}" if name == EXAMPLE_ID else ""


def integers_among(
    file: Place, columns: Mapping[str, str], types: Mapping[str, Dtype]
) -> frozenset[str]:
    """Those of the columns that are integers in a Parquet file, and float64 in the schema.

    The key of which ids are derived may be integers too.

    Raises:
        RunbookError: A column has a type that Spark would misread, or fail on in mid-job.
    """
    files, path = arrow_file(file)
    with pq.ParquetFile(path, filesystem=files, **INT96) as content:
        return integers_in(content.schema_arrow, f"file {file}", columns, types)


def integers_in(
    landed: pa.Schema, where: str, columns: Mapping[str, str], types: Mapping[str, Dtype]
) -> frozenset[str]:
    """As ``integers_among``, of columns that Arrow has read; ``where`` names them in an error."""
    integers = set()
    for name, landed_name in columns.items():
        is_there = landed.get_field_index(landed_name) >= 0
        found = landed.field(landed_name).type if is_there else None
        dtype = types[name]
        may_be = dtype is Dtype.FLOAT64 or name == EXAMPLE_KEY
        if found is not None and may_be and _is_int64(found):
            integers.add(name)
        elif found is None or not _is_of_type(found, dtype):
            raise RunbookError(
                f"{where}: column {landed_name} is {found or 'missing'}; the schema has "
                f"{dtype}, which is read from {'lists of ' * dtype.is_list}"
                f"{_TYPES_READ[dtype.element]}{'' if found else _hint(name)}",
                runbook="critical-validation",
            )
    return frozenset(integers)


def _is_of_type(found: pa.DataType, dtype: Dtype) -> bool:
    """Whether Spark reads a column of a Parquet file as a type, without a loss."""
    if dtype.is_list:
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        return is_list and _is_of_type(found.value_type, dtype.element)
    if dtype is Dtype.TIMESTAMP:
        return pa.types.is_timestamp(found) and found.unit in {"ms", "us"}
    if dtype is Dtype.STRING:
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    if dtype is Dtype.FLOAT64:
        return bool(pa.types.is_float32(found) or pa.types.is_float64(found))
    return _is_int64(found)


def _is_int64(found: pa.DataType) -> bool:
    return bool(pa.types.is_integer(found) and not pa.types.is_uint64(found))
