"""How the parts of a ranker train: their gradients and updates, and hidden units that have died.

Deep stacks of interactions are said to train badly because little of the gradient reaches their
lower layers (arXiv 2602.06563); a part whose updates are far smaller than those of the others says
so. A hidden unit that is positive for no row hands nothing on and has no gradient: it is dead.
Layers that grew onto a trained stack were seen to lose most of theirs, and training to turn down
what is left. All this is looked at after few steps, and on the others nothing is computed.
"""

import collections
import dataclasses
import logging
from collections.abc import Callable, Collection

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from training.config.recipe import DenseParallelism
from training.distributed.divergence import total_norm
from training.model.grown_config import GrowthError
from training.model.wukong import FactorizationMachineBlock, Wukong, WukongLayer
from training.trainer.session import Session

logger = logging.getLogger(__name__)

LOOKED_AT = (100, 500)
"""Steps of a run after which its parts are looked at, as after its last one."""
DEAD_LIMIT = 0.5
"""Share of a new layer's hidden units; as many dead ones are a growth that has failed."""
SAMPLE_ROWS = 2_000
"""Newest rows of each rank on which a unit has to be positive once."""


@dataclasses.dataclass(frozen=True)
class PartHealth:
    """What a part of the dense part was found to be after a step."""

    part: str
    """``layer 0`` and so on from the input up, ``head``, ``tokens`` (what makes embeddings of
    numbers and groups), ``tables`` where Adam trains them."""
    step: int
    gradient: float
    """L2 norm of the step's gradient over ranks, clipped if the step's was."""
    update: float
    """L2 norm of the step, over that of the weights which it led to."""
    is_new: bool = False
    """Whether it is a layer that grew."""
    dead_units: float | None = None
    """Of a Wukong layer the share of the hidden units of its block's MLP that were positive for
    none of the rows; None: not looked at."""
    fmb_norm: float | None = None
    """Mean length of an embedding that its block puts out; those of a living stack are normalised
    to the root of their dimension further up."""

    def says(self) -> str:
        """In words, for a log."""
        text = f"{self.part}: gradient {self.gradient:.3g}, update {self.update:.3g}"
        if self.dead_units is None:
            return text
        return f"{text}, {self.dead_units:.0%} of its units dead, FMB output {self.fmb_norm:.3g}"

    def check(self) -> None:
        """GrowthError where it is new, and half of it is dead."""
        dead = self.dead_units or 0.0
        if self.is_new and self.step <= LOOKED_AT[-1] and dead >= DEAD_LIMIT:
            raise GrowthError(
                f"{self.part}: dead_units {dead:.2f} after {self.step} steps; must be below "
                f"{DEAD_LIMIT}: the growth has failed. Another operator, a lower learning rate or "
                "a smaller step of growth may do"
            )


class HealthWatch:
    """Looks at what Adam trains of a ranker; all ranks do, after the same steps.

    Args:
        session: The ranker.
        new_layers: Numbers of the Wukong layers that grew.
    """

    def __init__(self, session: Session, new_layers: Collection[int] = ()) -> None:
        self.found: list[PartHealth] = []
        self._session, self._new = session, {f"layer {number}" for number in new_layers}
        trained = {id(p) for group in session.optimizer.param_groups for p in group["params"]}
        self._parts: dict[str, list[Tensor]] = collections.defaultdict(list)
        for name, parameter in session.model.named_parameters():
            if id(parameter) in trained:
                self._parts[part_of(name)].append(parameter)
        self._before: dict[str, list[Tensor]] = {}
        rows = max(1, session.config.batch_size // dist.get_world_size())
        self._num_kept = -(-SAMPLE_ROWS // rows)
        self._layers = _seen_layers(session)
        if new_layers and not self._layers:
            logger.warning("new layers %s: not looked at where compiled, or with FSDP2", new_layers)
        self._inputs: dict[str, collections.deque[Tensor]] = {
            part: collections.deque(maxlen=self._num_kept) for part in self._layers
        }
        self._moments: set[int] = set()
        self._hooks: list[RemovableHandle] = []

    def start(self, total: int, *, done: int = 0) -> None:
        """Watch a run of so many steps, some of them done."""
        self._moments, self._steps_before = {*LOOKED_AT, total}, self._session.steps - done
        self._hooks = [
            self._session.optimizer.register_step_pre_hook(self._keep_weights),
            *(
                layer.register_forward_pre_hook(self._noting(part))
                for part, layer in self._layers.items()
            ),
        ]

    def after_step(self, done: int) -> None:
        """Look, when it is time; GrowthError where half of a new layer is dead, on all ranks."""
        if done in self._moments:
            looked = [self._look(part, done) for part in self._parts]
            self.found += looked
            if dist.get_rank() == 0:
                logger.info("after %d steps: %s", done, "; ".join(one.says() for one in looked))
            self._before = {}
            for one in looked:
                one.check()
        if done >= max(self._moments):
            self.stop()

    def stop(self) -> None:
        """Watch no more."""
        for hook in self._hooks:
            hook.remove()
        for inputs in self._inputs.values():
            inputs.clear()

    def _steps_to_go(self) -> int:
        """From the step that is taken now to the next that is looked at; -1: there is none."""
        step = self._session.steps - self._steps_before + 1
        return min((moment - step for moment in self._moments if moment >= step), default=-1)

    def _keep_weights(self, *_: object) -> None:
        if self._steps_to_go() == 0:
            self._before = {
                part: [one.detach().clone() for one in weights]
                for part, weights in self._parts.items()
            }

    def _noting(self, part: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            if 0 <= self._steps_to_go() < self._num_kept:
                self._inputs[part].append(arguments[0].detach())

        return note

    @torch.no_grad()
    def _look(self, part: str, step: int) -> PartHealth:
        weights = [one.detach() for one in self._parts[part]]
        gradient = total_norm(one.grad for one in self._parts[part] if one.grad is not None)
        moved = total_norm(a - b for a, b in zip(weights, self._before[part], strict=True))
        update = float(moved) / max(float(total_norm(weights)), torch.finfo().tiny)
        found = PartHealth(part, step, float(gradient), update, is_new=part in self._new)
        if not self._inputs.get(part):
            return found
        rows = torch.cat([*self._inputs[part]]).float()
        alive, norm = block_health(self._layers[part].fmb, rows)
        dist.all_reduce(alive, op=dist.ReduceOp.MAX)
        dist.all_reduce(norm)
        return dataclasses.replace(
            found,
            dead_units=1 - float(alive.mean()) if len(alive) else 0.0,
            fmb_norm=float(norm) / dist.get_world_size(),
        )


def part_of(name: str) -> str:
    """The part that has a parameter, by the parameter's name."""
    _, is_dense, inner = name.partition("interaction.")
    first, *rest = inner.removeprefix("net.").split(".") if is_dense else ["tables"]
    return f"layer {rest[0]}" if first == "layers" else first


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


def _seen_layers(session: Session) -> dict[str, WukongLayer]:
    """The Wukong layers whose units can be looked at: whole, and not compiled."""
    is_whole = session.plan.dense.parallelism is DenseParallelism.DDP
    net = session.model.module.interaction.net
    if session.is_compiled or not is_whole or not isinstance(net, Wukong):
        return {}
    layers = (layer for layer in net.layers if isinstance(layer, WukongLayer))
    return {f"layer {number}": layer for number, layer in enumerate(layers)}
