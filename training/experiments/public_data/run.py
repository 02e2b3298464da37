"""The command: read a data set, perhaps search, train some seeds, report the means and spreads."""

import dataclasses
import functools
import io
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from features.datasets.catalog import schema_of
from features.places import Place, is_local, put_whole
from features.schema import Schema
from training.config.recipe import Recipe
from training.data.dataset import ExampleTable, user_groups
from training.evaluation.holdout import best_log_loss
from training.experiments.public_data.criteo_files import read_criteo_kaggle, read_criteo_terabyte
from training.experiments.public_data.data import BenchmarkData, Split
from training.experiments.public_data.frappe_stand_in import CONTEXTS, frappe_stand_in
from training.experiments.public_data.one_hot_files import read_one_hot
from training.experiments.public_data.protocol import SeedResult, run_seed
from training.experiments.public_data.request import BenchmarkRequest
from training.experiments.public_data.search import search, settings_of
from training.experiments.public_data.sequence_files import (
    KUAIVIDEO,
    MICROVIDEO,
    TAOBAO_AD,
    read_sequences,
)
from training.experiments.public_data.trees import TreeSettings, run_trees, search_trees
from training.metrics import or_none
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


def run_benchmark(request: BenchmarkRequest) -> dict[str, Any]:
    """Train the rankers of all seeds, or LightGBM; returns the line of figures, its table included.

    Raises:
        ValueError: There are no seeds, LightGBM is to have a recipe or batches, or the data are not
            where the request says, in their format.
    """
    if request.seeds < 1:
        raise ValueError(f"seeds: {request.seeds}; at least 1")
    recipe = _recipe(request)
    data = _read(request.dataset, request.data)
    if recipe and request.compute_of:
        recipe = within_compute(data.inputs, recipe, recipe_of(request.compute_of))
    logger.info(
        "%s: %d training rows, %d to validate, %d to test; recipe %s",
        *(data.name, len(data.train), len(data.valid), len(data.test)),
        recipe.name if recipe else "none",
    )
    tried: dict[str, Any] = {"trials": request.search, "num_rows": request.search_rows}
    run: Callable[..., SeedResult]
    if recipe:
        recipe = search(data, recipe, **tried) if request.search else recipe
        run, settings = functools.partial(run_seed, data, recipe), settings_of(recipe)
    else:
        trees = search_trees(data, **tried) if request.search else TreeSettings()
        run, settings = functools.partial(run_trees, data, trees), dataclasses.asdict(trees)
    results = []
    for number in range(request.seeds):
        found = run(seed=_FIRST_SEED + number)
        logger.info(
            "%s seed %d/%d: %d epochs, %.0f s; valid AUC %.4f; test AUC %.4f, log loss %.4f",
            *(request.model, number + 1, request.seeds, found.epochs, found.seconds),
            found.valid.auc,
            *(found.test.auc, found.test.log_loss) if found.test else (),
        )
        results.append(found)
    if request.losses:
        _write_losses(request.losses, data, results)
    # Trees multiply no matrices.
    flops = cost_of(data.inputs, recipe.model).training_flops if recipe else None
    figures = {
        "dataset": data.name,
        "model": request.model,
        "recipe": recipe.name if recipe else None,
        "batch_size": recipe.training.batch_size if recipe else None,
        "mflop_per_example": flops and flops / 1e6,
        **_figures(data, results),
        "search": {"trials": request.search, "rows": request.search_rows, "settings": settings},
    }
    return {**figures, "markdown": _table(figures)}


def _recipe(request: BenchmarkRequest) -> Recipe | None:
    """The recipe with the request's batches; None for LightGBM, which may have neither."""
    if request.model == TREES:
        if request.recipe or request.batch_size or request.compute_of:
            given = f"--recipe {request.recipe}, --batch-size {request.batch_size}"
            raise ValueError(
                f"{given}, --compute-of {request.compute_of}: {TREES} has none of them"
            )
        return None
    recipe = recipe_for(request.dataset, request.model, request.recipe)
    return recipe.with_training(batch_size=request.batch_size or recipe.training.batch_size)


def _read(dataset: str, folder: Place) -> BenchmarkData:
    """A data set of papers from a disk, or of the lake."""
    if dataset not in PUBLIC_DATA:
        return read_lake(schema_of(dataset), folder)
    if not is_local(folder):
        raise ValueError(f"--data {folder}: the files of {dataset} are read from a disk")
    return PUBLIC_DATA[dataset](folder)


def within_compute(inputs: Inputs, recipe: Recipe, reference: Recipe) -> Recipe:
    """The recipe with as many epochs, at least 1, as the reference's training FLOP pay for."""
    paid = reference.training.cold_epochs * cost_of(inputs, reference.model).training_flops
    epochs = max(1, paid // cost_of(inputs, recipe.model).training_flops)
    return recipe.with_training(cold_epochs=epochs)


def _write_losses(file: Place, data: BenchmarkData, results: Sequence[SeedResult]) -> None:
    by_seed = np.stack([one.test_losses for one in results if one.test_losses is not None])
    written = io.BytesIO()
    np.savez_compressed(written, losses=by_seed.astype(np.float32), group=data.test.group)
    put_whole(file, written.getvalue())


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
    means = {name: or_none(float(np.mean(values))) for name, values in columns.items()}
    spreads = {
        name: or_none(float(np.std(values, ddof=1))) if len(values) > 1 else None
        for name, values in columns.items()
    }
    figures = {
        **means,
        "params": round(float(np.mean([result.params for result in results]))),
        "seeds": len(results),
        "spreads": spreads,
        "rows": {"train": len(data.train), "valid": len(data.valid), "test": len(data.test)},
    }
    if data.best_log_loss is not None:
        figures["best_log_loss"] = data.best_log_loss
    return figures


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
    rows = {day: count for day in table.days() if (count := table.num_rows([day]))}
    seen = np.cumsum([*rows.values()])
    ends = np.searchsorted(seen, np.multiply(_SHARES, seen[-1:].sum())) + 1
    if len(set(ends)) < len(_SHARES) or ends[-1] == len(rows):
        raise ValueError(f"days of {table.root}: {len(rows)} with rows; three parts need more")
    parts = [table.read(part.tolist()) for part in np.split(np.array([*rows]), ends)]
    train, valid, test = (
        Split(part.inputs, part.label, user_groups(part, schema)) for part in parts
    )
    return BenchmarkData(
        name=schema.name,
        inputs=inputs_of(schema),
        train=train,
        valid=valid,
        test=test,
        best_log_loss=best_log_loss(schema, parts[-1]),
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
