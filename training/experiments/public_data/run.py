"""The command: read a data set, perhaps search, train some seeds, report the means and spreads."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from features.datasets.catalog import SCHEMAS
from training.config.recipe import Recipe
from training.experiments.public_data.criteo_files import read_criteo_kaggle, read_criteo_terabyte
from training.experiments.public_data.csv_files import read_categorical_csv
from training.experiments.public_data.data import BenchmarkData
from training.experiments.public_data.frappe_stand_in import CONTEXTS, frappe_stand_in
from training.experiments.public_data.lake import read_lake
from training.experiments.public_data.libfm_files import find_libfm, read_libfm
from training.experiments.public_data.protocol import SeedResult, run_seed
from training.experiments.public_data.search import search, settings_of
from training.experiments.public_data.sequence_files import (
    KUAIVIDEO,
    MICROVIDEO,
    TAOBAO_AD,
    SequenceFormat,
    read_sequences,
)
from training.model.flops import Cost, cost_of
from training.recipes import RECIPES, recipe_of

logger = logging.getLogger(__name__)

_FIRST_SEED = 2021


def run_benchmark(
    dataset: str, folder: Path, model: str, *, recipe: str | None, seeds: int, trials: int
) -> dict[str, object]:
    """Train ``seeds`` rankers on a data set; returns the line of figures, its table included.

    Args:
        dataset: A name of ``DATASETS``.
        folder: Where its files are.
        model: The ranker's kind.
        recipe: Name of the recipe; None: the data set's own for this model, or the small one.
        seeds: How many.
        trials: Settings to try on the validation split first; 0: the recipe as it is.
    """
    if seeds < 1:
        raise ValueError(f"seeds: {seeds}; at least 1")
    chosen = recipe_for(dataset, model, recipe)
    data = DATASETS[dataset](folder)
    logger.info(
        "%s: %d training rows, %d to validate, %d to test; recipe %s",
        *(data.name, data.train.num_rows(), len(data.valid), len(data.test), chosen.name),
    )
    if trials:
        chosen = search(data, chosen, trials=trials)
    results = []
    for number in range(seeds):
        label = f"{model} seed {number + 1}/{seeds}"
        results.append(run_seed(data, chosen, seed=_FIRST_SEED + number, label=label))
        found = results[-1]
        logger.info(
            "%s: %d epochs, %.0f s; valid AUC %.4f; test AUC %.4f, log loss %.4f",
            *(label, found.epochs, found.seconds, found.valid.auc),
            *(found.test.auc, found.test.log_loss) if found.test else (),
        )
    return _figures(data, model, chosen, results, cost_of(data.inputs, chosen.model), trials)


def recipe_for(dataset: str, model: str, recipe: str | None) -> Recipe:
    """The recipe of a run; ValueError when the named one is of another model."""
    own = f"{model}-{dataset.removesuffix('-stand-in')}"
    found = recipe_of(recipe or (own if own in RECIPES else f"{model}-small"))
    if found.model.interaction.kind != model:
        raise ValueError(
            f"--recipe {found.name}: of {found.model.interaction.kind}; --model is {model}"
        )
    return found


def _figures(
    data: BenchmarkData,
    model: str,
    recipe: Recipe,
    results: Sequence[SeedResult],
    cost: Cost,
    trials: int,
) -> dict[str, object]:
    tests = [result.test for result in results if result.test]
    columns: dict[str, list[float]] = {
        "auc": [test.auc for test in tests],
        "log_loss": [test.log_loss for test in tests],
        "gauc": [test.gauc for test in tests],
        "ne": [test.ne for test in tests],
        "valid_auc": [result.valid.auc for result in results],
        "epochs": [result.epochs for result in results],
        "seconds": [result.seconds for result in results],
        "samples_per_second": [result.samples_per_second for result in results],
    }
    means = {name: _or_none(float(np.mean(values))) for name, values in columns.items()}
    spreads = {
        name: _or_none(float(np.std(values, ddof=1))) if len(values) > 1 else None
        for name, values in columns.items()
    }
    figures: dict[str, object] = {
        "dataset": data.name,
        "model": model,
        "recipe": recipe.name,
        **means,
        "params": cost.parameters,
        "mflop_per_example": cost.training_flops / 1e6,
        "seeds": len(results),
        "spreads": spreads,
        "search": {"trials": trials, "settings": settings_of(recipe)},
        "rows": {
            "train": data.train.num_rows(),
            "valid": len(data.valid),
            "test": len(data.test),
        },
    }
    if data.best_log_loss is not None:
        figures["best_log_loss"] = data.best_log_loss
    sizes = (f"{cost.parameters:,}", f"{cost.training_flops / 1e6:.2f}")
    return {**figures, "markdown": _table(data.name, model, sizes, means=means, spreads=spreads)}


def _or_none(value: float) -> float | None:
    """None for what is not defined, such as GAUC without users; JSON has no NaN."""
    return value if math.isfinite(value) else None


def _table(
    dataset: str,
    model: str,
    sizes: tuple[str, str],
    *,
    means: Mapping[str, float | None],
    spreads: Mapping[str, float | None],
) -> str:
    """The figures as Markdown, each mean with its spread over the seeds."""

    def cell(name: str, digits: int) -> str:
        value, spread = means[name], spreads[name]
        if value is None:
            return "not defined"
        return f"{value:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread else "")

    titles = "data set | model | AUC | log loss | GAUC | NE | parameters | MFLOP/example | s"
    means_of_scores = (cell(name, 4) for name in ("auc", "log_loss", "gauc", "ne"))
    cells = [dataset, model, *means_of_scores, *sizes, cell("seconds", 0)]
    rule = "|".join("---" for _ in cells)
    return f"| {titles} |\n|{rule}|\n| {' | '.join(cells)} |"


FRAPPE_FIELDS = ("user", "item", *CONTEXTS)


def _frappe(folder: Path) -> BenchmarkData:
    paths = find_libfm(folder)
    if paths:
        return read_libfm("frappe", paths, fields=FRAPPE_FIELDS)
    return read_categorical_csv("frappe", folder, user="user")


def _movielens_latest(folder: Path) -> BenchmarkData:
    paths = find_libfm(folder)
    if paths:
        return read_libfm("movielens-latest", paths, fields=("user_id", "item_id", "tag_id"))
    return read_categorical_csv("movielens-latest", folder, user="user_id")


def _from_lake(name: str) -> Callable[[Path], BenchmarkData]:
    return lambda folder: read_lake(SCHEMAS[name], folder)


def _sequences(name: str, form: SequenceFormat) -> Callable[[Path], BenchmarkData]:
    return lambda folder: read_sequences(name, folder, form)


DATASETS: dict[str, Callable[[Path], BenchmarkData]] = {
    "frappe": _frappe,
    "frappe-stand-in": lambda _: frappe_stand_in(),
    "movielens-latest": _movielens_latest,
    "microvideo": _sequences("microvideo", MICROVIDEO),
    "kuaivideo": _sequences("kuaivideo", KUAIVIDEO),
    "taobao-ad": _sequences("taobao-ad", TAOBAO_AD),
    "criteo-kaggle": read_criteo_kaggle,
    "criteo-terabyte": read_criteo_terabyte,
    **{name: _from_lake(name) for name in SCHEMAS},
}
"""Readers by the name of the data set; each takes the folder that ``--data`` names."""
