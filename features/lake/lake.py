"""The lake of a data set: Delta tables with one partition a day, each replaced as a whole.

A reader sees one version of a table, with the old rows of a day or the new ones, never half of
either, and a job that is killed while writing leaves the version before. Each file says how many
rows it has, a hash of them that depends on the rows alone, not on their order or on how many files
hold them, and the fingerprint of the schema by which they were made. The log says of each version
which job of which run made it, and from which versions of which tables.
"""

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from features.lake import commit
from features.lake.candidate import Candidate, candidate, manifest
from features.lake.compact import compact, scattered_days
from features.lake.day_rows import FileDescription, Partition
from features.lake.snapshot import Snapshot, snapshot
from features.lake.spark_files import read_files, write_frame
from features.lineage import observed
from features.places import Place, place

IMPRESSIONS_RAW = "impressions_raw"
"""As they landed, typed."""
IMPRESSIONS = "impressions"
"""Those that the checks let through."""
QUARANTINE = "quarantine"
"""Prefix of the tables of rows that they did not."""
READMITTED = f"{QUARANTINE}_readmitted_{IMPRESSIONS}"
"""What was changed of impressions in quarantine so that the checks let them through."""
EXAMPLES = "examples"
IMMATURE_EXAMPLES = "examples_immature"
"""Those whose label was not final: a partition has all that the run of its day may learn."""
ONE_DAY = datetime.timedelta(days=1)
RUN = "RANKING_RUN"


def day_range(first: datetime.date, last: datetime.date) -> list[datetime.date]:
    """Days from ``first`` to ``last``, both included."""
    return [first + n * ONE_DAY for n in range((last - first).days + 1)]


class Lake:
    """The tables of one data set under one place, as one job sees them.

    A table keeps the version at which the job first looked at it, until the job replaces days of it
    itself: what it reads twice is the same twice, and what another job has replaced meanwhile is a
    conflict when this one commits.
    """

    def __init__(
        self, root: str | os.PathLike[str] | Place, dataset: str, *, job: str = ""
    ) -> None:
        """Open the lake of a data set; nothing is created before the first write.

        Args:
            root: Of the lakes of all data sets.
            dataset: The data set.
            job: What the log of a table says who wrote.
        """
        self.root = place(root) / dataset
        self._job = job
        self._snapshots: dict[str, Snapshot] = {}
        self._read: dict[str, int] = {}

    def refresh(self) -> None:
        """See the newest versions from now on."""
        self._snapshots, self._read = {}, {}

    def snapshot(self, table: str) -> Snapshot:
        """The version of a table that the job sees."""
        if table not in self._snapshots:
            self._snapshots[table] = snapshot(self.root / table)
        return self._snapshots[table]

    def version(self, table: str, day: datetime.date) -> str:
        """The files that hold a partition's rows; a replaced partition has others."""
        return " ".join(self.snapshot(table).files(day))

    def days(self, table: str) -> list[datetime.date]:
        """Days of which the table has a partition, oldest first."""
        return list(self.snapshot(table).days)

    def days_between(
        self, table: str, first: datetime.date, last: datetime.date
    ) -> list[datetime.date]:
        """Days from ``first`` to ``last`` of which the table has a partition."""
        return [day for day in self.days(table) if first <= day <= last]

    def has(self, table: str, day: datetime.date) -> bool:
        """Whether the table has a partition of a day."""
        return bool(self.snapshot(table).files(day))

    def manifest(self, table: str, day: datetime.date) -> Partition:
        """What a partition holds; ValueError when there is none."""
        return self.snapshot(table).partition(day)

    def read(
        self, spark: SparkSession, table: str, struct: StructType, days: Iterable[datetime.date]
    ) -> DataFrame:
        """Rows of some partitions, with a ``day`` column; an empty frame for no partitions."""
        found = self.snapshot(table)
        self._read[table] = found.version
        days = list(days)
        found.note_read(days)
        files = [(day, path) for day in days for path in found.files(day)]
        return read_files(spark, found.root, files, struct)

    def note_read(self, versions: Mapping[str, int]) -> None:
        """Let what is staged from now on say of which versions of tables elsewhere it was made.

        Args:
            versions: By the URI of a table.
        """
        self._read |= versions
        for where, version in versions.items():
            observed.read(observed.Dataset(where=where, version=str(version)))

    def stage(
        self,
        frame: DataFrame,
        table: str,
        days: Sequence[datetime.date],
        *,
        keys: Sequence[str],
        fingerprint: str = "",
        corrected_at: Mapping[datetime.date, datetime.datetime] | None = None,
        files_per_day: int = 1,
    ) -> Candidate:
        """Write rows of some days that no version names until they are published.

        Args:
            frame: Rows, with the ``day`` column; rows of other days are an error of the caller.
            table: Name of the table.
            days: Every day to replace; a day without rows becomes an empty partition.
            keys: Columns by which the rows of a file are sorted.
            fingerprint: Of the schema by which the rows were made.
            corrected_at: Of days whose rows replace others that were used, from when they count.
            files_per_day: Files of each day, each written by a task of its own.
        """
        read = dict(self._read)  # a copy at once: other tables may be staged in other threads
        metadata = {
            **self._origin,
            "fingerprint": fingerprint,
            "inputs": {name: version for name, version in read.items() if name != table},
        }
        # Spark's plan decides which columns it knows to be filled; a table's columns do not change.
        struct = frame.schema.toNullable().json()
        base = self.snapshot(table).numbers(days)
        erased = {
            day: (part.stands_for, part.content_hash)
            for day in days
            if self.has(table, day) and (part := self.manifest(table, day)).stands_for
        }
        description = FileDescription(fingerprint, dict(corrected_at or {}), erased)
        staged = Candidate(table, base, [], struct, description, metadata)
        return self.restage(staged, frame, keys=keys, files_per_day=files_per_day)

    def restage(
        self, staged: Candidate, frame: DataFrame, *, keys: Sequence[str], files_per_day: int = 1
    ) -> Candidate:
        """Write other rows for a candidate's days; returns the candidate with their files."""
        files = write_frame(
            frame,
            self.root / staged.table,
            staged.days,
            keys=keys,
            files_per_day=files_per_day,
            description=staged.description,
        )
        return dataclasses.replace(staged, files=files)

    def publish(self, staged: Candidate) -> list[Partition]:
        """Let the next version of a table have a candidate's days; all of them or none.

        A candidate that was published before is not published again.

        Raises:
            ConflictError: Another job has replaced one of the days since the candidate's began.
        """
        staged.publish(self.root)
        self._snapshots.pop(staged.table, None)
        return staged.partitions()

    def is_published(self, staged: Candidate) -> bool:
        """Whether a version has a candidate's days, or had them until they were replaced again."""
        found = self.snapshot(staged.table)
        return found.numbers(staged.days) != staged.base and found.has_commit(staged.token)

    def put(self, staged: Candidate, days: Sequence[datetime.date]) -> None:
        """List a candidate of a job of these days, for the next job and for people."""
        staged.put(self.root, days)

    def candidate(self, table: str, days: Sequence[datetime.date]) -> Candidate | None:
        """What an earlier job of exactly these days has put; None where there is nothing."""
        return candidate(self.root, table, days)

    def discard(self, table: str, days: Sequence[datetime.date]) -> None:
        """Take what a job of these days has put off the list; its files stay until a vacuum."""
        manifest(self.root, table, days).unlink(missing_ok=True)

    @contextlib.contextmanager
    def preview(self, staged: Candidate) -> Iterator[None]:
        """In the block, the job sees a candidate's days as if they were published."""
        before = self.snapshot(staged.table)
        seen = before.previewed(staged.base, staged.files, staged.partitions(), staged.made_of)
        self._snapshots[staged.table] = seen
        try:
            yield
        finally:
            self._snapshots[staged.table] = before

    def replace(
        self,
        frame: DataFrame,
        table: str,
        days: Sequence[datetime.date],
        *,
        keys: Sequence[str],
        fingerprint: str = "",
        files_per_day: int = 1,
    ) -> list[Partition]:
        """Replace these days of a table by the rows of ``frame``: ``stage`` and ``publish``."""
        return self.publish(
            self.stage(
                frame,
                table,
                days,
                keys=keys,
                fingerprint=fingerprint,
                files_per_day=files_per_day,
            )
        )

    def remove(self, table: str, days: Sequence[datetime.date]) -> None:
        """Commit a version without some days; their files stay until the next ``vacuum``."""
        commit.remove(self.root / table, days, metadata=self._origin)
        self._snapshots.pop(table, None)

    def compact(self, table: str, *, most_rows: int) -> list[datetime.date]:
        """Commit a version in which a day of several files has one, where it has few rows.

        Returns the days: those of at most ``most_rows`` rows.
        """
        days = scattered_days(self.snapshot(table), most_rows=most_rows)
        if days:
            compact(self.root / table, days, metadata=self._origin)
            self._snapshots.pop(table, None)
        return days

    @property
    def _origin(self) -> dict[str, object]:
        """What the log says of every commit."""
        run = os.environ.get(RUN) or "by hand"
        return {"dataset": self.root.name, "job": self._job, "run": run}
