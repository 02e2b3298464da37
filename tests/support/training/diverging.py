"""One rank of a test: trainings that diverge, and gradients that are clipped.

torchrun diverging.py LAKE FOLDER: rank 0 writes FOLDER/found.json.
"""

import dataclasses
import datetime
import json
import math
import sys
from pathlib import Path

import torch
import torch.distributed as dist

import training.trainer.loop
from features.datasets.catalog import schema_of
from training.checkpoint.tensors import training_state
from training.config.recipe import DenseParallelism
from training.data.dataset import ExampleTable
from training.distributed.divergence import DivergedError, refuse_non_finite
from training.distributed.process_group import process_group
from training.model.inputs import inputs_of
from training.recipes import recipe_of
from training.trainer.first_rows import first_rows
from training.trainer.in_run_checkpoint import Progress
from training.trainer.loop import fit
from training.trainer.session import Session

BAD_STEP = 7
"""Of which the second rank's loss is infinite."""


def session_of(table, *, parallelism=DenseParallelism.DDP, **training) -> Session:
    recipe = recipe_of("wukong-tiny")
    recipe = dataclasses.replace(
        recipe,
        training=dataclasses.replace(recipe.training, **training),
        sharding=dataclasses.replace(recipe.sharding, dense_parallelism=parallelism),
    )
    return Session(inputs_of(table.schema), recipe, first_rows(table, days_of(table)))


def days_of(table):
    return table.days(datetime.date.min, datetime.date.max)[:2]


SAVE = {"at_most": 2}
"""Every step is saved."""


def train(session, table, folder):
    """The error's words and step, the saves that are whole, and whether the newest is finite."""
    progress = Progress(folder, {"run": 1}, **SAVE)
    found = {"error": "", "step": session.steps}
    try:
        fit(session, table, days_of(table), epochs=1, is_warm=True, progress=progress)
    except DivergedError as error:
        found = {"error": str(error), **error.summary}
    found["saves"] = sorted(path.name for path in folder.glob("*/0*"))
    return found


def resumed(session, folder):
    """Step of the newest save; it is loaded, and all of it is finite."""
    step = Progress(folder, {"run": 1}, **SAVE).restore(session).step
    refuse_non_finite(training_state(session.model, session.optimizer), step)
    return step


def with_a_bad_batch(run):
    """Run with an infinite weight on the second rank, as a bug in the input would give."""
    real = training.trainer.loop.batches

    def spoilt(*arguments, **options):
        for number, batch in enumerate(real(*arguments, **options), options["skip"] + 1):
            if number == BAD_STEP and dist.get_rank() == 1:
                batch.weight[:] = math.inf
            yield batch

    training.trainer.loop.batches = spoilt
    try:
        return run()
    finally:
        training.trainer.loop.batches = real


def healed(table, folder):
    """A run that a bad batch stopped goes on without it, against one that nothing stopped."""
    fit(whole := session_of(table), table, days_of(table), epochs=1, is_warm=True)
    found = with_a_bad_batch(lambda: train(session_of(table), table, folder))
    again = session_of(table)
    found["resumed"] = train(again, table, folder)
    wanted, got = (dict(session.local_tensors()) for session in (whole, again))
    found["is_equal"] = all(torch.equal(got[name], value) for name, value in wanted.items())
    return found


def clipped(table, **options):
    """Of three steps the gradient's norm before it is clipped, and a weight after them."""
    session = session_of(table, clip_norm=0.05, dense_learning_rate=0.1, **options)
    norms, lengths = [], []

    def seen(optimizer, *_):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.get_total_norm(grads)
        lengths.append(float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm))

    # After the hook of the session, so that what it sees is what enters the step.
    session.optimizer.register_step_pre_hook(seen)
    stream = training.trainer.loop.batches(
        *(table, days_of(table)),
        batch_size=session.config.batch_size,
        shuffle_rows=session.config.shuffle_rows,
        seed=session.config.seed,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
    )
    for batch, _ in zip(stream, range(3), strict=False):
        session.step(batch, learning_rate_share=1.0)
        norms.append(float(session.gradient_norm))
    return {"norms": norms, "lengths": lengths}


def main(lake: Path, folder: Path) -> None:
    table = ExampleTable(lake, schema_of("synthetic"))
    with process_group():
        steep = session_of(table, dense_learning_rate=1e9, sparse_learning_rate=1e9)
        found = {"steep": train(steep, table, folder / "steep")}
        found["after_steep"] = resumed(session_of(table), folder / "steep")
        found["bad batch"] = healed(table, folder / "bad")
        pieces = session_of(table, parallelism=DenseParallelism.FSDP2)
        found["fsdp2"] = with_a_bad_batch(lambda: train(pieces, table, folder / "fsdp2"))
        found["clipped"] = clipped(table)
        found["clipped fsdp2"] = clipped(table, parallelism=DenseParallelism.FSDP2)
        if dist.get_rank() == 0:
            (folder / "found.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
