"""Training examples in the lake: their files and row groups by day, read and encoded."""

import dataclasses
import datetime
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from features.labels.judged import judged_rows
from features.lake.snapshot import snapshot
from features.places import Place, place
from features.schema import EXAMPLE_ID, LABEL, Schema
from features.schema.fingerprints import rows_fingerprint
from training.data.examples import Examples, encode_examples

TABLE = "examples"


class RowGroup(NamedTuple):
    """Rows of a Parquet file that are read as one."""

    path: str
    """Of the file, in the table's file system."""
    number: int
    """Of the group in its file."""
    num_rows: int


@dataclasses.dataclass(frozen=True)
class Buffer:
    """Row groups in order, such as those that are shuffled together; can be sent to a process."""

    row_groups: tuple[RowGroup, ...]
    filesystem: pafs.FileSystem

    @property
    def num_rows(self) -> int:
        """Rows of all groups."""
        return sum(group.num_rows for group in self.row_groups)

    def read(self, start: int = 0, stop: int | None = None) -> pa.Table:
        """Raw columns of the rows from ``start`` up to ``stop``, or to the end.

        Only row groups that hold some of these rows are read; at least one row is asked for.
        """
        stop = self.num_rows if stop is None else stop
        ends = np.cumsum([group.num_rows for group in self.row_groups])
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        tables = []
        for path, groups in itertools.groupby(
            self.row_groups[first : last + 1], key=lambda group: group.path
        ):
            with pq.ParquetFile(path, filesystem=self.filesystem, pre_buffer=True) as file:
                tables.append(file.read_row_groups([group.number for group in groups]))
        before = int(ends[first]) - self.row_groups[first].num_rows
        return pa.concat_tables(tables).slice(start - before, stop - start).combine_chunks()


class ExampleTable:
    """The partitions of training examples of one data set."""

    def __init__(
        self, lake: Place, schema: Schema, version: int | None = None, *, table: str = TABLE
    ) -> None:
        """Open a version of the table, or the newest; ValueError when it is not there."""
        self.schema = schema
        self.root = lake / schema.name / table
        self._snapshot = snapshot(place(self.root), version)
        self.version = self._snapshot.version
        self.filesystem = self._snapshot.filesystem
        self._groups: dict[datetime.date, list[RowGroup]] = {}
        if not self._snapshot.days:
            raise ValueError(
                f"table {self.root}: does not exist; run `python -m features examples`"
            )

    def days(
        self,
        first: datetime.date = datetime.date.min,
        last: datetime.date = datetime.date.max,
    ) -> list[datetime.date]:
        """Days from ``first`` to ``last`` that have a partition, oldest first."""
        return [day for day in self._snapshot.days if first <= day <= last]

    def content_hashes(self, days: Sequence[datetime.date]) -> dict[str, str]:
        """Content hash of each partition."""
        return {day.isoformat(): self._snapshot.partition(day).content_hash for day in days}

    def row_groups(self, days: Sequence[datetime.date]) -> list[RowGroup]:
        """Row groups of some days, in order. A day's footers are read once and then known."""
        self._snapshot.note_read(days)
        for day in days:
            if day not in self._groups:
                self._groups[day] = [
                    RowGroup(path, number, metadata.row_group(number).num_rows)
                    for path in self._files(day)
                    for metadata in [self._snapshot.metadata(path)]
                    for number in range(metadata.num_row_groups)
                    if metadata.row_group(number).num_rows
                ]
        return [group for day in days for group in self._groups[day]]

    def num_rows(self, days: Sequence[datetime.date]) -> int:
        """Examples of some days."""
        return sum(group.num_rows for group in self.row_groups(days))

    def encode(self, rows: pa.Table) -> Examples:
        """Examples of raw columns of this table."""
        return encode_examples(self.schema, rows)

    def read(self, days: Sequence[datetime.date]) -> Examples:
        """All examples of some days, ordered by day, then as stored."""
        return self.encode(self._rows(days))

    def read_judged(self, days: Sequence[datetime.date]) -> Examples:
        """Those on which a version may be judged (``features.labels.judged``)."""
        return self.encode(judged_rows(self.schema, self._rows(days)))

    def _rows(self, days: Sequence[datetime.date]) -> pa.Table:
        groups = self.row_groups(days)
        if not groups:
            raise ValueError(f"examples: no rows from {days[:1]} to {days[-1:]} in {self.root}")
        return Buffer(tuple(groups), self.filesystem).read()

    def stream_judged(
        self, days: Sequence[datetime.date], *, rows: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Examples]:
        """As ``read_judged``, at most ``rows`` at once: memory does not grow with the days.

        Of several ranks each has a contiguous part, of equally many rows up to one before those
        that judge are chosen, and reads its row groups alone; one rank's part begins where that of
        the rank before it ends.
        """
        num_rows, before = self.num_rows(days), 0
        first, last = (num_rows * r // world_size for r in (rank, rank + 1))
        for group in self.row_groups(days):
            start, stop = max(first - before, 0), min(last - before, group.num_rows)
            before += group.num_rows
            if start < stop:
                table = judged_rows(
                    self.schema, Buffer((group,), self.filesystem).read(start, stop)
                )
                for part in table.to_batches(max_chunksize=rows):
                    if part.num_rows:
                        yield self.encode(pa.Table.from_batches([part]))

    def positives(self, days: Sequence[datetime.date]) -> int:
        """Examples of some days whose label is 1."""
        columns = (
            pq.read_table(path, columns=[LABEL], partitioning=None, filesystem=self.filesystem)
            for day in days
            for path in self._files(day)
        )
        return sum(pc.sum(column[LABEL]).as_py() or 0 for column in columns)

    def values(self, days: Sequence[datetime.date], column: str) -> npt.NDArray[Any]:
        """All values of a raw column on some days."""
        values: npt.NDArray[Any] = self.columns(days, [column]).column(column).to_numpy()
        return values

    def columns(self, days: Sequence[datetime.date], names: Sequence[str]) -> pa.Table:
        """All values of some raw columns on some days, at least one."""
        return pa.concat_tables(
            pq.read_table(path, columns=names, partitioning=None, filesystem=self.filesystem)
            for day in days
            for path in self._files(day)
        )

    def buffers(self, days: Sequence[datetime.date], *, rows: int) -> list[Buffer]:
        """The examples of some days in order, cut at row groups into about ``rows`` each."""
        found: list[Buffer] = []
        held: list[RowGroup] = []
        count = 0
        for group in self.row_groups(days):
            held.append(group)
            count += group.num_rows
            if count >= rows:
                found.append(Buffer(tuple(held), self.filesystem))
                held, count = [], 0
        return [*found, Buffer(tuple(held), self.filesystem)] if held else found

    def _files(self, day: datetime.date) -> list[str]:
        """Paths of a day's files; ValueError where another schema made them."""
        if self._fingerprint(day) != rows_fingerprint(self.schema):
            raise ValueError(self._stale())
        return self._snapshot.files(day)

    def _fingerprint(self, day: datetime.date) -> str:
        """Fingerprint of the schema that made a day's examples; empty where it is not recorded."""
        return self._snapshot.partition(day).fingerprint

    def _stale(self) -> str:
        """Which days were made by another schema, and what makes them again."""
        expected = rows_fingerprint(self.schema)
        days = self.days()
        stale = [day for day in days if self._fingerprint(day) != expected]
        first_day = "" if stale[0] <= self.schema.first_day else " --first-day"
        span = f"--dataset {self.schema.name} --date {stale[0]} --to {stale[-1]}"
        return (
            f"examples: {len(stale)} of {len(days)} days, {stale[0]} to {stale[-1]}, were made by "
            f"another schema (fingerprint {self._fingerprint(stale[0]) or 'none'}; "
            f"{self.schema.name} has {expected}); make them again: python -m features build "
            f"{span}{first_day} && python -m features examples {span}"
        )


def users_of(examples: Examples, schema: Schema) -> npt.NDArray[Any]:
    """Each row's user; without a user id its request, or the example's own id, which no two share.

    Rows of one are not independent, and are drawn together. A user's requests are all among its
    rows: whoever draws whole users draws whole requests.
    """
    known = schema.user or schema.request
    users: npt.NDArray[Any] = examples.table.column(known.name if known else EXAMPLE_ID).to_numpy()
    return users


def user_groups(examples: Examples, schema: Schema) -> npt.NDArray[np.int64]:
    """A number for each of ``users_of``; without ids every row is a group of its own."""
    if schema.user is None and schema.request is None:
        return np.arange(len(examples))
    return numbered(users_of(examples, schema))


def request_groups(examples: Examples, schema: Schema) -> npt.NDArray[np.int64] | None:
    """A number for each row's request; None where requests have no id."""
    if schema.request is None:
        return None
    return numbered(examples.table.column(schema.request.name).to_numpy())


def numbered(ids: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """A number for each id, the same for equal ones."""
    return np.unique(ids, return_inverse=True)[1]
