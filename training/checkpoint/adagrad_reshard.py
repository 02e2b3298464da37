"""Row-wise Adagrad's moments under another column split.

The optimiser keeps, for each row of a table, the sum of the mean squares of its gradients: one
number for each column shard. A checkpoint has them one column shard behind the other. Where the
columns are cut otherwise, a shard's moment is the mean of those that its columns had, weighted by
how many of them it takes from each: a mean when shards merge, a copy when one is split.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, order=True)
class Columns:
    """Columns of one shard."""

    offset: int
    size: int


Split = tuple[Columns, ...]
"""The column shards of a table, from left to right."""


def column_split(shards: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Split:
    """The column shards among shards given as (row and column offsets, sizes)."""
    return tuple(sorted({Columns(offsets[1], sizes[1]) for offsets, sizes in shards}))


def convert(moments: Tensor, saved: Split, wanted: Split) -> Tensor:
    """Moments of one column split as those of another.

    Args:
        moments: (column shards of ``saved`` x rows,).
        saved: The split that they have.
        wanted: Another split of the same columns.

    Returns:
        (column shards of ``wanted`` x rows,).
    """
    by_shard = moments.view(len(saved), -1)
    share = torch.tensor([[_overlap(new, old) / new.size for old in saved] for new in wanted])
    return (share.double() @ by_shard.double()).to(moments.dtype).flatten()


def _overlap(left: Columns, right: Columns) -> int:
    end = min(left.offset + left.size, right.offset + right.size)
    return max(0, end - max(left.offset, right.offset))


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A table whose moments were converted."""

    table: str
    saved: Split
    wanted: Split

    def __str__(self) -> str:
        """Such as ``item_id: 2 column shards to 1``."""
        return f"{self.table}: {len(self.saved)} column shards to {len(self.wanted)}"
