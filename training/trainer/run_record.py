"""What a training run leaves behind on its way: ids, running metrics, a curve, saves."""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torchrec.metrics.calibration import CalibrationMetric
from torchrec.metrics.metrics_config import RecTaskInfo
from torchrec.metrics.ne import NEMetric

from training.config.recipe import TrainingConfig
from training.data.batch import Batch
from training.trainer.in_run_checkpoint import Position, Progress
from training.trainer.session import Session, Step

LOG_EVERY_STEPS = 20
_TASK = "ranking"


class RunRecord:
    """Takes note of every step of a run, from where it goes on."""

    def __init__(
        self,
        session: Session,
        start: Position,
        *,
        total_steps: int,
        progress: Progress | None,
        id_log: Path | None,
    ) -> None:
        self._session = session
        self._total_steps = total_steps
        self._progress = progress
        self._id_log = id_log and _log_of_ids(id_log, start.step)
        self._metrics = _RunningMetrics(session.config, session.device)
        self.curve = list(start.curve)
        self.epoch = start.epoch
        self.steps_before = 0
        """Steps before this epoch."""

    def after_step(self, done: int, step: Step) -> dict[str, float] | None:
        """The newest point of the curve, when there is a new one."""
        batch, figures = step.batch, None
        self._metrics.update(step.logits, batch)
        if self._id_log and batch.example_id is not None:
            ids = batch.example_id[batch.weight.cpu() > 0].tolist()
            with self._id_log.open("a") as log:
                log.write(json.dumps({"step": done, "ids": ids}) + "\n")
        if done % LOG_EVERY_STEPS == 0 or done == self._total_steps:
            rate = self._session.optimizer.param_groups[0]["lr"]
            figures = {"loss": float(step.loss), "learning_rate": rate, **self._metrics.compute()}
            self.curve.append({"step": done, **figures})
        if self._progress:
            # Batches that were read ahead have entered no weight and are not counted.
            position = Position(self.epoch, done - self.steps_before, done, tuple(self.curve))
            self._progress.after_step(self._session, position)
        return figures


def _log_of_ids(folder: Path, step: int) -> Path:
    """This rank's log, without the steps after ``step``, which are done again."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rank-{dist.get_rank()}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    # A kill may have cut the last line off; its step is done again as well.
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(f"{line}\n" for line in kept))
    return path


class _RunningMetrics:
    """Normalised entropy and calibration while training, over all ranks, from TorchRec."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        shared = {
            "world_size": dist.get_world_size(),
            "my_rank": dist.get_rank(),
            "batch_size": max(1, config.batch_size // dist.get_world_size()),
            "tasks": [RecTaskInfo(name=_TASK)],
            "window_size": config.batch_size * 50,
            "compute_on_all_ranks": True,
        }
        metrics = {"ne": NEMetric(**shared), "calibration": CalibrationMetric(**shared)}
        self._metrics = {name: metric.to(device) for name, metric in metrics.items()}

    def update(self, logits: Tensor, batch: Batch) -> None:
        for metric in self._metrics.values():
            metric.update(
                predictions={_TASK: torch.sigmoid(logits).double()},
                labels={_TASK: batch.label.double()},
                weights={_TASK: (batch.weight > 0).double()},
            )

    def compute(self) -> dict[str, float]:
        return {
            name: float(value)
            for name, metric in self._metrics.items()
            for key, value in metric.compute().items()
            if key.endswith(f"window_{name}")
        }
