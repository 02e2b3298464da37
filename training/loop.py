"""Passes over the lake's days: learning rates, running metrics, progress."""

import datetime
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torchrec.metrics.calibration import CalibrationMetric
from torchrec.metrics.metrics_config import RecTaskInfo
from torchrec.metrics.ne import NEMetric
from tqdm import tqdm

from training.batch import Batch
from training.config import TrainingConfig
from training.dataset import ExampleTable, batches, num_batches
from training.session import Session

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
) -> list[dict[str, float]]:
    """Train on some days; returns the learning curve."""
    total = epochs * num_batches(table, days, batch_size=session.config.batch_size)
    loop = _Loop(session, total_steps=total, is_warm=is_warm)
    for epoch in range(epochs):
        loop.run(_rank_batches(table, days, session.config, epoch))
    return loop.curve


class _Loop:
    """Steps over batches, with the learning rate, the running metrics and the progress bar."""

    def __init__(self, session: Session, *, total_steps: int, is_warm: bool) -> None:
        self.session = session
        self.total_steps = total_steps
        self.is_warm = is_warm
        self.steps = 0
        self.curve: list[dict[str, float]] = []
        self.metrics = _RunningMetrics(session.config)

    def run(self, stream: Iterator[Batch]) -> None:
        """One pass."""
        bar = tqdm(
            total=self.total_steps,
            initial=self.steps,
            unit="step",
            mininterval=5,
            disable=dist.get_rank() != 0,
        )
        with bar:
            for batch in stream:
                loss = self._step(batch.to(self.session.device))
                bar.update()
                if self.steps % LOG_EVERY_STEPS == 0 or self.steps == self.total_steps:
                    point = {"step": self.steps, "loss": float(loss), **self.metrics.compute()}
                    self.curve.append(point)
                    bar.set_postfix({k: f"{v:.4f}" for k, v in point.items() if k != "step"})

    def _step(self, batch: Batch) -> Tensor:
        share = learning_rate_share(
            self.session.config, self.steps, self.total_steps, is_warm=self.is_warm
        )
        loss, logits = self.session.step(batch, learning_rate_share=share)
        self.metrics.update(logits, batch)
        self.steps += 1
        return loss


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
    # The number of steps is an estimate: each part of the input ends with a batch of what is left.
    fallen = (1 - config.final_learning_rate_share) * min(1.0, step / max(1, total_steps))
    return rising * (1 - fallen)


class _RunningMetrics:
    """Normalised entropy and calibration while training, over all ranks, from TorchRec."""

    def __init__(self, config: TrainingConfig) -> None:
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
        self._metrics = {"ne": NEMetric(**shared), "calibration": CalibrationMetric(**shared)}

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
    table: ExampleTable, days: Sequence[datetime.date], config: TrainingConfig, epoch: int
) -> Iterator[Batch]:
    return batches(
        table,
        days,
        batch_size=config.batch_size,
        shuffle_rows=config.shuffle_rows,
        seed=config.seed + epoch,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
    )


def first_rows(table: ExampleTable, days: Sequence[datetime.date]) -> Tensor:
    """Raw dense inputs of the first examples, (rows, inputs), for fitting the normaliser."""
    buffer = next(table.buffers(days, rows=_NORMALISER_ROWS), None)
    if buffer is None:
        raise ValueError(
            f"examples: no rows through {days[-1:]}; run `python -m features examples`"
        )
    return torch.from_numpy(buffer.inputs.dense)
