"""The training run of one day, on every rank: plan, load, train, evaluate, save."""

import dataclasses
import datetime
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.metrics.calibration import CalibrationMetric
from torchrec.metrics.metrics_config import RecTaskInfo
from torchrec.metrics.ne import NEMetric
from tqdm import tqdm

from features.encoding import ModelInputs
from features.schema import Schema
from training.batch import Batch, make_batch
from training.checkpoint import load_training_state, save, training_state
from training.checkpoints import Checkpoint, CheckpointManifest, Checkpoints
from training.config import Recipe, TableOptimizer, TrainingConfig
from training.dataset import ExampleTable, batches, num_batches, user_groups
from training.inputs import Inputs, inputs_of
from training.metrics import Metrics, evaluate
from training.ranker import Ranker, embedding_tables
from training.sharding import local_shards, shard

logger = logging.getLogger(__name__)

LOG_EVERY_STEPS = 20
_TASK = "ranking"
_NORMALISER_ROWS = 262_144


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What one run is to do."""

    schema: Schema
    recipe: Recipe
    run_day: datetime.date
    through: datetime.date
    """Last day to train on."""
    holdout: Sequence[datetime.date]
    """Days to evaluate on; none of them is trained on."""
    mlflow_run: Path
    """File with the id of the MLflow run; there by the time the training is done."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What one run did."""

    checkpoint: Path
    parent: str | None
    days: list[datetime.date]
    examples: int
    steps: int
    curve: list[dict[str, float]]
    holdout: Metrics | None
    shards: dict[str, list[dict[str, Any]]]


def device_of_rank() -> torch.device:
    """This rank's device: its GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device("cpu")


def train(run: Run, table: ExampleTable, checkpoints: Checkpoints) -> Result:
    """Train one day's candidate; every rank of the process group calls this."""
    config = run.recipe.training
    parent = checkpoints.parent_for(run.recipe, run.run_day, run.through)
    first = parent.trained_through + datetime.timedelta(days=1) if parent else datetime.date.min
    days = table.days(first, run.through)
    session = Session(
        inputs_of(run.schema), run.recipe, None if parent else first_rows(table, days)
    )
    if parent is not None:
        _refuse_other_ranks(run.recipe, parent)
        load_training_state(parent.path, session.model, session.optimizer)
    _tell(parent, days, session.model)
    epochs = config.warm_epochs if parent else config.cold_epochs
    curve = session.fit(table, days, epochs=epochs, is_warm=parent is not None)
    holdout = None
    if table.num_rows(run.holdout):
        examples = table.read(run.holdout)
        groups = user_groups(examples, run.schema)
        holdout = evaluate(session.predict(examples.inputs), examples.label, groups)
    manifest = _manifest(run, parent, table, days, session.steps, holdout)
    state = training_state(session.model, session.optimizer)
    return Result(
        checkpoint=save(checkpoints.root, state, manifest, run.run_day),
        parent=parent.name if parent else None,
        days=days,
        examples=table.num_rows(days),
        steps=session.steps,
        curve=curve,
        holdout=holdout,
        shards=local_shards(session.model),
    )


class Session:
    """A sharded ranker in training: passes over days, predictions in between."""

    def __init__(self, inputs: Inputs, recipe: Recipe, first_rows: Tensor | None) -> None:
        """A fresh ranker on this rank.

        Args:
            inputs: What it reads.
            recipe: The run.
            first_rows: Raw dense inputs on which to fit the normaliser; None when a checkpoint will
                bring it.
        """
        self.config = recipe.training
        self.device = device_of_rank()
        torch.manual_seed(self.config.seed)
        ranker = Ranker(inputs, recipe.model)
        if first_rows is not None and inputs.dense:
            ranker.interaction.tokens.normaliser.fit(first_rows)
        self.is_compiled = self.config.is_compiled and compile_interaction(ranker)
        tables = embedding_tables(inputs, recipe.model)
        self.model = shard(ranker, tables, recipe.sharding, self.config, device=self.device)
        self.optimizer = dense_optimizer(self.model, self.config)
        self._tables = [value for key, value in self.local_tensors() if "embeddings" in key]
        self.steps = 0

    def fit(
        self, table: ExampleTable, days: Sequence[datetime.date], *, epochs: int, is_warm: bool
    ) -> list[dict[str, float]]:
        """Train on some days; returns the learning curve."""
        total = epochs * num_batches(table, days, batch_size=self.config.batch_size)
        loop = _Loop(self, total_steps=total, is_warm=is_warm)
        for epoch in range(epochs):
            loop.run(_rank_batches(table, days, self.config, epoch))
        return loop.curve

    def step(self, batch: Batch, *, learning_rate_share: float) -> tuple[Tensor, Tensor]:
        """One optimiser step of tables and dense part; the detached loss and logits of this rank.

        Args:
            batch: On this rank's device.
            learning_rate_share: The learning rates of this step, as a share of the configured ones.
        """
        self._set_learning_rates(learning_rate_share)
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(batch.dense, batch.sparse)
        # Weights make the mean over ranks of these sums the mean over the global batch's examples.
        loss = weighted_loss(logits, batch)
        loss.backward()
        self.optimizer.step()
        if self.config.table_decay:
            kept = 1 - self.config.table_decay * learning_rate_share
            torch._foreach_mul_(self._tables, kept)
        self.steps += 1
        return loss.detach(), logits.detach()

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of this rank's weights and buffers."""
        return {key: value.clone() for key, value in self.local_tensors()}

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Put a copy back; the optimisers' state stays as it is."""
        with torch.no_grad():
            for key, value in self.local_tensors():
                value.copy_(snapshot[key])

    def set_pretrained(self, vectors: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Fill the tables that do not train; ValueError names one whose shape is another."""
        tables = self.model.module.pretrained
        for name, values in vectors.items():
            table = tables.get_buffer(name)
            if tuple(table.shape) != values.shape:
                raise ValueError(
                    f"pretrained {name}: {values.shape}; the table is {tuple(table.shape)}"
                )
            table.copy_(torch.from_numpy(values))

    def local_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """This rank's weights and buffers, by name, as training changes them."""
        for key, value in self.model.state_dict().items():
            if hasattr(value, "local_shards"):
                for place, shard in enumerate(value.local_shards()):
                    yield f"{key}.{place}", shard.tensor
            else:
                yield key, value

    def _set_learning_rates(self, share: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_learning_rate"] * share
        for group in self.model.fused_optimizer.param_groups:
            group["lr"] = self.config.sparse_learning_rate * share
        # The kernels read the new rate on this call; they step inside the backward pass.
        self.model.fused_optimizer.zero_grad()

    def predict(self, inputs: ModelInputs) -> npt.NDArray[np.float32]:
        """Probabilities of all rows in order, on every rank; each rank scores its part."""
        rank, world_size = dist.get_rank(), dist.get_world_size()
        mine = np.arange(rank, len(inputs), world_size)
        longest = -(-len(inputs) // world_size)
        scores = [np.empty(0, dtype=np.float32)]
        self.model.eval()
        with torch.no_grad():
            for start in range(0, longest, self.config.batch_size):
                rows = mine[start : start + self.config.batch_size]
                scores.append(self._scores(inputs, rows))
        self.model.train()
        parts: list[Any] = [None] * world_size
        dist.all_gather_object(parts, (mine, np.concatenate(scores)))
        probability = np.empty(len(inputs), dtype=np.float32)
        for places, values in parts:
            probability[places] = values
        return probability

    def _scores(self, inputs: ModelInputs, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        # A rank without rows left must take part in the exchange of embeddings all the same.
        asked = rows if len(rows) else np.zeros(1, dtype=np.int64)
        nothing = np.zeros(len(asked), dtype=np.float32)
        batch = make_batch(inputs.take(asked), nothing, nothing).to(self.device)
        scores = torch.sigmoid(self.model(batch.dense, batch.sparse))
        return np.asarray(scores.cpu().numpy()[: len(rows)])


def compile_interaction(ranker: Ranker) -> bool:
    """Compile everything but the tables, in place; False where no C++ compiler is found.

    The CPU's kernels are built on the first step.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        logger.warning("torch.compile: %s not found (CXX names another); runs eager", compiler)
        return False
    ranker.interaction.compile()
    return True


def dense_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam over everything whose optimiser does not run inside the backward pass.

    The decay of the dense part is decoupled (AdamW), the tables' is a term of the loss.
    """
    groups = [
        {
            "params": [p for name, p in model.named_parameters() if "interaction" in name],
            "full_learning_rate": config.dense_learning_rate,
            "weight_decay": config.dense_decay,
        }
    ]
    if config.table_optimizer is TableOptimizer.ADAM:
        groups.append(
            {
                "params": [p for name, p in model.named_parameters() if "embeddings" in name],
                "full_learning_rate": config.sparse_learning_rate,
                "weight_decay": config.embedding_decay,
                "decoupled_weight_decay": False,
            }
        )
    return torch.optim.AdamW(groups, eps=1e-8, fused=True)


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


def weighted_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Weighted sum of the log losses of a batch."""
    losses = nn.functional.binary_cross_entropy_with_logits(logits, batch.label, reduction="none")
    return (losses * batch.weight).sum()


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


def _refuse_other_ranks(recipe: Recipe, parent: Checkpoint) -> None:
    """Row-wise Adagrad keeps a moment for each row and column shard: shards must be the same."""
    ranks = dist.get_world_size()
    if recipe.sharding.column_wise and parent.manifest.ranks != ranks:
        raise ValueError(
            f"ranks: {ranks}; checkpoint {parent.name} has its tables "
            f"{list(recipe.sharding.column_wise)} split over {parent.manifest.ranks}"
        )


def _tell(
    parent: Checkpoint | None,
    days: Sequence[datetime.date],
    model: DistributedModelParallel,
) -> None:
    start = f"warm from {parent.name}" if parent else "cold: no earlier checkpoint fits"
    span = f"{days[0]} to {days[-1]}" if days else "none"
    if dist.get_rank() == 0:
        logger.info("%s; %d days to train on (%s)", start, len(days), span)
        for module, parameters in model.plan.plan.items():
            for name, parameter in parameters.items():
                logger.info(
                    "plan: %s.%s %s on ranks %s, kernel %s",
                    module,
                    name,
                    parameter.sharding_type,
                    parameter.ranks,
                    parameter.compute_kernel,
                )


def _manifest(
    run: Run,
    parent: Checkpoint | None,
    table: ExampleTable,
    days: Sequence[datetime.date],
    steps: int,
    holdout: Metrics | None,
) -> CheckpointManifest:
    through = days[-1] if days else (parent.trained_through if parent else run.through)
    return CheckpointManifest(
        dataset=run.schema.name,
        schema_fingerprint=run.schema.fingerprint(),
        model_fingerprint=run.recipe.model_fingerprint(),
        recipe=run.recipe.to_dict(),
        run_day=run.run_day.isoformat(),
        trained_through=max(through, run.through).isoformat(),
        trained_days=len(days),
        examples=table.num_rows(days),
        steps=steps,
        ranks=dist.get_world_size(),
        parent=parent.name if parent else None,
        family=[*parent.manifest.family, parent.name] if parent else [],
        partitions=table.content_hashes(days),
        mlflow_run=run.mlflow_run.read_text(),
        metrics=holdout.to_dict() if holdout else {},
    )
