"""A file of corrected rows: ``example_id``, and the columns that have other values now."""

import datetime
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema

from features.places import Place, arrow_file
from features.schema import DAY, EXAMPLE_ID, EXAMPLE_KEY, SOURCE, Schema
from features.spark.session import impressions_struct

_OF_THE_QUARANTINE = {DAY, EXAMPLE_KEY, *SOURCE, "rules", "reasons"}
"""Columns that rows in quarantine have too: a file that was made of such rows may keep them."""
_SHOWN = 3
SUFFIXES = (".csv", ".parquet")


def read_corrected(path: Place, schema: Schema) -> pa.Table:
    """The rows of a file, typed as the schema says; columns that it lacks are not corrected.

    Args:
        path: A CSV file with a header, moments in ISO 8601 and nothing where a value is missing;
            or a Parquet file, which may have lists too.
        schema: Its columns are the ones that can be corrected.

    Raises:
        ValueError: The file cannot be read, has an unknown column, none to correct, a value of
            another type, or an id that is missing or there twice; names file, column and value.
    """
    types = to_arrow_schema(impressions_struct(schema), timezone="UTC")
    found = _read(path)
    names = found.column_names
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(
            f"{path}: column {twice[0]}: there {names.count(twice[0])} times; once at most"
        )
    columns = [name for name in found.column_names if name not in _OF_THE_QUARANTINE]
    if unknown := [name for name in columns if name not in types.names]:
        raise ValueError(
            f"{path}: column {unknown[0]}: not in the schema; expected {EXAMPLE_ID} and some "
            f"of {[name for name in types.names if name != EXAMPLE_ID]}"
        )
    if EXAMPLE_ID not in columns or len(columns) == 1:
        raise ValueError(
            f"{path}: columns {columns}; expected {EXAMPLE_ID} and at least one to be corrected"
        )
    typed = {name: _typed(path, found.column(name), types.field(name)) for name in columns}
    _require_ids(path, typed[EXAMPLE_ID].to_pylist())
    return pa.table(typed)


def _read(path: Place) -> pa.Table:
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: ends with {path.suffix!r}; expected one of {list(SUFFIXES)}")
    try:
        files, name = arrow_file(path)
        if path.suffix == ".parquet":
            return pq.ParquetFile(name, filesystem=files).read()
        content = pa.BufferReader(path.read_bytes())
        with pa_csv.open_csv(content) as opened:
            names = opened.schema.names
        content.seek(0)
        texts = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )
        return pa_csv.read_csv(content, convert_options=texts)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error


def _typed(path: Place, values: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """The values as a type of the schema, where none is lost by that."""
    try:
        if pa.types.is_timestamp(field.type) and pa.types.is_string(values.type):
            return pa.chunked_array([_moments(values.to_pylist(), field.type)])
        return values.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise ValueError(
            f"{path}: column {field.name}: {error}; the schema has {field.type}"
        ) from error


def _moments(texts: Sequence[str | None], of_type: pa.DataType) -> pa.Array:
    return pa.array([None if text is None else _moment(text) for text in texts], of_type)


def _moment(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    if not moment.tzinfo:
        return moment.replace(tzinfo=datetime.UTC)
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r}: in UTC outside the years 1 to 9999") from error


def _require_ids(path: Place, ids: Sequence[int | None]) -> None:
    if missing := [row for row, one in enumerate(ids, start=1) if one is None]:
        raise ValueError(
            f"{path}: {EXAMPLE_ID} is missing in {len(missing)} rows, the first is row "
            f"{missing[0]}; every row needs one"
        )
    seen: set[int | None] = set()
    if twice := [one for one in ids if one in seen or seen.add(one)]:  # type: ignore[func-returns-value]
        raise ValueError(
            f"{path}: {EXAMPLE_ID} {twice[:_SHOWN]} there more than once; once at most"
        )
