"""The first training of a ranker that has grown: its rates, and whether what is new in it lives.

A hidden unit that is positive for no row hands nothing on and has no gradient: it is dead. Layers
that grew onto a trained stack were seen to lose most of theirs, and training to turn down what is
left. So new layers are looked at on the rows of the last steps, early and once more later.
"""

import collections
import dataclasses
import logging
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.checkpoint.catalog import CONTROL, GROWN, Checkpoint, Growth
from training.config.recipe import DenseParallelism
from training.model.grown_config import GrowthError
from training.model.wukong import FactorizationMachineBlock
from training.trainer.session import Session

logger = logging.getLogger(__name__)

LOOKED_AT = (100, 500)
"""Steps after which new layers are looked at; in a run that is shorter, after its last one too."""
DEAD_LIMIT = 0.5
"""Share of a new layer's hidden units; as many dead ones are a growth that has failed."""
SAMPLE_ROWS = 2_000
"""Newest rows of each rank on which a unit has to be positive once."""


@dataclasses.dataclass(frozen=True)
class LayerHealth:
    """What a new layer was found to be."""

    layer: int
    """Its number, from the input up."""
    step: int
    """Steps after which it was looked at."""
    dead_units: float
    """Share of the hidden units of its block's MLP that were positive for none of the rows."""
    fmb_norm: float
    """Mean length of an embedding that its block puts out; those of a living stack are normalised
    to the root of their dimension further up."""

    def says(self) -> str:
        """In words, for a page."""
        return f"{self.dead_units:.0%} of its units dead, FMB output {self.fmb_norm:.3g}"

    def check(self) -> None:
        """GrowthError where half of it is dead."""
        if self.dead_units >= DEAD_LIMIT:
            raise GrowthError(
                f"layer {self.layer}: dead_units {self.dead_units:.2f} after {self.step} steps; "
                f"must be below {DEAD_LIMIT}: the growth has failed. Another operator, a lower "
                "learning rate or a smaller step of growth may do"
            )


class NewLayers:
    """Looks at some layers of a ranker in training; all ranks do, at the same steps.

    Args:
        session: The ranker, of Wukong.
        numbers: Of the layers.
    """

    def __init__(self, session: Session, numbers: Sequence[int]) -> None:
        layers = session.model.module.interaction.net.layers
        self._blocks = {number: layers[number].fmb for number in numbers}
        self.found: list[LayerHealth] = []
        rows = max(1, session.config.batch_size // dist.get_world_size())
        kept = -(-SAMPLE_ROWS // rows)
        self._inputs: dict[int, collections.deque[Tensor]] = {
            number: collections.deque(maxlen=kept) for number in numbers
        }
        self._hooks = [
            layers[number].register_forward_pre_hook(self._noting(number)) for number in numbers
        ]

    def after_step(self, done: int, total: int) -> None:
        """Look, when it is time; GrowthError where half of a layer is dead, on all ranks."""
        last = min(total, LOOKED_AT[-1])
        if done in {*LOOKED_AT, last}:
            looked = [self._look(number, done) for number in self._blocks if self._inputs[number]]
            self.found += looked
            for one in looked:
                if dist.get_rank() == 0:
                    logger.info("layer %d after %d steps: %s", one.layer, done, one.says())
            for one in looked:
                one.check()
        if done >= last:
            self.remove()

    def remove(self) -> None:
        """Stop noting what enters the layers."""
        for hook in self._hooks:
            hook.remove()
        for inputs in self._inputs.values():
            inputs.clear()

    def _noting(self, number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            self._inputs[number].append(arguments[0].detach())

        return note

    @torch.no_grad()
    def _look(self, number: int, step: int) -> LayerHealth:
        rows = torch.cat([*self._inputs[number]]).float()
        alive, norm = block_health(self._blocks[number], rows)
        dist.all_reduce(alive, op=dist.ReduceOp.MAX)
        dist.all_reduce(norm)
        dead = 1 - float(alive.mean()) if len(alive) else 0.0
        return LayerHealth(number, step, dead, float(norm) / dist.get_world_size())


def block_health(block: FactorizationMachineBlock, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Which hidden units are ever positive, 1 or 0, and the mean length of an embedding put out."""
    value = block.norm(block.interaction(embeddings))
    alive = [value.new_empty(0)]
    for module in block.mlp:
        if isinstance(module, nn.Dropout):
            continue
        value = module(value)
        if isinstance(module, nn.ReLU):
            alive.append((value > 0).any(dim=0).float())
    made = value.view(-1, block.num_out, block.dim)
    return torch.cat(alive), made.norm(dim=-1).mean()


def new_layers_of(growth: Growth | None, session: Session) -> NewLayers | None:
    """What looks at the layers that are new since a growth; None: none is, or none can be seen."""
    numbers = growth.get("new_layers", []) if growth else []
    if not numbers:
        return None
    if session.is_compiled or session.plan.dense.parallelism is not DenseParallelism.DDP:
        logger.warning("new layers %s: not looked at where compiled, or with FSDP2", numbers)
        return None
    return NewLayers(session, numbers)


def is_begun_anew(role: str, parent: Checkpoint) -> bool:
    """Whether a run from a parent trains at the full learning rates, as a cold run does.

    What has just grown has much to learn; the other side of a trial gets the same, so that growth
    alone tells them apart. Days after that go on at the rates of a warm run.
    """
    return parent.manifest.growth is not None or role in {GROWN, CONTROL}
