"""An exponential moving average of weights (Polyak averaging): one model, less of its noise."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

_EARLY = 10
"""Steps over which the decay rises, so that the first weights do not linger."""


class WeightAverage:
    """The moving average of some tensors, which training goes on changing in place.

    Args:
        tensors: The weights; those of floating point are averaged.
        decay: Share of the average that a step keeps, once warm.
    """

    def __init__(self, tensors: Iterable[Tensor], decay: float) -> None:
        self._tensors = [one.detach() for one in tensors if one.is_floating_point()]
        self._average = [tensor.clone() for tensor in self._tensors]
        self._decay = decay
        self._steps = 0

    def update(self) -> None:
        """Take one step's weights in."""
        self._steps += 1
        decay = min(self._decay, self._steps / (_EARLY + self._steps))
        get_ema_multi_avg_fn(decay)(self._average, self._tensors, self._steps)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the model has the averaged weights, after it those of training again."""
        kept = [tensor.clone() for tensor in self._tensors]
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(kept)

    @torch.no_grad()
    def _copy(self, values: Sequence[Tensor]) -> None:
        for tensor, value in zip(self._tensors, values, strict=True):
            tensor.copy_(value)
