"""Dense upscaling of a checkpoint, on every rank: load, grow, prove or measure, save.

The tables and their optimiser's state stay on the ranks that own them, and are written again as
they are; only the dense part, which every rank holds whole, grows.
"""

import dataclasses
import datetime
import hashlib
import logging
import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from features.places import Place
from features.schema import Schema
from training.checkpoint.catalog import MANIFEST, Checkpoint, CheckpointManifest, Growth
from training.checkpoint.tensors import State, load_training_state, save, training_state
from training.config.model import ModelConfig
from training.config.recipe import DenseParallelism, Recipe, recipe_from_dict
from training.data.batch import Batch, make_batch
from training.data.dataset import ExampleTable
from training.model.adam_clock import rewind_adam_step
from training.model.grow import Kind, grow
from training.model.grown_config import GrowthError, Operator, changes, grown_model, stack_of
from training.model.inputs import Inputs, inputs_of
from training.model.ranker import InteractionArch
from training.trainer.migrate_state import under
from training.trainer.session import Session

logger = logging.getLogger(__name__)

TOLERANCE = 1e-5
"""Largest difference of a logit that a growth may make; logits are of order one."""
GOLDEN_ROWS = 1_024
_BASE_RATE_DAYS = 7
"""Newest days that a checkpoint has learnt, whose share of positives a fresh head starts at."""
FRESH_HEAD_SHARE = 0.1
"""Of the last weights of a new ranker's head: the tables are trained, and first scores of that head
would lie anywhere. Not 0: from equal scores nothing below would learn in the first step."""
_NET = "net."
_INTERACTION = "interaction."
_MOMENTS = (Kind.FIRST_MOMENTS, Kind.SECOND_MOMENTS)
_ADAM = (*(moment.value for moment in _MOMENTS), "step")


@dataclasses.dataclass(frozen=True)
class _Step:
    """A growth of one model."""

    source: ModelConfig
    target: ModelConfig
    operator: Operator
    num_tokens: int

    def tensors(
        self, state: dict[str, Tensor], fresh: dict[str, Tensor], kind: Kind
    ) -> dict[str, Tensor]:
        """The stack's tensors grown, all others as the parent has them."""
        found = grow(
            *(under(state, _NET), under(fresh, _NET), self.source, self.target),
            num_tokens=self.num_tokens,
            kind=kind,
            operator=self.operator,
        )
        others = {key: value for key, value in state.items() if not key.startswith(_NET)}
        return others | {f"{_NET}{key}": value for key, value in found.items()}


def upscale(
    schema: Schema,
    source: Checkpoint,
    target: Recipe,
    table: ExampleTable,
    root: Place,
    *,
    operator: Operator = Operator.EXACT,
) -> dict[str, Any]:
    """Write the grown checkpoint beside its parent; every rank of the process group calls this.

    Args:
        schema: The data set.
        source: The parent.
        target: What to grow to.
        table: Has the golden batch, and the base rate of a fresh head.
        root: Where checkpoints are.
        operator: How it grows. Exactly: proven before it is written. Else the largest difference of
            a logit is measured, and has no limit.

    Raises:
        GrowthError: The target cannot contain the parent, or the proof failed.
    """
    inputs = inputs_of(schema)
    recipe = recipe_from_dict(source.manifest.recipe)
    # Growing reads whole tensors, whatever the run that wrote them did.
    whole = dataclasses.replace(recipe.sharding, dense_parallelism=DenseParallelism.DDP)
    session = Session(inputs, dataclasses.replace(recipe, sharding=whole), None)
    load_training_state(source.tensors, session.model, session.optimizer)
    parent = session.model.module.interaction
    num_tokens = parent.tokens.num_tokens
    config = grown_model(recipe.model, target.model, num_tokens=num_tokens, operator=operator)
    changed_axes = changes(recipe.model, config)
    if not changed_axes:
        raise GrowthError(f"{recipe.name} to {target.name}: nothing grows")
    step = _Step(recipe.model, config, operator, num_tokens)
    grown = _grown_interaction(inputs, parent, step, session.device)
    if operator is Operator.FRESH_HEAD:
        rate = _base_rate(table, source.trained_through)
        _begin_at(grown, rate)
        changed_axes.append(f"head: fresh, at the base rate {rate:.4g}; not exact")
    differences = prove(session, grown, golden_batch(schema, table).to(session.device), operator)
    state = _grown_state(session, grown, step)
    grown_recipe = dataclasses.replace(target, model=config)
    manifest = _manifest(source, grown_recipe, changed_axes, max(differences.values()), step)
    name = f"{source.manifest.run_day}-{target.name}"
    path = save(root, state, manifest, name).path
    if dist.get_rank() == 0:
        logger.info(
            "%s: %s; logits moved by %.2g", path, "; ".join(changed_axes), max(differences.values())
        )
    return {
        "checkpoint": str(path),
        "name": path.name,
        "recipe": target.name,
        "parent": source.name,
        "parent_recipe": recipe.name,
        "operator": operator,
        "is_exact": operator is Operator.EXACT,
        "changes": changed_axes,
        "max_logit_difference": max(differences.values()),
        "logit_differences": differences,
        "dense_parameters": sum(p.numel() for p in grown.parameters()),
        "parent_dense_parameters": sum(p.numel() for p in parent.parameters()),
    }


def _manifest(
    source: Checkpoint,
    grown: Recipe,
    changed_axes: list[str],
    difference: float,
    step: _Step,
) -> CheckpointManifest:
    """The parent's manifest with what grew, and out of what."""
    operator, depths = step.operator, [len(stack_of(m).layers) for m in (step.source, step.target)]
    new_layers = list(range(*depths))
    digest = hashlib.sha256((source.path / MANIFEST).read_bytes()).hexdigest()
    growth: Growth = {
        "parent": source.name,
        "from": source.recipe_name,
        "to": grown.name,
        "parent_manifest_sha256": digest,
        "changes": changed_axes,
        "max_logit_difference": difference,
        "operator": operator.value,
        "new_layers": new_layers,
    }
    return dataclasses.replace(
        source.manifest,
        recipe=grown.to_dict(),
        model_fingerprint=grown.model_fingerprint(),
        parent=source.name,
        family=[*source.manifest.family, source.name],
        growth=growth,
        role="",
        adopted={},
        metrics={},
    )


def golden_batch(schema: Schema, table: ExampleTable) -> Batch:
    """The newest examples, the same ones on every rank."""
    days = [day for day in table.days() if table.num_rows([day])]
    newest = table.read(days[-1:])
    rows = torch.arange(len(newest))[-GOLDEN_ROWS:].numpy()
    label = newest.label[rows]
    return make_batch(newest.inputs.take(rows), label, label * 0 + 1)


def _base_rate(table: ExampleTable, through: datetime.date) -> float:
    """The share of positives in the newest days that were learnt; above 0 and below 1."""
    days = table.days(datetime.date.min, through)[-_BASE_RATE_DAYS:]
    return (table.positives(days) + 1) / (table.num_rows(days) + 2)


@torch.no_grad()
def _begin_at(grown: InteractionArch, rate: float) -> None:
    """Let a fresh head's first scores lie near a base rate: its last weights are small."""
    for name in {"head", "auxiliary"} & dict(grown.net.named_children()).keys():
        linear = [m for m in grown.net.get_submodule(name).modules() if isinstance(m, nn.Linear)]
        linear[-1].weight.mul_(FRESH_HEAD_SHARE)
        linear[-1].bias.fill_(math.log(rate) - math.log1p(-rate))


def prove(
    session: Session, grown: InteractionArch, batch: Batch, operator: Operator = Operator.EXACT
) -> dict[str, float]:
    """Largest difference of a logit, evaluating and, where nothing is dropped, training.

    Raises:
        GrowthError: It is above the tolerance, though the growth is to be exact.
    """
    ranker = session.model.module
    with torch.no_grad():
        pooled = ranker.pool(batch.sparse)
        pretrained = ranker.pretrained(batch.sparse)
    found = {}
    modes = [("evaluating", False)]
    if not session.recipe.model.dropout:
        modes.append(("training", True))
    for name, is_training in modes:
        logits = []
        for arch in (ranker.interaction, grown):
            was_training = arch.training
            # With gradients the layers may take another path than without.
            with torch.set_grad_enabled(is_training):
                outputs = arch.train(is_training)(batch.dense, pooled, pretrained).detach()
            # Not the auxiliary logit, which begins anew where another layer is in the middle.
            logits.append(outputs.view(-1, len(batch.label))[0])
            arch.train(was_training)
        found[name] = float((logits[0] - logits[1]).abs().max())
        if operator is Operator.EXACT and not found[name] <= TOLERANCE:
            raise GrowthError(
                f"logits moved by {found[name]:.3g} {name}; at most {TOLERANCE:g}; the parent's "
                f"are up to {float(logits[0].abs().max()):.3g}"
            )
    return found


def _grown_interaction(
    inputs: Inputs,
    parent: InteractionArch,
    step: _Step,
    device: torch.device,
) -> InteractionArch:
    # The same on every rank: the new weights must be.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        grown = InteractionArch(inputs, step.target)
    state = {key: value.cpu() for key, value in parent.state_dict().items()}
    fresh = grown.state_dict()
    grown.load_state_dict(step.tensors(state, fresh, Kind.WEIGHTS))
    return grown.to(device)


def _grown_state(session: Session, grown: InteractionArch, step: _Step) -> State:
    """The parent's training state with the grown dense part and its moments."""
    state = training_state(session.model, session.optimizer)
    parent = session.model.module.interaction
    model = {key: v for key, v in state["model"].items() if not key.startswith(_INTERACTION)}
    model |= {f"{_INTERACTION}{key}": value for key, value in grown.state_dict().items()}
    adam = {
        key: value
        for key, value in state["dense_optimizer"].items()
        if not key.startswith(_INTERACTION)
    }
    names = [name for name, _ in parent.named_parameters()]
    zeros = {name: torch.zeros_like(p) for name, p in grown.named_parameters()}
    ones = {name: torch.ones_like(p) for name, p in parent.named_parameters()}
    old_entries = step.tensors(ones, zeros, Kind.FIRST_MOMENTS)
    for moment in _MOMENTS:
        held = {
            name: state["dense_optimizer"][f"{_INTERACTION}{name}.{moment.value}"] for name in names
        }
        moved = step.tensors(held, zeros, moment)
        adam |= {f"{_INTERACTION}{name}.{moment.value}": value for name, value in moved.items()}
    betas = session.optimizer.param_groups[0]["betas"]
    count = state["dense_optimizer"][f"{_INTERACTION}{names[0]}.step"]
    for name, old in old_entries.items():
        key = f"{_INTERACTION}{name}"
        first, second = (adam[f"{key}.{moment.value}"] for moment in _MOMENTS)
        found = (first, second, count.clone() if old.any() else torch.zeros(()))
        if not old.all():
            found = rewind_adam_step(*found, betas)
        adam |= {f"{key}.{part}": value for part, value in zip(_ADAM, found, strict=True)}
    return {**state, "model": model, "dense_optimizer": adam}
