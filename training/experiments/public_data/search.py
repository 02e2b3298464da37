"""A search of a recipe's settings on the validation split, by Optuna's tree-structured estimator.

Every model has the same number of trials over the same ranges, the first with the recipe as it is.
"""

import dataclasses
import logging
from typing import Any

import optuna

from training.config.recipe import Recipe, TableOptimizer
from training.distributed.divergence import DivergedError
from training.experiments.public_data.data import BenchmarkData
from training.experiments.public_data.protocol import run_seed

logger = logging.getLogger(__name__)

DENSE_LEARNING_RATES = (3e-4, 5e-3)
SPARSE_LEARNING_RATES = (0.02, 0.3)
"""Of row-wise Adagrad."""
TABLE_DECAYS = (0.0, 1e-3, 3e-3, 1e-2)
ADAM_LEARNING_RATES = (5e-4, 2e-3)
"""Of the tables, where Adam trains them."""
ADAM_EMBEDDING_DECAYS = (0.03, 0.2)
"""L2 as a term of the mean loss, where Adam trains the tables."""
DROPOUTS = (0.0, 0.5)


def search(data: BenchmarkData, recipe: Recipe, *, trials: int) -> Recipe:
    """The recipe with the best validation AUC of ``trials`` settings, the given one first.

    Each is trained with one seed; the test split is not looked at. A setting with which training
    diverges is logged and is not chosen; when all do, the recipe is returned as it was given.
    """
    logging.getLogger("optuna").setLevel(logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=max(1, trials // 4)),
    )
    best, best_auc = recipe, -1.0
    for number in range(trials):
        trial = study.ask() if number else None
        candidate = _drawn(recipe, trial) if trial else recipe
        found = _valid_auc(data, candidate, label=f"search {number + 1}/{trials}")
        if trial and found is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif trial:
            study.tell(trial, found)
        if found is not None and found > best_auc:
            best, best_auc = candidate, found
    return best


def _valid_auc(data: BenchmarkData, recipe: Recipe, *, label: str) -> float | None:
    """None where training diverges."""
    try:
        result = run_seed(data, recipe, seed=0, with_test=False, label=label)
    except DivergedError as error:
        logger.warning("%s: %s with %s", label, error, settings_of(recipe))
        return None
    logger.info(
        "%s: valid AUC %.4f, log loss %.4f with %s",
        *(label, result.valid.auc, result.valid.log_loss, settings_of(recipe)),
    )
    return result.valid.auc


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """What a search may change, as the recipe has it."""
    training = recipe.training
    return {
        "dense_learning_rate": training.dense_learning_rate,
        "sparse_learning_rate": training.sparse_learning_rate,
        "table_decay": training.table_decay,
        "embedding_decay": training.embedding_decay,
        "dropout": recipe.model.dropout,
    }


def _drawn(recipe: Recipe, trial: optuna.Trial) -> Recipe:
    training, model = recipe.training, recipe.model
    if training.table_optimizer is TableOptimizer.ADAM:
        tables: dict[str, Any] = {
            "sparse_learning_rate": _rate(trial, "sparse_learning_rate", ADAM_LEARNING_RATES),
            "embedding_decay": _rate(trial, "embedding_decay", ADAM_EMBEDDING_DECAYS),
        }
    else:
        tables = {
            "sparse_learning_rate": _rate(trial, "sparse_learning_rate", SPARSE_LEARNING_RATES),
            "table_decay": trial.suggest_categorical("table_decay", TABLE_DECAYS),
        }
    dense = _rate(trial, "dense_learning_rate", DENSE_LEARNING_RATES)
    # DLRM's over-arch, which is TorchRec's, has no dropout to draw.
    if model.interaction.kind != "dlrm":
        model = dataclasses.replace(model, dropout=trial.suggest_float("dropout", *DROPOUTS))
    changed = dataclasses.replace(training, dense_learning_rate=dense, **tables)
    return dataclasses.replace(recipe, training=changed, model=model)


def _rate(trial: optuna.Trial, name: str, limits: tuple[float, float]) -> float:
    return trial.suggest_float(name, *limits, log=True)
