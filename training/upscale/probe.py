"""Which operator to grow with: each is tried for some hundred steps, and the better one is kept.

The loss right after a growth says little about where it ends, that of some hundred steps later says
much (arXiv 2406.02469). Each step's batch is judged before it enters the weights, in one pass over
days that the parent has not learnt; so no row judges what has learnt it, and none is held back. All
operators see the same batches at the full learning rates. What is written is the growth itself,
without the steps of its trial.
"""

import dataclasses
import datetime
import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from features.places import Place, place, remove_folder
from features.schema import Schema
from training.checkpoint.catalog import Checkpoint, Checkpoints
from training.checkpoint.tensors import load_training_state
from training.config.recipe import Recipe, recipe_from_dict
from training.data.batches import batches, num_batches
from training.data.dataset import ExampleTable
from training.distributed.divergence import DivergedError
from training.model.grown_config import GrowthError, Operator
from training.model.inputs import inputs_of
from training.trainer.health import HealthWatch
from training.trainer.loop import take_steps
from training.trainer.session import Session, Step
from training.upscale.upscale import upscale

logger = logging.getLogger(__name__)

PROBE_STEPS = 200
"""Most steps of each operator; the later half of them is judged."""


@dataclasses.dataclass(frozen=True)
class Tried:
    """What an operator came to."""

    log_loss: float | None = None
    """Of the later half of its steps, before each; None: it has failed."""
    steps: int = 0
    new_layers: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    failure: str = ""


def upscale_probed(
    schema: Schema,
    source: Checkpoint,
    target: Recipe,
    table: ExampleTable,
    checkpoints: Checkpoints,
    *,
    days: Sequence[datetime.date],
) -> dict[str, Any]:
    """Grow with the operator that is better after some steps; every rank calls this.

    Args:
        schema: The data set.
        source: The parent.
        target: What to grow to.
        table: The examples.
        checkpoints: Where the parent is, and the grown one is written.
        days: Days that the parent has not learnt and that are not held out.

    Returns:
        What ``upscale`` does, and under ``probe`` what each operator came to.

    Raises:
        GrowthError: There is no row to try on, no operator can grow the parent, or half of a new
            layer died with each.
    """
    if not table.num_rows(days):
        raise GrowthError(
            f"operator probe: no examples after {source.trained_through}, the last day that "
            f"{source.name} has learnt, and before the holdout; at least 1 row is needed"
        )
    folder = checkpoints.running(f"{source.name}-probe")
    tried = {}
    for operator in Operator:
        try:
            grown = upscale(schema, source, target, table, folder, operator=operator)
            made = Checkpoint.at(place(grown["checkpoint"]))
            tried[operator] = _trained(made, schema, table, days)
        except (GrowthError, DivergedError) as error:
            tried[operator] = Tried(failure=str(error))
        # Not in a finally: a failure of this rank alone must not wait for the others.
        _removed(folder)
        if dist.get_rank() == 0:
            logger.info("probe of %s: %s", operator, tried[operator])
    best = better(tried)
    root = (schema, source, target, table, checkpoints.root)
    plain = {operator.value: dataclasses.asdict(one) for operator, one in tried.items()}
    return {**upscale(*root, operator=best), "probe": plain}


def better(tried: dict[Operator, Tried]) -> Operator:
    """The operator of the least loss; one that has failed does not count.

    Raises:
        GrowthError: Every one has failed.
    """
    losses = {one: found.log_loss for one, found in tried.items() if found.log_loss is not None}
    if not losses:
        reasons = "; ".join(f"{one}: {found.failure}" for one, found in tried.items())
        raise GrowthError(f"operator probe: none can be taken; {reasons}")
    return min(losses, key=lambda one: losses[one])


def _trained(
    grown: Checkpoint, schema: Schema, table: ExampleTable, days: Sequence[datetime.date]
) -> Tried:
    """Some steps from a grown checkpoint, which stays as it is."""
    recipe = recipe_from_dict(grown.manifest.recipe)
    session = Session(inputs_of(schema), recipe, None)
    load_training_state(grown.tensors, session.model, session.optimizer)
    config = recipe.training
    sizes = {"batch_size": config.batch_size, "shuffle_rows": config.shuffle_rows}
    total = min(PROBE_STEPS, num_batches(table, days, **sizes))
    growth = grown.manifest.growth
    health = HealthWatch(session, growth.get("new_layers", []) if growth else [])
    health.start(total)
    losses: list[Tensor] = []

    def after_step(done: int, step: Step) -> None:
        losses.append(step.loss)
        health.after_step(done)

    rank, ranks = dist.get_rank(), dist.get_world_size()
    shared = {**sizes, "seed": config.seed, "rank": rank, "world_size": ranks}
    take_steps(
        *(session, batches(table, days, **shared)),
        after_step=after_step,
        until=lambda done: done >= total,
        seed=config.seed,
    )
    found = [dataclasses.asdict(one) for one in health.found if one.is_new]
    return Tried(_mean(losses[len(losses) // 2 :]), len(losses), found)


def _mean(losses: Sequence[Tensor]) -> float:
    """The mean over steps and ranks; a rank's loss is its part of the global batch's sum."""
    mean = torch.stack(list(losses)).mean()
    dist.all_reduce(mean)
    return float(mean) / dist.get_world_size()


def _removed(folder: Place) -> None:
    dist.barrier()
    if dist.get_rank() == 0:
        remove_folder(folder)
    dist.barrier()
