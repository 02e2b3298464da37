"""The training loop, the only place where steps are taken, and its passes over the lake's days.

On CUDA a thread cuts, builds and pins batches, and TorchRec's ``TrainPipelineSparseDist`` copies
the batch after next and exchanges the ids of the next one while a step computes. Batches have then
been read that no weight has seen: what counts as done is a ``Step``, never what was taken from the
stream. Lookups wait for the step before them, so the weights are the same to the bit as without it.
"""

import contextlib
import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchrec.distributed.train_pipeline.train_pipelines import TrainPipelineSparseDist
from tqdm import tqdm

from training.config.recipe import Pipeline
from training.data.batch import Batch
from training.data.batches import batches, made_ahead, num_batches
from training.data.dataset import ExampleTable
from training.distributed.divergence import DivergedError, Watch
from training.model.grown_config import GrowthError
from training.trainer.health import HealthWatch
from training.trainer.in_run_checkpoint import Position, Progress
from training.trainer.run_record import RunRecord
from training.trainer.schedule import learning_rate_share
from training.trainer.session import Session, Step


def take_steps(
    session: Session,
    stream: Iterable[Batch],
    *,
    schedule: Callable[[int], float] = lambda done: 1.0,
    after_step: Callable[[int, Step], Mapping[str, float] | None] = lambda done, step: None,
    until: Callable[[int], bool] = lambda done: False,
    done: int = 0,
    seed: int | None = None,
    total: int | None = None,
    label: str = "",
    is_watched: bool = True,
) -> int:
    """Train on a stream of batches; returns how many steps are done.

    No prediction is made within: while a stream is read ahead, the model's forward belongs to the
    pipeline. An experiment that evaluates on its way hands its stream over in parts.

    Args:
        session: The ranker.
        stream: Batches, on any device.
        schedule: Learning rates of a step, as a share of the configured ones, by the steps done.
        after_step: Called after each step, with the steps done. The bar shows what it returns.
        until: The stopping rule, asked after that; batches that were read ahead are dropped.
        done: Steps before the first one, in a run that goes on.
        seed: Makes what is dropped depend on seed, step and rank alone; None: on the steps before.
        total: Steps of the progress bar; None: there is none.
        label: What it says.
        is_watched: Whether the loop looks at each step's loss and gradient. On CUDA it waits for
            them, which a measurement of speed must not.

    Raises:
        DivergedError: A loss or a gradient is no finite number; on all ranks.
    """
    watch = Watch(session.device)
    bar = tqdm(
        total=total,
        initial=done,
        desc=label,
        unit="step",
        mininterval=5,
        disable=total is None or dist.get_rank() != 0,
    )
    with bar, _step_taker(session, iter(stream)) as take_step:
        while True:
            if seed is not None:
                torch.manual_seed(_seed_of(seed, done, dist.get_rank()))
            step = take_step(schedule(done))
            if step is None:
                break
            done += 1
            if is_watched:
                watch.after_step(done, step.loss, session.gradient_norm)
            bar.update()
            if shown := after_step(done, step):
                bar.set_postfix({name: f"{value:.4f}" for name, value in shown.items()})
            if until(done):
                break
    watch.finish()
    return done


def _seed_of(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


def is_pipelined(session: Session) -> bool:
    """Whether batches are copied and exchanged ahead."""
    if session.config.pipeline is Pipeline.AUTO:
        return session.device.type == "cuda"
    return session.config.pipeline is Pipeline.ON


@contextlib.contextmanager
def _step_taker(
    session: Session, stream: Iterator[Batch]
) -> Iterator[Callable[[float], Step | None]]:
    """Takes the next step at a share of the learning rates; None when no batch is left."""

    def in_turn(share: float) -> Step | None:
        if (batch := next(stream, None)) is None:
            return None
        batch = batch.to(session.device)
        return Step(batch, *session.step(batch, learning_rate_share=share))

    if not is_pipelined(session):
        yield in_turn
        return

    def forward(batch: Batch) -> tuple[Tensor, Step]:
        loss, logits = session.forward(batch)
        return loss, Step(batch, loss.detach(), logits.detach())

    pipeline = TrainPipelineSparseDist(
        model=session.model,
        optimizer=session.optimizer,
        device=session.device,
        custom_model_fwd=forward,
    )
    made = made_ahead(stream, session.device)

    def ahead(share: float) -> Step | None:
        session.begin_step(share)
        try:
            step: Step = pipeline.progress(made)
        except StopIteration:
            return None
        session.end_step(share)
        return step

    try:
        yield ahead
    finally:
        made.close()
        # The model has its own forward again, for predictions.
        pipeline.detach()


def fit(
    session: Session,
    table: ExampleTable,
    days: Sequence[datetime.date],
    *,
    epochs: int,
    is_warm: bool,
    has_history: bool = False,
    health: HealthWatch | None = None,
    progress: Progress | None = None,
    id_log: Path | None = None,
) -> list[dict[str, float]]:
    """Train on some days; returns the learning curve.

    Args:
        session: The ranker; goes on from where ``progress`` finds it.
        table: The examples.
        days: Which of them.
        epochs: Passes over them.
        is_warm: Whether the learning rates are those of a day's step from an earlier run.
        has_history: Whether Adam has moments already, so that other rates need no warm-up.
        health: Looks at the parts of the ranker after some steps.
        progress: Where a killed run is found again.
        id_log: Folder for the ids of the examples of every step, a file a rank; for drills.

    Raises:
        DivergedError: A loss, a gradient or what was to be saved is no finite number; on all ranks,
            when the last save is whole.
        GrowthError: Half of a layer that grew is dead.
    """
    config = session.config
    start = progress.restore(session) if progress else Position()
    sizes = {"batch_size": config.batch_size, "shuffle_rows": config.shuffle_rows}
    total = epochs * num_batches(table, days, **sizes)
    rates = dataclasses.replace(config, warm_up_share=0.0) if has_history else config
    schedule = functools.partial(learning_rate_share, rates, total_steps=total, is_warm=is_warm)
    record = RunRecord(session, start, total_steps=total, progress=progress, id_log=id_log)

    if health:
        health.start(total, done=start.step)

    def after_step(step_number: int, step: Step) -> dict[str, float] | None:
        if health:
            health.after_step(step_number)
        return record.after_step(step_number, step)

    done, skip = start.step, start.batch
    try:
        for epoch in range(start.epoch, epochs):
            record.epoch, record.steps_before = epoch, done - skip
            stream = batches(
                table,
                days,
                **sizes,
                seed=config.seed + epoch,
                rank=dist.get_rank(),
                world_size=dist.get_world_size(),
                skip=skip,
            )
            done = take_steps(
                *(session, stream),
                schedule=schedule,
                after_step=after_step,
                done=done,
                seed=config.seed,
                total=total,
            )
            skip = 0
    except (DivergedError, GrowthError):
        if progress:
            progress.wait()
        raise
    if progress:
        progress.wait()
    return record.curve
