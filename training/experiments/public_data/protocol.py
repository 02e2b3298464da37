"""One seed of one ranker on one data set: early stopping as the public leaderboard has it.

Adam for the dense part and row-wise Adagrad for the tables, L2 on the embeddings, the learning
rates cut by ten whenever the validation AUC has not risen for an epoch, the end after two such
epochs, the weights of the best epoch kept (their moving average, where the recipe has one). With
one epoch there is one pass and nothing to stop.
Validation decides everything; the test split is scored once, by the weights that were kept.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from training.config.recipe import Recipe
from training.data.batch import Batch, make_batch
from training.experiments.public_data.data import BenchmarkData, Split
from training.metrics import Metrics, auc, evaluate
from training.trainer.ema import WeightAverage
from training.trainer.session import Session

REDUCTION = 0.1
_NORMALISER_ROWS = 262_144


class DivergedError(ValueError):
    """The loss is no number any more."""


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """What one seed reached."""

    valid: Metrics
    test: Metrics | None
    """None while tuning: a search must not see the test split."""
    epochs: int
    seconds: float
    samples_per_second: float
    """Training only, evaluation left out."""


def run_seed(
    data: BenchmarkData,
    recipe: Recipe,
    *,
    seed: int,
    patience: int = 2,
    with_test: bool = True,
    label: str = "",
) -> SeedResult:
    """Train one ranker and score it.

    Args:
        data: The splits.
        recipe: ``cold_epochs`` is the most epochs; 1: one pass.
        seed: Of weights and shuffling.
        patience: Epochs without a better validation AUC that end the training.
        with_test: Whether the test split is scored at the end.
        label: What the progress bar says.
    """
    started = time.monotonic()
    config = dataclasses.replace(recipe.training, seed=seed)
    session = Session(data.inputs, dataclasses.replace(recipe, training=config), _first_rows(data))
    session.set_pretrained(data.pretrained)
    average = None
    if config.average_decay:
        weights = [value for _, value in session.local_tensors() if value.is_floating_point()]
        average = WeightAverage(weights, config.average_decay)
    best_auc, best_state, share, since_best = -1.0, session.snapshot(), 1.0, 0
    trained = 0.0
    epoch = 0
    for epoch in range(1, config.cold_epochs + 1):
        epoch_started = time.monotonic()
        _train_epoch(session, data, share, average, epoch=epoch, label=label)
        trained += time.monotonic() - epoch_started
        with average.in_place() if average else contextlib.nullcontext():
            found = auc(session.predict(data.valid.inputs), data.valid.label)
            if not math.isfinite(found):
                raise ValueError(f"auc of {len(data.valid)} rows to validate: {found}; both labels")
            if found > best_auc + 1e-6:
                best_auc, best_state, since_best = found, session.snapshot(), 0
                continue
        since_best += 1
        share *= REDUCTION
        if since_best >= patience:
            break
    session.restore(best_state)
    return SeedResult(
        valid=score(session, data.valid),
        test=score(session, data.test) if with_test else None,
        epochs=epoch,
        seconds=time.monotonic() - started,
        samples_per_second=data.train.num_rows() * epoch / trained,
    )


def score(session: Session, split: Split) -> Metrics:
    """Exact metrics of a split."""
    return evaluate(session.predict(split.inputs), split.label, split.group)


def shuffled_batches(data: BenchmarkData, *, batch_size: int, seed: int) -> Iterator[Batch]:
    """One pass of the training rows, shuffled within each part."""
    random = np.random.default_rng(seed)
    for part in data.train.parts():
        order = random.permutation(len(part))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            weight = np.full(len(rows), 1 / len(rows), dtype=np.float32)
            yield make_batch(part.inputs.take(rows), part.label[rows], weight)


def _train_epoch(
    session: Session,
    data: BenchmarkData,
    share: float,
    average: WeightAverage | None,
    *,
    epoch: int,
    label: str,
) -> None:
    config = session.config
    total = -(-data.train.num_rows() // config.batch_size)
    warm_up = round(config.warm_up_share * total) if epoch == 1 else 0
    stream = shuffled_batches(data, batch_size=config.batch_size, seed=config.seed * 1000 + epoch)
    for step, batch in enumerate(
        tqdm(stream, total=total, desc=f"{label} epoch {epoch}", mininterval=5, leave=False)
    ):
        rising = min(1.0, (step + 1) / warm_up) if warm_up else 1.0
        loss, _ = session.step(batch.to(session.device), learning_rate_share=share * rising)
        if average:
            average.update()
        if not torch.isfinite(loss):
            raise DivergedError(f"loss: {float(loss)} at step {step} of epoch {epoch}; finite")


def _first_rows(data: BenchmarkData) -> torch.Tensor:
    part = next(iter(data.train.parts()))
    return torch.from_numpy(part.inputs.dense[:_NORMALISER_ROWS])
