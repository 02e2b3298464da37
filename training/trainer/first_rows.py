"""What a fresh ranker is fitted to before its first step: normaliser and share of positives."""

import dataclasses
import datetime
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data.dataset import ExampleTable

NORMALISER_ROWS = 262_144
"""Rows to which a fresh ranker is fitted before its first step, about."""


@dataclasses.dataclass(frozen=True)
class FirstRows:
    """What a fresh ranker is fitted to before its first step."""

    dense: Tensor
    """(rows, inputs) raw dense inputs, for the normaliser."""
    positive_rate: float | None = None
    """Share of positives, strictly between 0 and 1, at which the first scores lie; None: where
    chance has put them."""

    @classmethod
    def of(cls, dense: npt.NDArray[np.float32], label: npt.NDArray[np.int64]) -> "FirstRows":
        """Args: (rows, inputs) raw dense inputs; (rows,) labels of 0 and 1."""
        return cls(torch.from_numpy(dense), float((label.sum() + 1) / (len(label) + 2)))


def first_rows(table: ExampleTable, days: Sequence[datetime.date]) -> FirstRows:
    """What a fresh ranker is fitted to: the first examples."""
    buffers = table.buffers(days, rows=NORMALISER_ROWS)
    if not buffers:
        raise ValueError(
            f"examples: no rows through {days[-1:]}; run `python -m features examples`"
        )
    examples = table.encode(buffers[0].read())
    return FirstRows.of(examples.inputs.dense, examples.label)
