"""Training examples from the lake: read by day, encoded, shuffled in a bounded buffer, batched."""

import concurrent.futures
import dataclasses
import datetime
import itertools
import json
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.encoding.encode import InfiniteError, ModelInputs, encode
from features.places import Place
from features.schema import DAY, EXAMPLE_ID, LABEL, Schema
from features.schema.fingerprints import rows_fingerprint
from training.data.batch import Batch, make_batch

TABLE = "examples"


@dataclasses.dataclass(frozen=True)
class Examples:
    """Encoded examples and what identifies and judges them."""

    inputs: ModelInputs
    label: npt.NDArray[np.int64]
    example_id: npt.NDArray[np.int64]
    table: pa.Table
    """The raw columns, in the same order."""

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.label)


@dataclasses.dataclass(frozen=True)
class Buffer:
    """Row groups that are shuffled together."""

    row_groups: tuple[tuple[Place, int], ...]
    """File and number of the group in it."""
    num_rows: int


class ExampleTable:
    """The partitions of training examples of one data set."""

    def __init__(self, lake: Place, schema: Schema) -> None:
        """Open the table; ValueError when it is not there."""
        self.schema = schema
        self.root = lake / schema.name / TABLE
        if not self.root.exists():
            raise ValueError(
                f"table {self.root}: does not exist; run `python -m features examples`"
            )

    def days(self, first: datetime.date, last: datetime.date) -> list[datetime.date]:
        """Days from ``first`` to ``last`` that have a partition, oldest first."""
        names = (path.name.removeprefix(f"{DAY}=") for path in self.root.glob(f"{DAY}=*"))
        return [
            day for day in sorted(map(datetime.date.fromisoformat, names)) if first <= day <= last
        ]

    def content_hashes(self, days: Sequence[datetime.date]) -> dict[str, str]:
        """Content hash of each partition, as its manifest says."""
        return {day.isoformat(): str(self._manifest(day)["content_hash"]) for day in days}

    def num_rows(self, days: Sequence[datetime.date]) -> int:
        """Examples of some days, from the files' footers."""
        return sum(pq.read_metadata(path).num_rows for day in days for path in self._files(day))

    def read(self, days: Sequence[datetime.date]) -> Examples:
        """All examples of some days, ordered by day, then as stored."""
        tables = [
            pq.read_table(path, partitioning=None) for day in days for path in self._files(day)
        ]
        if not tables:
            raise ValueError(f"examples: no rows from {days[:1]} to {days[-1:]} in {self.root}")
        return encode_examples(self.schema, pa.concat_tables(tables).combine_chunks())

    def stream(self, days: Sequence[datetime.date], *, rows: int) -> Iterator[Examples]:
        """The same, at most ``rows`` at a time, so that memory does not grow with the days.

        Row group by row group: ``iter_batches`` of a file keeps all columns that it has read.
        """
        for path in (path for day in days for path in self._files(day)):
            with pq.ParquetFile(path) as file:
                for number in range(file.num_row_groups):
                    for part in file.read_row_group(number).to_batches(max_chunksize=rows):
                        yield encode_examples(self.schema, pa.Table.from_batches([part]))

    def positives(self, days: Sequence[datetime.date]) -> int:
        """Examples of some days whose label is 1."""
        columns = (
            pq.read_table(path, columns=[LABEL], partitioning=None).column(LABEL)
            for day in days
            for path in self._files(day)
        )
        return sum(pc.sum(column).as_py() or 0 for column in columns)

    def buffers(self, days: Sequence[datetime.date], *, rows: int) -> list["Buffer"]:
        """The examples of some days in order, cut at row groups into about ``rows`` each.

        Read from the files' footers alone; ``read_buffer`` reads one.
        """
        found: list[Buffer] = []
        held: list[tuple[Place, int]] = []
        count = 0
        for day in days:
            for path in self._files(day):
                metadata = pq.read_metadata(path)
                for group in range(metadata.num_row_groups):
                    held.append((path, group))
                    count += metadata.row_group(group).num_rows
                    if count >= rows:
                        found.append(Buffer(tuple(held), count))
                        held, count = [], 0
        return [*found, Buffer(tuple(held), count)] if count else found

    def read_buffer(self, buffer: "Buffer") -> Examples:
        """The examples of one buffer, in the order of the files."""
        tables = []
        for path, groups in itertools.groupby(buffer.row_groups, key=lambda group: group[0]):
            with pq.ParquetFile(path) as file:
                tables.append(file.read_row_groups([group for _, group in groups]))
        return encode_examples(self.schema, pa.concat_tables(tables).combine_chunks())

    def _files(self, day: datetime.date) -> list[Place]:
        if self._fingerprint(day) != rows_fingerprint(self.schema):
            raise ValueError(self._stale())
        return sorted((self.root / f"{DAY}={day.isoformat()}").glob("*.parquet"))

    def _fingerprint(self, day: datetime.date) -> str:
        """Fingerprint of the schema that made a day's examples; empty where it is not recorded."""
        return str(self._manifest(day).get("fingerprint", ""))

    def _manifest(self, day: datetime.date) -> dict[str, object]:
        manifest = self.root / f"{DAY}={day.isoformat()}" / "_manifest.json"
        return dict(json.loads(manifest.read_text()))

    def _stale(self) -> str:
        """Which days were made by another schema, and what makes them again."""
        expected = rows_fingerprint(self.schema)
        days = self.days(datetime.date.min, datetime.date.max)
        stale = [day for day in days if self._fingerprint(day) != expected]
        first_day = "" if stale[0] <= self.schema.first_day else " --first-day"
        span = f"--dataset {self.schema.name} --date {stale[0]} --to {stale[-1]}"
        return (
            f"examples: {len(stale)} of {len(days)} days, {stale[0]} to {stale[-1]}, were made by "
            f"another schema (fingerprint {self._fingerprint(stale[0]) or 'none'}; "
            f"{self.schema.name} has {expected}); make them again: python -m features build "
            f"{span}{first_day} && python -m features examples {span}"
        )


def encode_examples(schema: Schema, table: pa.Table) -> Examples:
    """Encode a table of examples; ValueError names one with a number that is infinite."""
    columns = {name: table.column(name) for name in table.column_names}
    try:
        inputs = encode(schema, columns)
    except InfiniteError as error:
        example = table.column(EXAMPLE_ID)[error.row].as_py()
        raise ValueError(f"example {example}: {error}") from error
    return Examples(
        inputs,
        table.column(LABEL).to_numpy(),
        table.column(EXAMPLE_ID).to_numpy(),
        table,
    )


def user_groups(examples: Examples, schema: Schema) -> npt.NDArray[np.int64]:
    """A number for each row's user; without a user id every row is a group of its own."""
    if schema.user is None:
        return np.arange(len(examples))
    users = examples.table.column(schema.user.name).to_numpy()
    return np.unique(users, return_inverse=True)[1]


def batches(
    table: ExampleTable,
    days: Sequence[datetime.date],
    *,
    batch_size: int,
    shuffle_rows: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    skip: int = 0,
) -> Iterator[Batch]:
    """This rank's part of every global batch of one pass over some days.

    A global batch holds ``batch_size`` examples, the last one of a buffer the rest; rank r takes
    every ``world_size``-th of them from the r-th on, so every rank sees as many batches, and
    together they see each example once. A rank without an example in a small last batch gets one of
    weight 0.

    Which examples a global batch holds depends on the data, ``batch_size``, ``shuffle_rows`` and
    ``seed`` alone: its number is a position from which any number of ranks can go on. The next
    buffer is read while the batches of this one are used.

    Args:
        table: The examples.
        days: Which of them.
        batch_size: Of a global batch.
        shuffle_rows: Rows of a buffer, about; bounds the memory.
        seed: Of the order.
        rank: This rank.
        world_size: How many ranks there are.
        skip: Global batches that have been used already; their buffers are not read.
    """
    wanted: list[tuple[int, Buffer, int]] = []
    for number, buffer in enumerate(table.buffers(days, rows=shuffle_rows)):
        count = -(-buffer.num_rows // batch_size)
        if skip < count:
            wanted.append((number, buffer, skip))
        skip = max(0, skip - count)
    for (number, _, first), examples in zip(wanted, _read_ahead(table, wanted), strict=True):
        order = np.random.default_rng([seed, number]).permutation(len(examples))
        for start in range(first * batch_size, len(order), batch_size):
            rows = order[start : start + batch_size]
            mine = rows[rank::world_size]
            weight = np.ones(len(mine), dtype=np.float32)
            if not len(mine):
                mine, weight = rows[:1], np.zeros(1, dtype=np.float32)
            # The loss of a rank is a sum; so scaled, the mean over ranks is the mean over examples.
            weight *= world_size / len(rows)
            yield make_batch(
                examples.inputs.take(mine),
                examples.label[mine],
                weight,
                example_id=examples.example_id[mine],
            )


def _read_ahead(
    table: ExampleTable, wanted: Sequence[tuple[int, Buffer, int]]
) -> Iterator[Examples]:
    """The wanted buffers, each read while the one before is used."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as reader:
        coming: concurrent.futures.Future[Examples] | None = None
        for _, buffer, _ in wanted:
            ready, coming = coming, reader.submit(table.read_buffer, buffer)
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()


def num_batches(
    table: ExampleTable, days: Sequence[datetime.date], *, batch_size: int, shuffle_rows: int
) -> int:
    """Global batches of a pass."""
    buffers = table.buffers(days, rows=shuffle_rows)
    return sum(-(-buffer.num_rows // batch_size) for buffer in buffers)
