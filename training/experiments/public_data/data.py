"""What every reader produces: three splits of encoded rows, and what a ranker must know of them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pandas.util import hash_array

from features.encoding.encode import Ids, ModelInputs
from training.model.inputs import Inputs

IntArray = npt.NDArray[np.int64]
UNKNOWN_ROW = 0
"""Embedding row of values that the training split does not have."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Encoded rows with labels."""

    inputs: ModelInputs
    label: IntArray
    """(rows,) 0 or 1."""
    group: IntArray
    """(rows,) number of the user, for GAUC; every row its own where there is no user."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.label)


class TrainingRows(Protocol):
    """Training rows, a part that fits memory at a time, the same ones on every pass."""

    def parts(self) -> Iterator[Split]:
        """One pass."""
        ...

    def num_rows(self) -> int:
        """Rows of one pass."""
        ...


@dataclasses.dataclass(frozen=True)
class InMemory:
    """Training rows that fit memory whole."""

    split: Split

    def parts(self) -> Iterator[Split]:
        """The one part."""
        yield self.split

    def num_rows(self) -> int:
        """Rows of one pass."""
        return len(self.split)


@dataclasses.dataclass(frozen=True)
class BenchmarkData:
    """One data set, split once and for all; the test split is for the final figures only."""

    name: str
    inputs: Inputs
    train: TrainingRows
    valid: Split
    test: Split
    pretrained: Mapping[str, npt.NDArray[np.float32]] = dataclasses.field(default_factory=dict)
    """Frozen vectors by feature, (rows of its table, dimension)."""
    best_log_loss: float | None = None
    """Of the true probabilities on the test split, where they are known."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The values of one field that have a row; all others share ``UNKNOWN_ROW``."""

    values: pa.Array

    @classmethod
    def of(cls, values: pa.ChunkedArray, *, min_count: int = 1) -> "Vocabulary":
        """The values that occur often enough, in the order in which they are first seen."""
        counted = pc.value_counts(values.combine_chunks())
        names, counts = counted.field("values"), counted.field("counts")
        is_kept = pc.and_(pc.greater_equal(counts, min_count), pc.is_valid(names))
        return cls(names.filter(is_kept))

    @property
    def num_rows(self) -> int:
        """Rows of the field's table."""
        return len(self.values) + 1

    def rows(self, values: pa.ChunkedArray | pa.Array) -> IntArray:
        """The row of each value."""
        found = pc.fill_null(pc.index_in(values, value_set=self.values), -1)
        return np.asarray(found).astype(np.int64) + 1


def one_each(rows: IntArray) -> Ids:
    """Bags of one row each."""
    return Ids(rows, np.ones(len(rows), dtype=np.int32))


def no_dense(num_rows: int) -> npt.NDArray[np.float32]:
    """The dense inputs of a data set that has none."""
    return np.empty((num_rows, 0), dtype=np.float32)


def split_of(
    columns: Mapping[str, IntArray | Ids],
    label: IntArray,
    *,
    dense: npt.NDArray[np.float32] | None = None,
    users: pa.ChunkedArray | pa.Array | None = None,
) -> Split:
    """A split of columns that are embedding rows already.

    Args:
        columns: By feature, in the order of the inputs.
        label: 0 or 1.
        dense: (rows, inputs); None: no dense inputs.
        users: (rows,) who they are, by their own ids: rare users share an embedding row, and are
            still different people; None: every row is its own.
    """
    ids = {
        name: value if isinstance(value, Ids) else one_each(value)
        for name, value in columns.items()
    }
    inputs = ModelInputs(no_dense(len(label)) if dense is None else dense, ids)
    return Split(inputs, label, np.arange(len(label)) if users is None else _numbered(users))


def _numbered(users: pa.ChunkedArray | pa.Array) -> IntArray:
    """A number for each user that is the same in every block of a file."""
    hashed = hash_array(np.asarray(users, dtype=object), categorize=True)
    return np.asarray(hashed).view(np.int64)


def take_rows(split: Split, rows: Sequence[int] | IntArray) -> Split:
    """Some rows of a split, in the order given."""
    indices = np.asarray(rows)
    return Split(split.inputs.take(indices), split.label[indices], split.group[indices])
