"""A search of a recipe's settings on the validation split, by Optuna's tree-structured estimator.

Every model has the same number of trials over the same ranges, the first with the recipe as it is.
"""

import dataclasses
import logging
from typing import Any, NamedTuple

import optuna

from training.config.recipe import Recipe, TableOptimizer
from training.distributed.divergence import DivergedError
from training.experiments.public_data.data import BenchmarkData, InMemory
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


def search(
    data: BenchmarkData, recipe: Recipe, *, trials: int, num_rows: int | None = None
) -> Recipe:
    """The recipe with the best validation AUC of ``trials`` settings, the given one first.

    Each is trained with one seed; the test split is not looked at. Once a quarter of the trials
    were drawn at random, one whose best AUC after an epoch is below the median of those that were
    trained to their end is given up there. One with which training diverges is logged and is not
    chosen; when all do, the recipe is returned as it was given.

    Args:
        data: The splits.
        recipe: The settings to start from.
        trials: How many settings are tried.
        num_rows: Training rows of a trial, the newest ones; None: all.

    Raises:
        ValueError: ``num_rows`` of rows that are streamed from files.
    """
    logging.getLogger("optuna").setLevel(logging.WARNING)
    if num_rows is not None:
        data = dataclasses.replace(data, train=_newest(data, num_rows))
    num_random = max(1, trials // 4)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=num_random),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=num_random),
    )
    best, best_auc = recipe, -1.0
    for number in range(trials):
        trial = study.ask() if number else None
        candidate = _drawn(recipe, trial) if trial else recipe
        found = _valid_auc(data, candidate, trial, label=f"search {number + 1}/{trials}")
        if trial:
            study.tell(trial, found.auc, state=found.state)
        if found.auc is not None and found.auc > best_auc:
            best, best_auc = candidate, found.auc
    return best


def _newest(data: BenchmarkData, num_rows: int) -> InMemory:
    if isinstance(data.train, InMemory):
        return data.train.newest(num_rows)
    limit = f"the rows of {data.name} are streamed, and each setting sees all of them"
    raise ValueError(f"--search-rows {num_rows}: {limit}")


class _Tried(NamedTuple):
    auc: float | None
    """On the validation split; None where training diverged or the setting was given up."""
    state: optuna.trial.TrialState


def _valid_auc(
    data: BenchmarkData, recipe: Recipe, trial: optuna.Trial | None, *, label: str
) -> _Tried:
    def note(epoch: int, auc: float) -> None:
        if trial:
            trial.report(auc, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned(f"valid AUC {auc:.4f} after epoch {epoch}")

    try:
        result = run_seed(data, recipe, seed=0, with_test=False, label=label, after_epoch=note)
    except DivergedError as error:
        logger.warning("%s: %s with %s", label, error, settings_of(recipe))
        return _Tried(None, optuna.trial.TrialState.FAIL)
    except optuna.TrialPruned as error:
        logger.info("%s: given up, %s with %s", label, error, settings_of(recipe))
        return _Tried(None, optuna.trial.TrialState.PRUNED)
    logger.info(
        "%s: valid AUC %.4f, log loss %.4f with %s",
        *(label, result.valid.auc, result.valid.log_loss, settings_of(recipe)),
    )
    return _Tried(result.valid.auc, optuna.trial.TrialState.COMPLETE)


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
