"""Loads a checkpoint into a ranker of more inputs: what there was keeps its values and moments.

Tables are loaded shard by shard, each rank its own. The dense part, which every rank holds whole,
is laid out anew around the new tokens and dense inputs as a growth is (``training.model.grow``):
their weights into old values are zero at first. It is no exact copy where tokens are new, for the
first layer's LayerNorm runs over all of them. Of other rankers than Wukong, what has another shape
is new.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor, distribute_tensor

from features.places import Place
from training.checkpoint.schema_migration import Adoption, TableMigration
from training.checkpoint.storage import TensorsReader
from training.checkpoint.tensors import (
    DENSE_OPTIMIZER,
    load_tables,
    load_tensors,
    set_training_state,
    training_state,
)
from training.config.model import ModelConfig, WukongConfig
from training.model.adam_clock import rewind_adam_step
from training.model.grow import Kind, State, grow
from training.model.grown_config import GrowthError
from training.model.ranker import token_names
from training.trainer.session import Session

_MOMENTS = (Kind.FIRST_MOMENTS, Kind.SECOND_MOMENTS)
_INTERACTION, _NET = "interaction.", "net."
_BOTTOM = "tokens.bottom.0.weight"
_NORMALISER = ("tokens.normaliser.mean", "tokens.normaliser.deviation")
_LINEAR, _LINEAR_DENSE = "first_order.embeddings.weight", "first_order.dense.weight"


def load_adopted_state(
    path: Place, session: Session, adoption: Adoption, source: ModelConfig
) -> dict[str, str]:
    """Load what a checkpoint of fewer inputs has, on every rank.

    Args:
        path: The folder of the checkpoint's tensors.
        session: A fresh ranker of today's inputs, its normaliser fitted.
        adoption: How the checkpoint's inputs lie in today's.
        source: The checkpoint's model.

    Returns:
        What was kept, resized or new, for each table and each changed part.
    """
    state = training_state(session.model, session.optimizer)
    outcomes = adoption.to_dict()
    kept = [
        name for name in adoption.after.tables if adoption.table(name)[0] is not TableMigration.NEW
    ]
    rows = {name: adoption.before.tables[name].num_rows for name in kept}
    for converted in load_tables(state, path, rows):
        outcomes[f"moments of {converted.table}"] = f"converted: {converted}"
    dense = _DensePart(adoption, source, session.recipe.model)
    saved = _saved_dense(path)

    def pair(part: str, suffix: str = "") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the checkpoint has of the interaction, and what there is to fill."""
        return (
            under(saved, f"{part}.{_INTERACTION}", suffix),
            under(state[part], _INTERACTION, suffix),
        )

    outcomes |= dense.adopt(*pair("model"), Kind.WEIGHTS)
    for kind in _MOMENTS:
        dense.adopt(*pair(DENSE_OPTIMIZER, f".{kind.value}"), kind)
    steps, wanted = pair(DENSE_OPTIMIZER, ".step")
    betas = session.optimizer.param_groups[0]["betas"]
    for name, step in wanted.items():
        # A parameter that is new all through begins Adam's correction anew.
        if name in steps:
            step.copy_(steps[name])
        if name in dense.resized:
            key, adam = f"{_INTERACTION}{name}", state[DENSE_OPTIMIZER]
            first, second = (adam[f"{key}.{moment.value}"] for moment in _MOMENTS)
            rewound = rewind_adam_step(first, second, step.clone(), betas)
            for target, value in zip((first, second, step), rewound, strict=True):
                target.copy_(value)
    set_training_state(session.model, session.optimizer, state)
    return outcomes


def under(tensors: Mapping[str, Tensor], prefix: str, suffix: str = "") -> dict[str, Tensor]:
    """The tensors whose names begin and end in this way, by what is between."""
    return {
        name.removeprefix(prefix).removesuffix(suffix): value
        for name, value in tensors.items()
        if name.startswith(prefix) and name.endswith(suffix)
    }


def _saved_dense(path: Place) -> dict[str, Tensor]:
    """The checkpoint's interaction and its moments, whole."""
    sizes = TensorsReader(path).read_metadata().state_dict_metadata
    whole = {
        name: torch.empty(value.size, dtype=value.properties.dtype)
        for name, value in sizes.items()
        if isinstance(value, TensorStorageMetadata)
        and name.startswith((f"model.{_INTERACTION}", f"{DENSE_OPTIMIZER}.{_INTERACTION}"))
    }
    load_tensors(whole, path)
    return whole


def _put(target: Tensor, value: Tensor) -> None:
    if isinstance(target, DTensor):
        value = distribute_tensor(
            value.to(target.device), target.device_mesh, target.placements, src_data_rank=None
        )
    with torch.no_grad():
        target.copy_(value)


class _DensePart:
    """Where the tensors of the old interaction belong in the new one."""

    def __init__(self, adoption: Adoption, source: ModelConfig, target: ModelConfig) -> None:
        self.source, self.target = source, target
        before = token_names(adoption.before.inputs(), source)
        self.after = token_names(adoption.after.inputs(), target)
        self.positions = torch.tensor([self.after.index(name) for name in before])
        self.dim = target.embedding_dim
        self.resized: set[str] = set()
        """Tensors that have old entries and new ones."""
        self.dense = (
            torch.tensor(adoption.dense_positions(), dtype=torch.long).view(-1, 2).unbind(1)
        )

    def adopt(self, saved: State, wanted: dict[str, Tensor], kind: Kind) -> dict[str, str]:
        """Fill the new tensors; returns what was not simply kept."""
        made = {name: value for name, value in saved.items() if name in wanted}
        # A copy of all of each tensor, of which FSDP2 may hold a part here.
        fresh = {
            name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()
            for name, value in wanted.items()
        }
        made |= self._inputs(saved, fresh, kind)
        outcomes: dict[str, str] = {}
        if len(self.positions) < len(self.after):
            stack, outcomes = self._stack(saved, fresh, kind)
            made = {name: value for name, value in made.items() if not name.startswith(_NET)}
            made |= stack
        for name, value in wanted.items():
            if name in made and made[name].shape == value.shape:
                _put(value, made[name])
                if saved[name].shape != value.shape:
                    self.resized.add(name)
            else:
                outcomes[name] = f"{TableMigration.NEW}: {tuple(value.shape)}"
        return outcomes

    def _inputs(self, saved: State, wanted: State, kind: Kind) -> dict[str, Tensor]:
        """Statistics of the dense inputs, and the weights that read inputs, by their columns."""
        was, now = self.dense
        columns = dict.fromkeys((*_NORMALISER, _BOTTOM, _LINEAR_DENSE), (was, now))
        if _LINEAR in saved:
            # The dense tokens, which are last, have no column.
            size, dim = saved[_LINEAR].shape[1], self.dim
            first = self.positions[: size // dim] * dim
            columns[_LINEAR] = (torch.arange(size), (first[:, None] + torch.arange(dim)).flatten())
        found = {}
        for name, (before, after) in columns.items():
            if name not in saved or name not in wanted:
                continue
            found[name] = wanted[name].clone()
            if name not in _NORMALISER:
                found[name].zero_()
            found[name][..., after] = saved[name][..., before]
        return found

    def _stack(
        self, saved: State, wanted: State, kind: Kind
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Wukong's stack around its new tokens."""
        what = f"{len(self.after) - len(self.positions)} new tokens of {len(self.after)}"
        if not isinstance(self.target.interaction, WukongConfig):
            stack = {name: value for name, value in saved.items() if name.startswith(_NET)}
            return stack, {"interaction": f"tensors of another shape are new: {what}"}
        old, fresh = under(saved, _NET), under(wanted, _NET)
        try:
            stack = grow(
                *(old, fresh, self.source, self.target),
                num_tokens=len(self.after),
                positions=self.positions,
                kind=kind,
            )
        except GrowthError as error:
            return {}, {"interaction": f"{TableMigration.NEW}: {what}, and {error}"}
        outcomes = {"interaction": f"{TableMigration.RESIZED}: {what}"}
        return {f"{_NET}{name}": value for name, value in stack.items()}, outcomes
