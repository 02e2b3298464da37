"""The command: read a data set, perhaps search, train some seeds, report the means and spreads."""

import dataclasses
import datetime
import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from features.datasets.catalog import data_set_of
from features.places import Place, is_local
from features.schema import Schema
from training.config.recipe import Recipe
from training.data.dataset import ExampleTable, user_groups
from training.evaluation.holdout import best_log_losses
from training.experiments.public_data.criteo_files import read_criteo_kaggle, read_criteo_terabyte
from training.experiments.public_data.data import BenchmarkData, InMemory, Split
from training.experiments.public_data.frappe_stand_in import CONTEXTS, frappe_stand_in
from training.experiments.public_data.one_hot_files import read_one_hot
from training.experiments.public_data.protocol import SeedResult, run_seed
from training.experiments.public_data.search import search, settings_of
from training.experiments.public_data.sequence_files import (
    KUAIVIDEO,
    MICROVIDEO,
    TAOBAO_AD,
    read_sequences,
)
from training.model.flops import Cost, cost_of
from training.model.inputs import inputs_of
from training.recipes import RECIPES, recipe_of

logger = logging.getLogger(__name__)

_FIRST_SEED = 2021
_SHARES = (0.7, 0.85)
"""Where the training days and the validation days end, as shares of the rows."""
_TEST_FIGURES = ("auc", "log_loss", "gauc", "ne")
_RUN_FIGURES = ("epochs", "seconds", "samples_per_second")


def run_benchmark(
    dataset: str,
    folder: Place,
    model: str,
    *,
    recipe: str | None,
    batch_size: int | None = None,
    seeds: int,
    trials: int,
    search_rows: int | None = None,
) -> dict[str, Any]:
    """Train ``seeds`` rankers on a data set; returns the line of figures, its table included.

    Without a named recipe it is the data set's own for this kind of model, or the small one;
    without a ``batch_size`` the recipe's. That many ``trials`` are made on the validation split
    first, with the newest ``search_rows`` training rows or all; 0: the recipe is taken as it is.
    """
    if seeds < 1:
        raise ValueError(f"seeds: {seeds}; at least 1")
    chosen = recipe_for(dataset, model, recipe)
    if batch_size:
        training = dataclasses.replace(chosen.training, batch_size=batch_size)
        chosen = dataclasses.replace(chosen, training=training)
    if dataset in PUBLIC_DATA and not is_local(folder):
        raise ValueError(f"--data {folder}: the files of {dataset} are read from a disk")
    read = PUBLIC_DATA.get(dataset) or functools.partial(read_lake, data_set_of(dataset).schema)
    data = read(folder)
    logger.info(
        "%s: %d training rows, %d to validate, %d to test; recipe %s",
        *(data.name, data.train.num_rows(), len(data.valid), len(data.test), chosen.name),
    )
    if trials:
        chosen = search(data, chosen, trials=trials, num_rows=search_rows)
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
    cost = cost_of(data.inputs, chosen.model)
    searched = {"trials": trials, "rows": search_rows, "settings": settings_of(chosen)}
    return _figures(data, model, chosen.name, chosen.training.batch_size, results, cost, searched)


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
    recipe: str,
    batch_size: int,
    results: Sequence[SeedResult],
    cost: Cost,
    searched: dict[str, Any],
) -> dict[str, Any]:
    tests = [result.test for result in results if result.test]
    columns: dict[str, list[float]] = {
        **{name: [getattr(test, name) for test in tests] for name in _TEST_FIGURES},
        "valid_auc": [result.valid.auc for result in results],
        **{name: [getattr(result, name) for result in results] for name in _RUN_FIGURES},
    }
    means = {name: _or_none(float(np.mean(values))) for name, values in columns.items()}
    spreads = {
        name: _or_none(float(np.std(values, ddof=1))) if len(values) > 1 else None
        for name, values in columns.items()
    }
    figures = {
        "dataset": data.name,
        "model": model,
        "recipe": recipe,
        "batch_size": batch_size,
        **means,
        "params": cost.parameters,
        "mflop_per_example": cost.training_flops / 1e6,
        "seeds": len(results),
        "spreads": spreads,
        "search": searched,
        "rows": {"train": data.train.num_rows(), "valid": len(data.valid), "test": len(data.test)},
    }
    if data.best_log_loss is not None:
        figures["best_log_loss"] = data.best_log_loss
    return {**figures, "markdown": _table(figures)}


def _or_none(value: float) -> float | None:
    """None for what is not defined, such as GAUC without users; JSON has no NaN."""
    return value if math.isfinite(value) else None


def _table(figures: dict[str, Any]) -> str:
    """The figures as Markdown, each mean with its spread over the seeds."""

    def cell(name: str, digits: int) -> str:
        value, spread = figures[name], figures["spreads"][name]
        if value is None:
            return "not defined"
        return f"{value:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread else "")

    titles = "data set | model | AUC | log loss | GAUC | NE | parameters | MFLOP/example | s"
    cells = [
        figures["dataset"],
        figures["model"],
        *(cell(name, 4) for name in _TEST_FIGURES),
        f"{figures['params']:,}",
        f"{figures['mflop_per_example']:.2f}",
        cell("seconds", 0),
    ]
    rule = "|".join("---" for _ in cells)
    return f"| {titles} |\n|{rule}|\n| {' | '.join(cells)} |"


def read_lake(schema: Schema, lake: Place) -> BenchmarkData:
    """All examples of a data set: the first days train, the next validate, the last test.

    Raises:
        ValueError: There are no examples; says which command makes them.
    """
    table = ExampleTable(lake, schema)
    days = table.days(datetime.date.min, datetime.date.max)
    rows = {day: count for day in days if (count := table.num_rows([day]))}
    seen = np.cumsum([*rows.values()])
    ends = np.searchsorted(seen, np.multiply(_SHARES, seen[-1:].sum())) + 1
    if len(set(ends)) < len(_SHARES) or ends[-1] == len(rows):
        raise ValueError(f"days of {table.root}: {len(rows)} with rows; three parts need more")
    parts = [table.read(part.tolist()) for part in np.split(np.array([*rows]), ends)]
    train, valid, test = (
        Split(part.inputs, part.label, user_groups(part, schema)) for part in parts
    )
    best = best_log_losses(schema, parts[-1])
    return BenchmarkData(
        name=schema.name,
        inputs=inputs_of(schema),
        train=InMemory(train),
        valid=valid,
        test=test,
        best_log_loss=None if best is None else float(best.mean()),
    )


FRAPPE_FIELDS = ("user", "item", *CONTEXTS)
MOVIELENS_FIELDS = ("user_id", "item_id", "tag_id")
PUBLIC_DATA: dict[str, Callable[[Place], BenchmarkData]] = {
    "frappe": functools.partial(read_one_hot, "frappe", fields=FRAPPE_FIELDS),
    "frappe-stand-in": lambda _: frappe_stand_in(),
    "movielens-latest": functools.partial(
        read_one_hot, "movielens-latest", fields=MOVIELENS_FIELDS
    ),
    "microvideo": functools.partial(read_sequences, "microvideo", form=MICROVIDEO),
    "kuaivideo": functools.partial(read_sequences, "kuaivideo", form=KUAIVIDEO),
    "taobao-ad": functools.partial(read_sequences, "taobao-ad", form=TAOBAO_AD),
    "criteo-kaggle": read_criteo_kaggle,
    "criteo-terabyte": read_criteo_terabyte,
}
"""Readers by the name of the data set; each takes the folder that ``--data`` names."""
