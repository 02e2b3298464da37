"""Training examples from the lake: read by day, encoded, shuffled in a bounded buffer, batched."""

import dataclasses
import datetime
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.encoding import ModelInputs, encode
from features.schema import DAY, EXAMPLE_ID, LABEL, Schema
from training.batch import Batch, make_batch

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


class ExampleTable:
    """The partitions of training examples of one data set."""

    def __init__(self, lake: Path, schema: Schema) -> None:
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
        hashes = {}
        for day in days:
            manifest = self.root / f"{DAY}={day.isoformat()}" / "_manifest.json"
            hashes[day.isoformat()] = str(json.loads(manifest.read_text())["content_hash"])
        return hashes

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

    def buffers(self, days: Sequence[datetime.date], *, rows: int) -> Iterator[Examples]:
        """The examples of some days in order, in buffers of about ``rows`` whole row groups."""
        held: list[pa.Table] = []
        count = 0
        for day in days:
            for path in self._files(day):
                with pq.ParquetFile(path) as file:
                    for group in range(file.num_row_groups):
                        held.append(file.read_row_group(group))
                        count += held[-1].num_rows
                        if count >= rows:
                            yield encode_examples(
                                self.schema, pa.concat_tables(held).combine_chunks()
                            )
                            held, count = [], 0
        if count:
            yield encode_examples(self.schema, pa.concat_tables(held).combine_chunks())

    def _files(self, day: datetime.date) -> list[Path]:
        return sorted((self.root / f"{DAY}={day.isoformat()}").glob("*.parquet"))


def encode_examples(schema: Schema, table: pa.Table) -> Examples:
    """Encode a table of examples."""
    columns = {name: table.column(name) for name in table.column_names}
    return Examples(
        encode(schema, columns),
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
) -> Iterator[Batch]:
    """This rank's part of every global batch of one pass over some days.

    A global batch holds ``batch_size`` examples, the last one the rest; rank r takes every
    ``world_size``-th of them from the r-th on, so every rank sees as many batches, and together
    they see each example once. A rank without an example in a small last batch gets one of
    weight 0.
    """
    random = np.random.default_rng([seed, len(days)])
    for examples in table.buffers(days, rows=shuffle_rows):
        order = random.permutation(len(examples))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            mine = rows[rank::world_size]
            weight = np.ones(len(mine), dtype=np.float32)
            if not len(mine):
                mine, weight = rows[:1], np.zeros(1, dtype=np.float32)
            # The loss of a rank is a sum; so scaled, the mean over ranks is the mean over examples.
            weight *= world_size / len(rows)
            yield make_batch(examples.inputs.take(mine), examples.label[mine], weight)


def num_batches(table: ExampleTable, days: Sequence[datetime.date], *, batch_size: int) -> int:
    """About how many batches a pass has; exact when one buffer holds all examples."""
    return -(-table.num_rows(days) // batch_size)
