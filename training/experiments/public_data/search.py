"""A search of a recipe's settings on the validation split, by Optuna's tree-structured estimator.

Every model has the same number of trials over the same ranges, the first with the recipe as it is.
"""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import optuna

from training.config.recipe import Recipe, TableOptimizer
from training.distributed.divergence import DivergedError
from training.experiments.public_data.data import BenchmarkData
from training.experiments.public_data.protocol import run_seed
from training.metrics import Metrics

logger = logging.getLogger(__name__)

FINALISTS, FINAL_SEEDS = 3, (1, 2)
"""How many of the best settings run again, with which seeds; their mean decides. One seed's AUC is
off by more than the best settings differ."""

_DECAYS = "decays"
"""What a trial notes of settings whose schedule decays. After an epoch one whose rates have fallen
is ahead of one whose rates have not: such trials measure no others, and are not given up."""

S = TypeVar("S")
Note = Callable[[int, float], None]
"""Takes how many parts of a training are done, from 1, and the validation AUC so far."""


def search(
    data: BenchmarkData, recipe: Recipe, *, trials: int, num_rows: int | None = None
) -> Recipe:
    """The recipe with the best validation AUC of ``trials`` settings, the given one first.

    Args:
        data: The splits; the test split is not looked at.
        recipe: The settings to start from; as it is when training diverges with all settings.
        trials: How many settings are tried, each with one seed.
        num_rows: Training rows of a trial, the newest ones; None: all.

    Raises:
        ValueError: ``num_rows`` of rows that are streamed from files.
    """
    data = with_newest(data, num_rows)

    def valid(candidate: Recipe, seed: int, note: Note, label: str) -> Metrics:
        return run_seed(
            data, candidate, seed=seed, with_test=False, label=label, after_epoch=note
        ).valid

    drawn = functools.partial(_drawn, recipe)
    return best_of(recipe, trials=trials, drawn=drawn, valid=valid, settings_of=settings_of)


def best_of(
    first: S,
    *,
    trials: int,
    drawn: Callable[[optuna.Trial], S],
    valid: Callable[[S, int, Note, str], Metrics],
    settings_of: Callable[[S], dict[str, Any]],
) -> S:
    """The settings with the best validation AUC of ``trials``, the first of which are given.

    Each is tried with one seed; the best three run with two more, and their mean decides.

    Once a quarter of the trials were drawn at random, one whose best AUC so far is below the median
    of those that were trained to their end is given up there, unless its schedule decays. One with
    which training diverges is logged and is not chosen.

    Args:
        first: Settings that are tried as they are.
        trials: How many are tried.
        drawn: Others, by a trial of Optuna's.
        valid: Trains with some settings and a seed and returns the metrics of the validation split.
            It calls the function that it is given after each part of the training, with the part's
            number from 1 and the AUC so far; the text says which trial it is.
        settings_of: What the log says of them.
    """
    # What it says of a trial is said below.
    logging.getLogger("optuna").setLevel(logging.ERROR)
    num_random = max(1, trials // 4)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=num_random),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=num_random),
    )
    found: list[tuple[float, S]] = []

    def auc_of(candidate: S, note: Note, label: str, seed: int = 0) -> float:
        settings = settings_of(candidate)
        try:
            metrics = valid(candidate, seed, note, label)
        except DivergedError as error:
            logger.warning("%s: %s with %s", label, error, settings)
            raise
        except optuna.TrialPruned as error:
            logger.info("%s: given up, %s with %s", label, error, settings)
            raise
        reached = (metrics.auc, metrics.log_loss)
        logger.info("%s: valid AUC %.4f, log loss %.4f with %s", label, *reached, settings)
        return metrics.auc

    def objective(trial: optuna.Trial) -> float:
        def note(part: int, auc: float) -> None:
            trial.report(auc, part)
            if trial.should_prune():
                raise optuna.TrialPruned(f"valid AUC {auc:.4f} after part {part} of the training")

        candidate = drawn(trial)
        watch = _nothing if trial.user_attrs.get(_DECAYS) else note
        auc = auc_of(candidate, watch, f"search {trial.number + 2}/{trials}")
        found.append((auc, candidate))
        return auc

    with contextlib.suppress(DivergedError):
        found.append((auc_of(first, _nothing, f"search 1/{trials}"), first))
    study.optimize(objective, n_trials=trials - 1, catch=DivergedError)
    return _steadiest(found, auc_of) if found else first


def _nothing(_part: int, _auc: float) -> None:
    """Of a training that is not given up."""


def _steadiest(found: list[tuple[float, S]], auc_of: Callable[[S, Note, str, int], float]) -> S:
    """Of the best settings that with the best mean AUC over three seeds."""
    best = sorted(found, key=lambda one: -one[0])[:FINALISTS]
    if len(best) == 1:
        return best[0][1]

    def total(auc: float, candidate: S) -> float:
        for seed in FINAL_SEEDS:
            try:
                auc += auc_of(candidate, _nothing, f"search, seed {seed}", seed)
            except DivergedError:
                return -1.0
        return auc

    return max(best, key=lambda one: total(*one))[1]


def with_newest(data: BenchmarkData, num_rows: int | None) -> BenchmarkData:
    """The splits with the newest so many training rows; None: all of them.

    Raises:
        ValueError: The rows are streamed from files.
    """
    if num_rows is None:
        return data
    limit = f"the rows of {data.name} are streamed, and each setting sees all of them"
    rows = data.in_memory(f"--search-rows {num_rows}: {limit}")
    return dataclasses.replace(data, train=rows.newest(num_rows))


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """What a search may change, as the recipe has it."""
    values = {**vars(recipe.training), **vars(recipe.model)}
    names = (
        *("dense_learning_rate", "sparse_learning_rate", "table_decay", "embedding_decay"),
        *("cold_epochs", "decay_share", "average_decay"),
        *("dropout", "embedding_std", "has_first_order"),
    )
    return {name: values[name] for name in names}


def _drawn(recipe: Recipe, trial: optuna.Trial) -> Recipe:
    training, model = recipe.training, recipe.model
    rate = functools.partial(trial.suggest_float, log=True)
    if training.table_optimizer is TableOptimizer.ADAM:
        tables: dict[str, Any] = {
            "sparse_learning_rate": rate("sparse_learning_rate", 5e-4, 2e-3),
            "embedding_decay": rate("embedding_decay", 0.03, 0.2),
        }
    else:
        tables = {
            "sparse_learning_rate": rate("sparse_learning_rate", 0.02, 0.3),
            "table_decay": trial.suggest_categorical("table_decay", (0.0, 1e-3, 3e-3, 1e-2)),
            "average_decay": 0.99,
        }
        # With 0 epochs there is no schedule that decays: rates are cut on a plateau.
        if epochs := trial.suggest_categorical("decaying_epochs", (0, 1, 2, 3)):
            trial.set_user_attr(_DECAYS, True)
            tables |= {"cold_epochs": min(epochs, training.cold_epochs), "decay_share": 0.2}
    dense = rate("dense_learning_rate", 3e-4, 5e-3)
    model = dataclasses.replace(
        model,
        # Norms amplify the embeddings of ids that are hardly seen.
        embedding_std=rate("embedding_std", 3e-3, 0.1),
        has_first_order=trial.suggest_categorical("has_first_order", (False, True)),
    )
    # DLRM's over-arch, which is TorchRec's, has no dropout to draw.
    if model.interaction.kind != "dlrm":
        model = dataclasses.replace(model, dropout=trial.suggest_float("dropout", 0.0, 0.5))
    changed = recipe.with_training(dense_learning_rate=dense, **tables)
    return dataclasses.replace(changed, model=model)
