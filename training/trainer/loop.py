"""Passes over the lake's days: learning rates, running metrics, progress."""

import contextlib
import datetime
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Never, TextIO

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchrec.metrics.calibration import CalibrationMetric
from torchrec.metrics.metrics_config import RecTaskInfo
from torchrec.metrics.ne import NEMetric
from tqdm import tqdm

from training.config.recipe import TrainingConfig
from training.data.batch import Batch
from training.data.dataset import ExampleTable, batches, num_batches
from training.distributed.divergence import DivergedError, Watch
from training.trainer.in_run_checkpoint import Position, Progress
from training.trainer.pipeline import Steps, steps_over
from training.trainer.session import Session

LOG_EVERY_STEPS = 20
_TASK = "ranking"
_NORMALISER_ROWS = 262_144


def fit(
    session: Session,
    table: ExampleTable,
    days: Sequence[datetime.date],
    *,
    epochs: int,
    is_warm: bool,
    progress: Progress | None = None,
    id_log: Path | None = None,
) -> list[dict[str, float]]:
    """Train on some days; returns the learning curve.

    Args:
        session: The ranker; goes on from where ``progress`` finds it.
        table: The examples.
        days: Which of them.
        epochs: Passes over them.
        is_warm: Whether the ranker comes from an earlier run.
        progress: Where a killed run is found again.
        id_log: Folder for the ids of the examples of every step, a file a rank; for drills.

    Raises:
        DivergedError: A loss, a gradient or what was to be saved is no finite number; on all ranks,
            when the last save is whole.
    """
    config = session.config
    start = progress.restore(session) if progress else Position()
    total = epochs * num_batches(
        table, days, batch_size=config.batch_size, shuffle_rows=config.shuffle_rows
    )
    loop = _Loop(session, start, total_steps=total, is_warm=is_warm, progress=progress)
    try:
        with _ids_from(id_log, start.step) as loop.id_log:
            for epoch in range(start.epoch, epochs):
                skip = start.batch if epoch == start.epoch else 0
                loop.run(_rank_batches(table, days, config, epoch, skip), epoch, skip)
    except DivergedError:
        if progress:
            progress.wait()
        raise
    if progress:
        progress.wait()
    return loop.curve


class _Loop:
    """Steps over batches, with the learning rate, the running metrics and the progress bar."""

    def __init__(
        self,
        session: Session,
        start: Position,
        *,
        total_steps: int,
        is_warm: bool,
        progress: Progress | None,
    ) -> None:
        self.session = session
        self.total_steps = total_steps
        self.is_warm = is_warm
        self.progress = progress
        self.id_log: TextIO | None = None
        self.steps = start.step
        self.curve = list(start.curve)
        self.metrics = _RunningMetrics(session.config, session.device)
        self.watch = Watch(session.device)

    def run(self, stream: Iterator[Batch], epoch: int, skipped: int) -> None:
        """One pass, or what is left of it."""
        bar = tqdm(
            total=self.total_steps,
            initial=self.steps,
            unit="step",
            mininterval=5,
            disable=dist.get_rank() != 0,
        )
        with bar, steps_over(self.session, stream) as steps:
            for number in itertools.count(skipped + 1):
                loss = self._step(steps)
                if loss is None:
                    break
                bar.update()
                self._note(bar, loss)
                if self.progress:
                    # Batches that were read ahead have entered no weight and are not counted.
                    position = Position(epoch, number, self.steps, tuple(self.curve))
                    self.progress.after_step(self.session, position)
        self.watch.finish()

    def _note(self, bar: "tqdm[Never]", loss: Tensor) -> None:
        if self.steps % LOG_EVERY_STEPS == 0 or self.steps == self.total_steps:
            point = {"step": self.steps, "loss": float(loss), **self.metrics.compute()}
            self.curve.append(point)
            bar.set_postfix({k: f"{v:.4f}" for k, v in point.items() if k != "step"})

    def _step(self, steps: Steps) -> Tensor | None:
        share = learning_rate_share(
            self.session.config, self.steps, self.total_steps, is_warm=self.is_warm
        )
        # What is dropped depends on the step alone, so that a resumed run drops the same.
        torch.manual_seed(_seed_of(self.session.config.seed, self.steps, dist.get_rank()))
        done = steps.next(learning_rate_share=share)
        if done is None:
            return None
        batch = done.batch
        self.steps += 1
        self.watch.after_step(self.steps, done.loss, self.session.gradient_norm)
        self.metrics.update(done.logits, batch)
        if self.id_log is not None and batch.example_id is not None:
            ids = batch.example_id[batch.weight.cpu() > 0].tolist()
            self.id_log.write(json.dumps({"step": self.steps, "ids": ids}) + "\n")
        return done.loss


def _seed_of(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


@contextlib.contextmanager
def _ids_from(folder: Path | None, step: int) -> Iterator[TextIO | None]:
    """This rank's log of ids, without the steps after ``step``, which are done again."""
    if folder is None:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rank-{dist.get_rank()}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    # A kill may have cut the last line off; its step is done again as well.
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(f"{line}\n" for line in kept))
    with path.open("a", buffering=1) as log:
        yield log


def learning_rate_share(
    config: TrainingConfig, step: int, total_steps: int, *, is_warm: bool
) -> float:
    """Learning rate of a step, as a share of the configured one.

    A cold run rises over the warm-up, then falls in a straight line to
    ``final_learning_rate_share``, and warm runs go on from there: Adam's moments are warm already,
    and one day is no new schedule.
    """
    if is_warm:
        return config.final_learning_rate_share
    warm_up = round(config.warm_up_share * total_steps)
    rising = min(1.0, (step + 1) / warm_up) if warm_up else 1.0
    fallen = (1 - config.final_learning_rate_share) * min(1.0, step / max(1, total_steps))
    return rising * (1 - fallen)


class _RunningMetrics:
    """Normalised entropy and calibration while training, over all ranks, from TorchRec."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        tasks = [RecTaskInfo(name=_TASK)]
        world_size = dist.get_world_size()
        shared = {
            "world_size": world_size,
            "my_rank": dist.get_rank(),
            "batch_size": max(1, config.batch_size // world_size),
            "tasks": tasks,
            "window_size": max(config.batch_size, 1) * 50,
            "compute_on_all_ranks": True,
        }
        metrics = {"ne": NEMetric(**shared), "calibration": CalibrationMetric(**shared)}
        self._metrics = {name: metric.to(device) for name, metric in metrics.items()}

    def update(self, logits: Tensor, batch: Batch) -> None:
        shown = (batch.weight > 0).double()
        probability = torch.sigmoid(logits.detach()).double()
        for metric in self._metrics.values():
            metric.update(
                predictions={_TASK: probability},
                labels={_TASK: batch.label.double()},
                weights={_TASK: shown},
            )

    def compute(self) -> dict[str, float]:
        values = {}
        for name, metric in self._metrics.items():
            for key, value in metric.compute().items():
                if key.endswith(f"window_{name}"):
                    values[name] = float(value)
        return values


def _rank_batches(
    table: ExampleTable,
    days: Sequence[datetime.date],
    config: TrainingConfig,
    epoch: int,
    skip: int,
) -> Iterator[Batch]:
    return batches(
        table,
        days,
        batch_size=config.batch_size,
        shuffle_rows=config.shuffle_rows,
        seed=config.seed + epoch,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        skip=skip,
    )


def first_rows(table: ExampleTable, days: Sequence[datetime.date]) -> Tensor:
    """Raw dense inputs of the first examples, (rows, inputs), for fitting the normaliser."""
    buffers = table.buffers(days, rows=_NORMALISER_ROWS)
    if not buffers:
        raise ValueError(
            f"examples: no rows through {days[-1:]}; run `python -m features examples`"
        )
    return torch.from_numpy(table.read_buffer(buffers[0]).inputs.dense)
