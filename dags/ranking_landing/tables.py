"""Has a day landed in a table that others write? By its newest version, and the statistics there.

It is the rule of ``features.datasets.landed_table``, which a DAG file must not import; tests
compare them. The formats' libraries are imported where a table is looked at: most logs are files.
"""

import datetime
import re
from collections.abc import Mapping
from pathlib import Path

from upath import UPath

_PER_SECOND = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
_FSSPEC = {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"}
_MILLISECOND = datetime.timedelta(milliseconds=1)


def has_rows_since(
    table: UPath,
    day: datetime.date,
    source: Mapping[str, str],
    io: Mapping[str, str] = _FSSPEC,
) -> bool:
    """Whether a data file may have rows of a day or of a later one.

    Args:
        table: Its place.
        day: The day.
        source: What the schema file says of it: ``format``, ``partition``, ``column``, ``unit``.
        io: Properties by which pyiceberg reaches the place; the image of Airflow has no pyarrow.
    """
    if source["format"] == "delta":
        return _has_delta(table, day, source)
    return _has_iceberg(table, day, source, io)


def _has_delta(table: UPath, day: datetime.date, source: Mapping[str, str]) -> bool:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        actions = DeltaTable(_uri(table)).get_add_actions(flatten=True)
    except TableNotFoundError:
        return False
    if partition := source["partition"]:
        values = actions.column(f"partition.{partition}").to_pylist()
        return any(value is not None and _reaches(value, day, source) for value in values)
    column = source["column"]
    if f"max.{column}" not in actions.schema.names:
        return actions.num_rows > 0  # without statistics a file may have any rows
    names = [f"max.{column}", f"null_count.{column}", "num_records"]
    columns = [actions.column(name).to_pylist() for name in names]
    return any(
        _reaches(value, day, source) if value is not None else nulls is None or nulls < rows
        for value, nulls, rows in zip(*columns, strict=True)
    )


def _reaches(value: object, day: datetime.date, source: Mapping[str, str]) -> bool:
    """Whether the greatest value of a file is of a day or a later one."""
    if isinstance(value, datetime.datetime):
        midnight = datetime.datetime.combine(day, datetime.time(), value.tzinfo)
        return value >= midnight + _MILLISECOND
    if isinstance(value, int):
        return value >= _number(day, source["unit"])
    return str(value) >= day.isoformat()


def _has_iceberg(
    table: UPath, day: datetime.date, source: Mapping[str, str], io: Mapping[str, str]
) -> bool:
    from pyiceberg.expressions import GreaterThanOrEqual
    from pyiceberg.table import StaticTable

    metadata = _newest_metadata(table)
    if metadata is None:
        return False
    opened = StaticTable.from_metadata(_uri(metadata), dict(io))
    name = source["partition"] or source["column"]
    of_type = str(opened.schema().find_field(name).field_type)
    low: int | str = day.isoformat()
    if of_type.startswith("timestamp"):
        low = f"{day}T00:00:00.002{'+00:00' if of_type.startswith('timestamptz') else ''}"
    elif of_type in {"int", "long"}:
        low = _number(day, source["unit"])
    if opened.current_snapshot() is None:
        return False
    return any(True for _ in opened.scan(row_filter=GreaterThanOrEqual(name, low)).plan_files())


def _newest_metadata(table: UPath) -> UPath | None:
    """The file with the highest number; of several, any: only a reader must know which counts."""
    if table.name.endswith(".metadata.json"):
        return table
    found = list((table / "metadata").glob("*.metadata.json"))
    numbers = {file: re.match(r"v?(\d+)[.-]", file.name) for file in found}
    numbered = {file: int(match[1]) for file, match in numbers.items() if match}
    return max(numbered, key=lambda file: numbered[file], default=None)


def _number(day: datetime.date, unit: str) -> int:
    if unit not in _PER_SECOND:
        raise ValueError(
            f"source.time.unit {unit!r}: the table has integers where the day is read; one of "
            f"{list(_PER_SECOND)}, or a partition that is a date or a text such as {day}"
        )
    days = (day - datetime.date(1970, 1, 1)).days
    return days * 86_400 * _PER_SECOND[unit]


def _uri(place: UPath) -> str:
    return str(place.absolute()) if isinstance(place, Path) else str(place)
