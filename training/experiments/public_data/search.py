"""Random search of the settings that every ranker has, judged on the validation split alone."""

import dataclasses
import logging
from typing import Any

import numpy as np

from training.config.recipe import Recipe, TableOptimizer
from training.experiments.public_data.data import BenchmarkData
from training.experiments.public_data.protocol import DivergedError, run_seed

logger = logging.getLogger(__name__)

DENSE_LEARNING_RATES = (3e-4, 1e-3, 2e-3, 5e-3)
SPARSE_LEARNING_RATES = (0.02, 0.05, 0.1, 0.2)
TABLE_DECAYS = (0.0, 1e-3, 3e-3, 1e-2)
ADAM_LEARNING_RATES = (5e-4, 1e-3, 2e-3)
ADAM_EMBEDDING_DECAYS = (0.03, 0.05, 0.1, 0.2)
"""L2 as a term of the mean loss, where Adam trains the tables."""
DROPOUTS = (0.0, 0.1, 0.2, 0.3, 0.5)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting and what it reached."""

    settings: dict[str, Any]
    valid_auc: float
    valid_log_loss: float


def search(data: BenchmarkData, recipe: Recipe, *, trials: int, seed: int = 0) -> Recipe:
    """The recipe with the best validation AUC of ``trials`` settings, the given one first."""
    random = np.random.default_rng(seed)
    best, best_auc = recipe, -1.0
    for number in range(trials):
        candidate = _drawn(recipe, random) if number else recipe
        label = f"search {number + 1}/{trials}"
        try:
            result = run_seed(data, candidate, seed=seed, with_test=False, label=label)
        except DivergedError as error:
            logger.warning("%s: %s with %s", label, error, settings_of(candidate))
            continue
        trial = Trial(settings_of(candidate), result.valid.auc, result.valid.log_loss)
        logger.info("search %d of %d: %s", number + 1, trials, trial)
        if trial.valid_auc > best_auc:
            best, best_auc = candidate, trial.valid_auc
    return best


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


def _drawn(recipe: Recipe, random: np.random.Generator) -> Recipe:
    training, model = recipe.training, recipe.model
    if training.table_optimizer is TableOptimizer.ADAM:
        tables: dict[str, Any] = {
            "sparse_learning_rate": float(random.choice(ADAM_LEARNING_RATES)),
            "embedding_decay": float(random.choice(ADAM_EMBEDDING_DECAYS)),
        }
    else:
        tables = {
            "sparse_learning_rate": float(random.choice(SPARSE_LEARNING_RATES)),
            "table_decay": float(random.choice(TABLE_DECAYS)),
        }
    dense = float(random.choice(DENSE_LEARNING_RATES))
    dropout = float(random.choice(DROPOUTS))
    return dataclasses.replace(
        recipe,
        training=dataclasses.replace(training, dense_learning_rate=dense, **tables),
        # DLRM's over-arch, which is TorchRec's, has no dropout to draw.
        model=model
        if model.interaction.kind == "dlrm"
        else dataclasses.replace(model, dropout=dropout),
    )
