"""One seed of one ranker on one data set.

Early stopping is the public leaderboard's: Adam for the dense part and row-wise Adagrad for the
tables, L2 on the embeddings, the learning rates cut by ten whenever the validation AUC has not
risen for an epoch, the end after two such epochs, the weights of the best epoch kept (their moving
average, where the recipe has one). With one epoch there is one pass and nothing to stop. A recipe
with ``decay_share`` has its own schedule, over all of its epochs: nothing else cuts the rates or
ends the training, and the best epoch is kept all the same.
Validation decides everything; the test split is scored once, by the weights that were kept.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from features.encoding.encode import ModelInputs
from training.config.recipe import Recipe
from training.data.batch import Batch, make_batch
from training.experiments.public_data.data import BenchmarkData, Split, TrainingRows
from training.metrics import Metrics, auc, evaluate, log_losses
from training.model.flops import cost_of
from training.trainer.first_rows import NORMALISER_ROWS, FirstRows
from training.trainer.loop import take_steps
from training.trainer.schedule import learning_rate_share, rising
from training.trainer.session import Session, WeightAverage

REDUCTION = 0.1
"""Of the learning rates after an epoch without a better validation AUC."""


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
    params: int
    """Numbers that were learnt."""
    test_losses: npt.NDArray[np.float64] | None
    """(rows,) log loss of each test row, in nats; None while tuning."""


def judged(
    data: BenchmarkData,
    predict: Callable[[ModelInputs], npt.NDArray[np.float32]],
    *,
    with_test: bool,
) -> dict[str, Any]:
    """The fields of a ``SeedResult`` that say what predictions of the splits are worth."""

    def figures(split: Split) -> tuple[Metrics, npt.NDArray[np.float64]]:
        probability = predict(split.inputs)
        return evaluate(probability, split.label, split.group), log_losses(probability, split.label)

    test, losses = figures(data.test) if with_test else (None, None)
    return {"valid": figures(data.valid)[0], "test": test, "test_losses": losses}


def run_seed(
    data: BenchmarkData,
    recipe: Recipe,
    *,
    seed: int,
    patience: int = 2,
    with_test: bool = True,
    label: str | None = None,
    after_epoch: Callable[[int, float], None] = lambda *_: None,
) -> SeedResult:
    """Train one ranker and score it.

    Args:
        data: The splits.
        recipe: ``cold_epochs`` is the most epochs; 1: one pass.
        seed: Of weights and shuffling.
        patience: Epochs without a better validation AUC that end the training.
        with_test: Whether the test split is scored at the end.
        label: What the progress bar says; None: the recipe and the seed.
        after_epoch: Is given the number of each epoch, from 1, and the validation AUC after it;
            what it raises ends the training.
    """
    started = time.monotonic()
    recipe = recipe.with_training(seed=seed)
    config, label = recipe.training, label or f"{recipe.name} seed {seed}"
    part = next(iter(data.train.parts()))
    first = FirstRows.of(part.inputs.dense[:NORMALISER_ROWS], part.label[:NORMALISER_ROWS])
    session = Session(data.inputs, recipe, first)
    session.set_pretrained(data.pretrained)
    average = session.average(config.average_decay) if config.average_decay else None
    best_auc, best_state, share, since_best = -1.0, session.snapshot(), 1.0, 0
    trained = 0.0
    epoch = 0
    for epoch in range(1, config.cold_epochs + 1):
        epoch_started = time.monotonic()
        _train_epoch(session, data.train, share, average, epoch=epoch, label=label)
        trained += time.monotonic() - epoch_started
        with average.in_place() if average else contextlib.nullcontext():
            found = auc(session.predict(data.valid.inputs), data.valid.label)
            if not math.isfinite(found):
                raise ValueError(f"auc of {len(data.valid)} rows to validate: {found}; both labels")
            after_epoch(epoch, found)
            if found > best_auc + 1e-6:
                best_auc, best_state, since_best = found, session.snapshot(), 0
                continue
        if config.decay_share:
            continue
        since_best += 1
        share *= REDUCTION
        if since_best >= patience:
            break
    session.restore(best_state)
    return SeedResult(
        **judged(data, session.predict, with_test=with_test),
        epochs=epoch,
        seconds=time.monotonic() - started,
        samples_per_second=len(data.train) * epoch / trained,
        params=cost_of(data.inputs, recipe.model).parameters,
    )


def shuffled_batches(rows: TrainingRows, *, batch_size: int, seed: int) -> Iterator[Batch]:
    """One pass of training rows, shuffled within each part."""
    random = np.random.default_rng(seed)
    for part in rows.parts():
        order = random.permutation(len(part))
        for start in range(0, len(order), batch_size):
            taken = order[start : start + batch_size]
            weight = np.full(len(taken), 1 / len(taken), dtype=np.float32)
            yield make_batch(part.inputs.take(taken), part.label[taken], weight)


def _train_epoch(
    session: Session,
    rows: TrainingRows,
    share: float,
    average: WeightAverage | None,
    *,
    epoch: int,
    label: str,
) -> None:
    config = session.config
    total = -(-len(rows) // config.batch_size)
    warm_up = round(config.warm_up_share * total) if epoch == 1 else 0

    def schedule(done: int) -> float:
        if config.decay_share:
            step, steps = (epoch - 1) * total + done, config.cold_epochs * total
            return learning_rate_share(config, step, steps, is_warm=False)
        return share * rising(done, warm_up=warm_up)

    take_steps(
        session,
        shuffled_batches(rows, batch_size=config.batch_size, seed=config.seed * 1000 + epoch),
        schedule=schedule,
        after_step=lambda *_: average.update() if average else None,
        total=total,
        label=f"{label} epoch {epoch}",
    )
