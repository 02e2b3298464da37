"""A log in files of any days as the landed files of a data set, one a day."""

import datetime
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import duckdb

from features.datasets.schema_files.build import DataSet
from features.draft.log.moments import moment_sql
from features.draft.log.sample import (
    COMPRESSIONS,
    DELTA,
    SEPARATORS,
    Sample,
    connect,
    open_sample,
    quoted,
)
from features.places import Place, put_whole
from features.spark.landing import impressions_file

_FROM = {
    "csv": ("csv", "tsv"),
    "tsv": ("csv", "tsv"),
    "jsonl": ("jsonl",),
    "parquet": ("parquet", DELTA),
}
"""Formats of a log by the one as which it is landed: no value changes its type."""
_CODECS: dict[str, Literal["gzip", "zstd"]] = {"gz": "gzip", "zst": "zstd"}
_ONE_DAY = datetime.timedelta(days=1)
_MOST_ROWS = 1 << 62


def land(data_set: DataSet, paths: Sequence[Place], landing: Place) -> dict[datetime.date, int]:
    """Write the rows of a log as one file for each day, UTC, from the first to the last.

    A day without rows gets a file without rows; a day's file that is there already is replaced.

    Args:
        data_set: Says the format of landed files, and which column has the moment.
        paths: The log, in the same format; tsv and csv may be each other.
        landing: Folder of the data set's landed files.

    Returns:
        The rows of each day.

    Raises:
        ValueError: The log cannot be read, has not the time column, or a row has no moment.
    """
    connection, source = connect(), data_set.source
    if source.format not in _FROM:
        raise ValueError(
            f"{data_set.path}: source.format: {source.format}; files are landed as one of "
            f"{sorted(_FROM)}"
        )
    sample = open_sample(connection, paths, max_rows=_MOST_ROWS)
    if sample.format not in _FROM[source.format]:
        raise ValueError(
            f"{sample.files[0]}: is {sample.format}; {data_set.path} lands {source.format} "
            f"(source.format), which is made of {' or '.join(_FROM[source.format])}"
        )
    column = source.time.column
    if column not in sample.types:
        raise ValueError(
            f"{sample.files[0]}: has no column {column}, which source.time.column names; its "
            f"columns are {list(sample.types)}"
        )
    kind = sample.types[column]
    moment = moment_sql(quoted(column), unit=source.time.unit, kind=kind)
    days = _days(sample, moment)
    with tempfile.TemporaryDirectory() as folder:
        for day in days:
            part = Path(folder) / f"day.{source.landed_suffix}"
            _write(sample, moment, day, part)
            put_whole(impressions_file(landing, day, source.landed_suffix), part.read_bytes())
    return days


def _days(sample: Sample, moment: str) -> dict[datetime.date, int]:
    """Rows by day without a gap; ValueError for a row without a moment, which has no day."""
    found = dict(
        sample.connection.execute(
            f"SELECT {moment}::DATE AS day, count(*) FROM {sample.table} GROUP BY day"
        ).fetchall()
    )
    if lost := found.pop(None, 0):
        raise ValueError(
            f"{sample.files[0]}: {lost} of {sample.rows} rows have no moment that can be read as "
            "source.time says; they belong to no day"
        )
    days = {min(found) + n * _ONE_DAY: 0 for n in range((max(found) - min(found)).days + 1)}
    return days | found


def _write(sample: Sample, moment: str, day: datetime.date, path: Path) -> None:
    rows = f"SELECT * FROM {sample.table} WHERE {moment}::DATE = DATE '{day}'"
    suffixes = path.name.split(".")[1:]
    codec = _CODECS.get(suffixes[-1])
    kind = suffixes[-2] if suffixes[-1] in COMPRESSIONS else suffixes[-1]
    relation = sample.connection.sql(rows)
    if kind == "parquet":
        relation.write_parquet(str(path))
    elif kind == "jsonl":
        _copy(sample.connection, rows, path, f"FORMAT json, COMPRESSION {codec or 'none'}")
    else:
        relation.write_csv(
            str(path), sep=SEPARATORS[kind], header=True, compression=codec or "none"
        )


def _copy(connection: duckdb.DuckDBPyConnection, rows: str, path: Path, how: str) -> None:
    connection.execute(f"COPY ({rows}) TO '{path}' ({how})")
