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
from features.places import Place
from training.model.inputs import Inputs

IntArray = npt.NDArray[np.int64]


class FormatError(ValueError):
    """A line of a file is not what the format has there."""

    def __init__(self, path: Place, *, line: int, column: str | int, found: str, expected: str):
        """Args: where (1-based line), what stands there, and what should."""
        where = f"{path.name}: line {line}, column {column}"
        super().__init__(f"{where}: {found[:80]!r}; expected {expected}")


def require_files(folder: Place, names: tuple[str, ...]) -> list[Place]:
    """The paths of files that a data set must have; ValueError names those that are missing."""
    paths = [folder / name for name in names]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise ValueError(
            f"--data {folder}: no {', '.join(missing)}; the data set is {', '.join(names)}"
        )
    return paths


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

    def parts(self) -> Iterator["Split"]:
        """Itself: training rows that fit memory are one part."""
        yield self

    def take(self, rows: IntArray) -> "Split":
        """Some rows, in the order given."""
        return Split(self.inputs.take(rows), self.label[rows], self.group[rows])

    def newest(self, num_rows: int) -> "Split":
        """The last so many rows, or all; ValueError below one."""
        if num_rows < 1:
            raise ValueError(f"rows: {num_rows}; at least 1")
        return self.take(np.arange(len(self))[-num_rows:])

    @staticmethod
    def joined(parts: Sequence["Split"]) -> "Split":
        """The rows of several, one after the other."""
        inputs = [part.inputs for part in parts]
        ids = {name: Ids.joined([one.ids[name] for one in inputs]) for name in inputs[0].ids}
        return Split(
            ModelInputs(np.concatenate([one.dense for one in inputs]), ids),
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.group for part in parts]),
        )


class TrainingRows(Protocol):
    """Training rows, a part that fits memory at a time, the same ones on every pass."""

    def parts(self) -> Iterator[Split]:
        """One pass."""
        ...

    def __len__(self) -> int:
        """Rows of one pass."""
        ...


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

    def in_memory(self, why: str) -> Split:
        """The training rows; ValueError with ``why`` where they are streamed."""
        if isinstance(self.train, Split):
            return self.train
        raise ValueError(why)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The values of one field that have a row; all others share row 0, that of the unknown."""

    values: pa.Array

    @classmethod
    def of(cls, values: pa.ChunkedArray) -> "Vocabulary":
        """All values, in the order in which they are first seen."""
        return cls(pc.unique(values.combine_chunks()).drop_null())

    @property
    def num_rows(self) -> int:
        """Rows of the field's table."""
        return len(self.values) + 1

    def rows(self, values: pa.ChunkedArray | pa.Array) -> IntArray:
        """The row of each value."""
        found = pc.fill_null(pc.index_in(values, value_set=self.values), -1)
        return np.asarray(found).astype(np.int64) + 1


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
        name: value if isinstance(value, Ids) else Ids.one_each(value)
        for name, value in columns.items()
    }
    if dense is None:
        dense = np.empty((len(label), 0), dtype=np.float32)
    group = np.arange(len(label))
    if users is not None:
        # A number for each user that is the same in every block of a file.
        group = hash_array(np.asarray(users, dtype=object), categorize=True).view(np.int64)
    return Split(ModelInputs(dense, ids), label, group)
