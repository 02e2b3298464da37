"""The command: read a data set, perhaps search, train some seeds, report the means and spreads."""

import dataclasses
import datetime
import functools
import io
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from features.datasets.catalog import schema_of
from features.places import Place, is_local, put_whole
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
from training.experiments.public_data.trees import (
    TreeSettings,
    run_trees,
    search_trees,
)
from training.model.flops import cost_of
from training.model.inputs import Inputs, inputs_of
from training.recipes import RECIPES, recipe_of

logger = logging.getLogger(__name__)

_FIRST_SEED = 2021
_SHARES = (0.7, 0.85)
"""Where the training days and the validation days end, as shares of the rows."""
_TEST_FIGURES = ("auc", "log_loss", "gauc", "ne")
_RUN_FIGURES = ("epochs", "seconds", "samples_per_second")
TREES = "lightgbm"


def run_benchmark(
    dataset: str,
    folder: Place,
    model: str,
    *,
    recipe: str | None,
    batch_size: int | None = None,
    compute_of: str | None = None,
    seeds: int,
    trials: int,
    search_rows: int | None = None,
    losses: Place | None = None,
) -> dict[str, Any]:
    """Train ``seeds`` rankers, or LightGBM; returns the line of figures, its table included.

    Args:
        dataset: Its name.
        folder: Where its files are.
        model: Kind of ranker, or LightGBM.
        recipe: None: the data set's own for this kind of model, or the small one.
        batch_size: None: the recipe's.
        compute_of: The recipe whose training, over all of its epochs, costs what one of these may
            cost in FLOP; None: there are the recipe's epochs at most.
        seeds: Runs, at least 1.
        trials: Settings that are tried on the validation split first; 0: the recipe as it is.
        search_rows: The newest training rows, which a trial sees; None: all.
        losses: File for the log loss of each test row by seed, and the rows' users.
    """
    if seeds < 1:
        raise ValueError(f"seeds: {seeds}; at least 1")
    if model == TREES and (recipe or batch_size):
        raise ValueError(f"--recipe {recipe}, --batch-size {batch_size}: {TREES} has neither")
    chosen = None if model == TREES else recipe_for(dataset, model, recipe)
    if chosen and batch_size:
        chosen = with_training(chosen, batch_size=batch_size)
    if dataset in PUBLIC_DATA and not is_local(folder):
        raise ValueError(f"--data {folder}: the files of {dataset} are read from a disk")
    read = PUBLIC_DATA.get(dataset) or functools.partial(read_lake, schema_of(dataset))
    data = read(folder)
    if chosen and compute_of:
        chosen = within_compute(data.inputs, chosen, recipe_of(compute_of))
    logger.info(
        "%s: %d training rows, %d to validate, %d to test; recipe %s",
        *(data.name, data.train.num_rows(), len(data.valid), len(data.test)),
        chosen.name if chosen else "none",
    )
    contender = (
        _ranker(data, chosen, trials=trials, num_rows=search_rows)
        if chosen
        else _trees(data, trials=trials, num_rows=search_rows)
    )
    results = []
    for number in range(seeds):
        label = f"{model} seed {number + 1}/{seeds}"
        results.append(contender.run(_FIRST_SEED + number, label))
        _log(label, results[-1])
    if losses:
        _write_losses(losses, data, results)
    searched = {"trials": trials, "rows": search_rows, "settings": contender.settings}
    named = {
        "dataset": data.name,
        "model": model,
        "recipe": chosen.name if chosen else None,
        "batch_size": chosen.training.batch_size if chosen else None,
    }
    mflop = {"mflop_per_example": contender.mflop_per_example}
    figures = {**named, **mflop, **_figures(data, results), "search": searched}
    return {**figures, "markdown": _table(figures)}


class _Contender(NamedTuple):
    """What is compared, its settings chosen."""

    settings: dict[str, Any]
    mflop_per_example: float | None
    """Of training; None where it is not matrices that are multiplied."""
    run: Callable[[int, str], SeedResult]
    """Trains one seed, whose progress bar says the text."""


def _ranker(
    data: BenchmarkData, recipe: Recipe, *, trials: int, num_rows: int | None
) -> _Contender:
    if trials:
        recipe = search(data, recipe, trials=trials, num_rows=num_rows)

    def run(seed: int, label: str) -> SeedResult:
        return run_seed(data, recipe, seed=seed, label=label)

    flops = cost_of(data.inputs, recipe.model).training_flops
    return _Contender(settings_of(recipe), flops / 1e6, run)


def _trees(data: BenchmarkData, *, trials: int, num_rows: int | None) -> _Contender:
    settings = search_trees(data, trials=trials, num_rows=num_rows) if trials else TreeSettings()

    def run(seed: int, _: str) -> SeedResult:
        return run_trees(data, settings, seed=seed)

    return _Contender(dataclasses.asdict(settings), None, run)


def with_training(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with other settings of its training."""
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, **changes))


def within_compute(inputs: Inputs, recipe: Recipe, reference: Recipe) -> Recipe:
    """The recipe with as many epochs, at least 1, as the reference's training FLOP pay for."""
    paid = reference.training.cold_epochs * cost_of(inputs, reference.model).training_flops
    return with_training(
        recipe, cold_epochs=max(1, paid // cost_of(inputs, recipe.model).training_flops)
    )


def _write_losses(file: Place, data: BenchmarkData, results: Sequence[SeedResult]) -> None:
    by_seed = np.stack([one.test_losses for one in results if one.test_losses is not None])
    written = io.BytesIO()
    np.savez_compressed(written, losses=by_seed.astype(np.float32), group=data.test.group)
    put_whole(file, written.getvalue())


def _log(label: str, found: SeedResult) -> None:
    logger.info(
        "%s: %d epochs, %.0f s; valid AUC %.4f; test AUC %.4f, log loss %.4f",
        *(label, found.epochs, found.seconds, found.valid.auc),
        *(found.test.auc, found.test.log_loss) if found.test else (),
    )


def recipe_for(dataset: str, model: str, recipe: str | None) -> Recipe:
    """The recipe of a run; ValueError when the named one is of another model."""
    own = f"{model}-{dataset.removesuffix('-stand-in')}"
    found = recipe_of(recipe or (own if own in RECIPES else f"{model}-small"))
    if found.model.interaction.kind != model:
        raise ValueError(
            f"--recipe {found.name}: of {found.model.interaction.kind}; --model is {model}"
        )
    return found


def _figures(data: BenchmarkData, results: Sequence[SeedResult]) -> dict[str, Any]:
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
        **means,
        "params": round(float(np.mean([result.params for result in results]))),
        "seeds": len(results),
        "spreads": spreads,
        "rows": {"train": data.train.num_rows(), "valid": len(data.valid), "test": len(data.test)},
    }
    if data.best_log_loss is not None:
        figures["best_log_loss"] = data.best_log_loss
    return figures


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
        "none" if (flops := figures["mflop_per_example"]) is None else f"{flops:.2f}",
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
