"""Dense upscaling of a checkpoint, on every rank: load, grow, prove, save.

The tables and their optimiser's state stay on the ranks that own them, and are written again as
they are; only the dense part, which every rank holds whole, grows.
"""

import dataclasses
import datetime
import hashlib
import logging
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from features.places import Place
from features.schema import Schema
from training.checkpoint.catalog import MANIFEST, Checkpoint, CheckpointManifest, Growth
from training.checkpoint.tensors import State, load_training_state, save, training_state
from training.config.model import ModelConfig
from training.config.recipe import DenseParallelism, Recipe, recipe_from_dict
from training.data.batch import Batch, make_batch
from training.data.dataset import ExampleTable
from training.model.grow import Kind, grow, rewind_adam_step
from training.model.grown_config import GrowthError, changes, grown_model
from training.model.inputs import Inputs, inputs_of
from training.model.ranker import InteractionArch
from training.trainer.migrate_state import under
from training.trainer.session import Session

logger = logging.getLogger(__name__)

TOLERANCE = 1e-5
"""Largest difference of a logit that a growth may make; logits are of order one."""
GOLDEN_ROWS = 1_024
_NET = "net."
_INTERACTION = "interaction."
_MOMENTS = (Kind.FIRST_MOMENTS, Kind.SECOND_MOMENTS)
_ADAM = (*(moment.value for moment in _MOMENTS), "step")


def upscale(
    schema: Schema, source: Checkpoint, target: Recipe, table: ExampleTable, root: Place
) -> dict[str, Any]:
    """Write the grown checkpoint beside its parent; every rank of the process group calls this.

    The table has the golden batch; ``root`` is where checkpoints are.

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
    config = grown_model(recipe.model, target.model, num_tokens=parent.tokens.num_tokens)
    changed_axes = changes(recipe.model, config)
    if not changed_axes:
        raise GrowthError(f"{recipe.name} to {target.name}: nothing grows")
    grown = _grown_interaction(inputs, parent, recipe.model, config, session.device)
    batch = golden_batch(schema, table).to(session.device)
    differences = prove(session, grown, batch)
    state = _grown_state(session, grown, recipe.model, config)
    grown_recipe = dataclasses.replace(target, model=config)
    manifest = _manifest(source, grown_recipe, changed_axes, max(differences.values()))
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
        "changes": changed_axes,
        "max_logit_difference": max(differences.values()),
        "logit_differences": differences,
        "dense_parameters": sum(p.numel() for p in grown.parameters()),
        "parent_dense_parameters": sum(p.numel() for p in parent.parameters()),
    }


def _manifest(
    source: Checkpoint, grown: Recipe, changed_axes: list[str], difference: float
) -> CheckpointManifest:
    """The parent's manifest with what grew, and out of what."""
    digest = hashlib.sha256((source.path / MANIFEST).read_bytes()).hexdigest()
    growth: Growth = {
        "parent": source.name,
        "from": source.recipe_name,
        "to": grown.name,
        "parent_manifest_sha256": digest,
        "changes": changed_axes,
        "max_logit_difference": difference,
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
    days = [
        day for day in table.days(datetime.date.min, datetime.date.max) if table.num_rows([day])
    ]
    newest = table.read(days[-1:])
    rows = torch.arange(len(newest))[-GOLDEN_ROWS:].numpy()
    label = newest.label[rows]
    return make_batch(newest.inputs.take(rows), label, label * 0 + 1)


def prove(session: Session, grown: InteractionArch, batch: Batch) -> dict[str, float]:
    """Largest difference of a logit, evaluating and, where nothing is dropped, training.

    Raises:
        GrowthError: It is above the tolerance.
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
                logits.append(arch.train(is_training)(batch.dense, pooled, pretrained).detach())
            arch.train(was_training)
        found[name] = float((logits[0] - logits[1]).abs().max())
        if not found[name] <= TOLERANCE:
            raise GrowthError(
                f"logits moved by {found[name]:.3g} {name}; at most {TOLERANCE:g}; the parent's "
                f"are up to {float(logits[0].abs().max()):.3g}"
            )
    return found


def _grown_interaction(
    inputs: Inputs,
    parent: InteractionArch,
    source: ModelConfig,
    target: ModelConfig,
    device: torch.device,
) -> InteractionArch:
    # The same on every rank: the new weights must be.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        grown = InteractionArch(inputs, target)
    state = {key: value.cpu() for key, value in parent.state_dict().items()}
    fresh = grown.state_dict()
    grown.load_state_dict(_grown(state, fresh, source, target, parent, Kind.WEIGHTS))
    return grown.to(device)


def _grown(
    state: dict[str, Tensor],
    fresh: dict[str, Tensor],
    source: ModelConfig,
    target: ModelConfig,
    parent: InteractionArch,
    kind: Kind,
) -> dict[str, Tensor]:
    """The stack's tensors grown, all others as the parent has them."""
    num_tokens = parent.tokens.num_tokens
    stacks = (under(state, _NET), under(fresh, _NET))
    found = grow(*stacks, source, target, num_tokens=num_tokens, kind=kind)
    others = {key: value for key, value in state.items() if not key.startswith(_NET)}
    return others | {f"{_NET}{key}": value for key, value in found.items()}


def _grown_state(
    session: Session, grown: InteractionArch, source: ModelConfig, target: ModelConfig
) -> State:
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
    old_entries = _grown(ones, zeros, source, target, parent, Kind.FIRST_MOMENTS)
    for moment in _MOMENTS:
        held = {
            name: state["dense_optimizer"][f"{_INTERACTION}{name}.{moment.value}"] for name in names
        }
        moved = _grown(held, zeros, source, target, parent, moment)
        adam |= {f"{_INTERACTION}{name}.{moment.value}": value for name, value in moved.items()}
    betas = session.optimizer.param_groups[0]["betas"]
    step = state["dense_optimizer"][f"{_INTERACTION}{names[0]}.step"]
    for name, old in old_entries.items():
        key = f"{_INTERACTION}{name}"
        first, second = (adam[f"{key}.{moment.value}"] for moment in _MOMENTS)
        found = (first, second, step.clone() if old.any() else torch.zeros(()))
        if not old.all():
            found = rewind_adam_step(*found, betas)
        adam |= {f"{key}.{part}": value for part, value in zip(_ADAM, found, strict=True)}
    return {**state, "model": model, "dense_optimizer": adam}
