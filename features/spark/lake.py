"""The lake: Parquet tables with one partition a day, each replaced as a whole.

A partition is a symbolic link to an immutable folder, and replacing it replaces the link: one
atomic rename. A reader sees the old rows or the new ones, never half of either, and a job that is
killed while writing leaves the old ones. Each folder holds a manifest with the number of rows, a
content hash that depends on the rows alone, not on their order or on how many files hold them, and
the fingerprint of the schema by which they were made.
"""

import dataclasses
import datetime
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from features.schema import DAY

IMPRESSIONS_RAW = "impressions_raw"
"""As they landed, typed."""
IMPRESSIONS = "impressions"
"""Those that the checks let through."""
QUARANTINE = "quarantine"
"""Prefix of the tables of rows that they did not."""
EXAMPLES = "examples"
ONE_DAY = datetime.timedelta(days=1)
_VERSIONS = ".versions"
_MANIFEST = "_manifest.json"


@dataclasses.dataclass(frozen=True)
class Partition:
    """One day of one table as written."""

    table: str
    day: datetime.date
    rows: int
    content_hash: str
    fingerprint: str = ""
    """Of the schema by which the rows were made; empty where that is not known."""
    corrected_at: datetime.datetime | None = None
    """Of impressions that were landed again after they had been used: from when they count."""


def day_range(first: datetime.date, last: datetime.date) -> list[datetime.date]:
    """Days from ``first`` to ``last``, both included."""
    return [first + n * ONE_DAY for n in range((last - first).days + 1)]


class Lake:
    """The tables of one data set under one folder."""

    def __init__(self, root: Path, dataset: str) -> None:
        """Open the lake of a data set; nothing is created before the first write."""
        self.root = root / dataset

    def path(self, table: str, day: datetime.date | None = None) -> Path:
        """Folder of a table, or of one of its partitions."""
        folder = self.root / table
        return folder if day is None else folder / f"{DAY}={day.isoformat()}"

    def days(self, table: str) -> list[datetime.date]:
        """Days of which the table has a partition, oldest first."""
        names = (path.name for path in self.path(table).glob(f"{DAY}=*") if path.exists())
        return sorted(datetime.date.fromisoformat(name.removeprefix(f"{DAY}=")) for name in names)

    def days_between(
        self, table: str, first: datetime.date, last: datetime.date
    ) -> list[datetime.date]:
        """Days from ``first`` to ``last`` of which the table has a partition."""
        return [day for day in self.days(table) if first <= day <= last]

    def has(self, table: str, day: datetime.date) -> bool:
        """Whether the table has a partition of a day."""
        return (self.path(table, day) / _MANIFEST).exists()

    def version(self, table: str, day: datetime.date) -> str:
        """Folder that holds a partition's rows now; a replaced partition gets another folder."""
        return os.path.realpath(self.path(table, day))

    def manifest(self, table: str, day: datetime.date) -> Partition:
        """What a partition holds; ValueError when there is none."""
        path = self.path(table, day) / _MANIFEST
        if not path.exists():
            raise ValueError(
                f"partition {table}/{DAY}={day}: not in {self.root}; the table has "
                f"{_span(self.days(table))}"
            )
        content = json.loads(path.read_text())
        moment = content.get("corrected_at")
        return Partition(
            table,
            day,
            content["rows"],
            content["content_hash"],
            content.get("fingerprint", ""),
            datetime.datetime.fromisoformat(moment) if moment else None,
        )

    def read(
        self, spark: SparkSession, table: str, struct: StructType, days: Iterable[datetime.date]
    ) -> DataFrame:
        """Rows of some partitions, with a ``day`` column; an empty frame for no partitions."""
        with_day = StructType([*struct.fields]).add(DAY, "date")
        days = list(days)
        paths = [str(self.path(table, day)) for day in days]
        if not paths:
            return spark.createDataFrame([], with_day)
        reader = spark.read.schema(with_day).option("basePath", str(self.path(table)))
        # Spark reuses cached rows for a read with the same paths and options, whichever session
        # cached them, and the paths stay when a partition is replaced.
        versions = "".join(self.version(table, day) for day in days)
        reader = reader.option("versions", hashlib.sha256(versions.encode()).hexdigest())
        return reader.parquet(*paths)

    def replace(
        self,
        frame: DataFrame,
        table: str,
        days: Sequence[datetime.date],
        *,
        keys: Sequence[str],
        fingerprint: str = "",
        corrected_at: Mapping[datetime.date, datetime.datetime] | None = None,
    ) -> list[Partition]:
        """Replace these days of a table by the rows of ``frame`` that carry them in ``day``.

        Args:
            frame: Rows, with the ``day`` column; rows of other days are an error of the caller.
            table: Name of the table.
            days: Every day to replace; a day without rows becomes an empty partition.
            keys: Columns by which the rows of a partition are sorted in its file.
            fingerprint: Of the schema by which the rows were made.
            corrected_at: Of days whose rows replace others that were used, from when they count.
        """
        moments = corrected_at or {}
        staging = self.root / table / f".staging-{uuid.uuid4().hex}"
        try:
            ordered = frame.repartition(F.col(DAY)).sortWithinPartitions(DAY, *keys)
            ordered.write.partitionBy(DAY).parquet(str(staging))
            hashes = self._hashes(frame.sparkSession, frame.schema, staging)
            unexpected = sorted(set(hashes) - set(days))
            if unexpected:
                raise ValueError(
                    f"{table}: rows of {unexpected[:3]} are outside the days to replace"
                )
            empty = hashlib.sha256(b"0").hexdigest()[:16]
            parts = [
                Partition(table, day, *hashes.get(day, (0, empty)), fingerprint, moments.get(day))
                for day in days
            ]
            for part in parts:
                self._commit(part, staging)
            return parts
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @staticmethod
    def _hashes(
        spark: SparkSession, struct: StructType, staging: Path
    ) -> dict[datetime.date, tuple[int, str]]:
        """Rows and content hash of each written day; sums of row hashes, so order cannot matter."""
        written = spark.read.schema(struct).parquet(str(staging))
        columns = sorted(field.name for field in struct.fields if field.name != DAY)
        row = F.xxhash64(*(F.col(name) for name in columns))
        sums = written.groupBy(DAY).agg(
            F.count(F.lit(1)), F.sum(row.cast("decimal(20,0)")), F.bit_xor(F.xxhash64(row))
        )
        return {
            day: (rows, hashlib.sha256(f"{rows} {total} {mixed}".encode()).hexdigest()[:16])
            for day, rows, total, mixed in sums.collect()
        }

    def _commit(self, part: Partition, staging: Path) -> None:
        """Replace the partition by a staged day, then drop what it replaced."""
        table, day = part.table, part.day
        link = self.path(table, day)
        version = self.path(table) / _VERSIONS / f"{day.isoformat()}-{uuid.uuid4().hex[:12]}"
        version.parent.mkdir(parents=True, exist_ok=True)
        staged = staging / f"{DAY}={day.isoformat()}"
        if staged.exists():
            staged.rename(version)
        else:
            version.mkdir()
        manifest = {
            name: value for name, value in dataclasses.asdict(part).items() if value is not None
        }
        (version / _MANIFEST).write_text(
            json.dumps(manifest, default=lambda moment: moment.isoformat())
        )
        replaced = Path(os.path.realpath(link)) if link.is_symlink() else None
        swap = link.with_name(f".{link.name}-{uuid.uuid4().hex[:12]}")
        swap.symlink_to(Path(_VERSIONS) / version.name)
        swap.replace(link)
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)

    def remove(self, table: str, day: datetime.date) -> None:
        """Drop a partition: first its name, so that no reader finds half of it, then its files."""
        link = self.path(table, day)
        target = Path(os.path.realpath(link))
        link.unlink()
        shutil.rmtree(target, ignore_errors=True)


def _span(days: list[datetime.date]) -> str:
    return f"{len(days)} days from {days[0]} to {days[-1]}" if days else "no partition"
