"""Stops a training whose numbers became NaN or infinite, before they replace what is good.

Of each step two numbers are looked at: the loss of each rank, and the norm of the dense part's
gradient after the average over ranks. A loss that is not finite makes the gradient NaN
(``spoil_gradient``), so that the norm is the same on every rank and nothing has to be exchanged
until a run has diverged. What is about to be saved is checked as well: the tables take their steps
inside the backward pass, and a row that they spoil may be in no batch for long.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from features.cli import FailedError

RUNBOOK = "training-diverged"
"""Page of infra/runbooks that a failure of this kind names."""
_NAMED = 5
_Value = TypeVar("_Value")
"""Tensors that an error names at most."""


class DivergedError(FailedError):
    """A training whose loss, gradient or weights are no finite numbers any more."""

    def __init__(self, step: int, reason: str) -> None:
        """Args: the step that was taken last, and what was found."""
        super().__init__(
            f"step {step}: {reason}; the training diverged", {"runbook": RUNBOOK, "step": step}
        )


def spoil_gradient(loss: Tensor) -> Tensor:
    """The loss; unless it is finite its gradient is NaN, which otherwise is the same to the bit.

    By itself the loss of a logit that overflowed has a finite gradient.
    """
    is_finite = loss.detach().isfinite()
    loss.register_hook(lambda gradient: torch.where(is_finite, gradient, math.nan))
    return loss


def clipped_norm(parameters: Iterable[nn.Parameter], clip_norm: float) -> Tensor:
    """Norm of the gradients together, the same on every rank, before they are clipped to it.

    Args:
        parameters: Whose gradients were averaged over ranks; under FSDP2 each rank has pieces.
        clip_norm: Largest norm that is left; 0: any.
    """
    given = [parameter for parameter in parameters if parameter.grad is not None]
    norm = total_norm(one.grad for one in given if one.grad is not None)
    if clip_norm:
        nn.utils.clip_grads_with_norm_(given, clip_norm, norm)
    return norm


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """L2 norm of all numbers of some tensors, of which each rank may have pieces."""
    norm = nn.utils.get_total_norm(list(tensors))
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


class Watch:
    """Looks at every step of a run; DivergedError, on all ranks, names the first bad one.

    On CUDA a step is looked at when the next one has been taken: to wait for a number would hold
    the computation up.
    """

    def __init__(self, device: torch.device) -> None:
        self._behind = 1 if device.type == "cuda" else 0
        self._taken: list[tuple[int, Tensor, Tensor]] = []

    def after_step(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Note a step's number, this rank's loss, and the norm that all ranks share."""
        self._taken.append((step, loss, norm))
        self._look(self._behind)

    def finish(self) -> None:
        """Look at what is left."""
        self._look(0)

    def _look(self, left: int) -> None:
        while len(self._taken) > left:
            step, loss, norm = self._taken.pop(0)
            if not math.isfinite(norm):
                raise DivergedError(step, _cause(float(loss), float(norm)))


def _cause(loss: float, norm: float) -> str:
    """What is not finite, and on which rank; every rank calls this."""
    losses = _from_all_ranks(loss)
    bad = [f"loss {value} on rank {rank}" for rank, value in losses if not math.isfinite(value)]
    if bad:
        return ", ".join(bad)
    good = ", ".join(f"{value:.4g} on rank {rank}" for rank, value in losses)
    return f"norm {norm} of the gradient averaged over ranks, with a loss of {good}"


def refuse_non_finite(state: Mapping[str, object], step: int) -> None:
    """DivergedError, on all ranks, when what is to be saved has a number that is not finite."""
    bad = [name for name, value in local_tensors(state) if not _is_finite(value)]
    found = [f"{name} on rank {rank}" for rank, names in _from_all_ranks(bad) for name in names]
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        named = ", ".join(found[:_NAMED])
        raise DivergedError(step, f"nothing is saved, for NaN or infinity is in {named}{more}")


def _from_all_ranks(mine: _Value) -> list[tuple[int, _Value]]:
    values = [mine] * dist.get_world_size()
    dist.all_gather_object(values, mine)
    return list(enumerate(values))


def local_tensors(state: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """This rank's part of every tensor of a training state, by name."""
    for name, value in state.items():
        if isinstance(value, Mapping):
            yield from local_tensors(value, f"{prefix}{name}.")
        elif hasattr(value, "local_shards"):
            for shard in value.local_shards():
                yield f"{prefix}{name}", shard.tensor
        elif isinstance(value, Tensor):
            yield f"{prefix}{name}", value.to_local() if isinstance(value, DTensor) else value


def _is_finite(value: Tensor) -> bool:
    """Without a copy: the largest magnitude is NaN or infinite as soon as one number is."""
    if not value.is_floating_point() or not value.numel():
        return True
    return math.isfinite(torch.linalg.vector_norm(value.detach(), ord=math.inf))
