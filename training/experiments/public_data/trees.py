"""LightGBM on the rows that the rankers read: what most teams would try first.

It sees the same encoded inputs, stops on the same validation split by the same metric, and has as
many trials of its own settings as a ranker has of its own.
"""

import dataclasses
import time
from typing import NamedTuple

import lightgbm
import numpy as np
import numpy.typing as npt
import optuna

from features.encoding.encode import Ids, ModelInputs
from training.experiments.public_data.data import BenchmarkData
from training.experiments.public_data.protocol import SeedResult, judged
from training.experiments.public_data.search import Note, best_of, with_newest
from training.metrics import Metrics
from training.model.inputs import Inputs
from training.resources import num_cores

MOST_TREES = 2_000
PATIENCE_TREES = 50
"""Trees without a better validation AUC that end the training."""
MOST_COUNTED = 64
"""Rows of a table up to which a bag becomes one count for each of them."""
SMALL_CATEGORY = 256
"""Rows of a table up to which its ids are categories in any case."""


@dataclasses.dataclass(frozen=True)
class TreeSettings:
    """What a search may change; the defaults are LightGBM's own, but for the ids."""

    learning_rate: float = 0.1
    num_leaves: int = 31
    min_data_in_leaf: int = 20
    feature_fraction: float = 1.0
    bagging_fraction: float = 1.0
    lambda_l2: float = 0.0
    cat_smooth: float = 10.0
    has_large_ids: bool = True
    """Whether ids of tables with more than 256 rows, users and items mostly, are categories."""


def search_trees(data: BenchmarkData, *, trials: int, num_rows: int | None = None) -> TreeSettings:
    """The settings with the best validation AUC, as ``search`` finds a ranker's."""
    data = with_newest(data, num_rows)

    def valid(settings: TreeSettings, seed: int, note: Note, _: str) -> Metrics:
        return run_trees(data, settings, seed=seed, with_test=False, after_trees=note).valid

    return best_of(
        TreeSettings(), trials=trials, drawn=_drawn, valid=valid, settings_of=dataclasses.asdict
    )


def _drawn(trial: optuna.Trial) -> TreeSettings:
    return TreeSettings(
        learning_rate=trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
        num_leaves=trial.suggest_int("num_leaves", 7, 255, log=True),
        min_data_in_leaf=trial.suggest_int("min_data_in_leaf", 10, 2_000, log=True),
        feature_fraction=trial.suggest_float("feature_fraction", 0.3, 1.0),
        bagging_fraction=trial.suggest_float("bagging_fraction", 0.5, 1.0),
        lambda_l2=trial.suggest_float("lambda_l2", 1e-3, 100.0, log=True),
        cat_smooth=trial.suggest_float("cat_smooth", 1.0, 300.0, log=True),
        has_large_ids=trial.suggest_categorical("has_large_ids", (True, False)),
    )


def run_trees(
    data: BenchmarkData,
    settings: TreeSettings,
    *,
    seed: int,
    with_test: bool = True,
    after_trees: Note = lambda *_: None,
) -> SeedResult:
    """Train LightGBM until 50 trees have not raised the validation AUC, and score the best.

    The result's ``epochs`` are trees, and its ``params`` leaves. ``seed`` is of rows and columns
    that are drawn, and of the order of categories. ``after_trees`` is given, after each 50 trees,
    how often that was and the best validation AUC so far; what it raises ends the training.

    Raises:
        ValueError: The training rows are streamed; LightGBM reads them all at once.
    """
    rows = data.in_memory(f"--model lightgbm: {data.name} is streamed; it needs all rows at once")
    started = time.monotonic()

    def columns(inputs: ModelInputs) -> _Columns:
        return _Columns.of(data.inputs, inputs, has_large_ids=settings.has_large_ids)

    learnt, valid = columns(rows.inputs), columns(data.valid.inputs).matrix
    train = lightgbm.Dataset(
        learnt.matrix,
        rows.label,
        categorical_feature=learnt.categorical,
        params={"verbosity": -1},
    )
    booster = lightgbm.train(
        _params(settings, seed),
        train,
        num_boost_round=MOST_TREES,
        valid_sets=[train.create_valid(valid, data.valid.label)],
        callbacks=[lightgbm.early_stopping(PATIENCE_TREES, verbose=False), _Reports(after_trees)],
    )
    seconds = time.monotonic() - started
    best = booster.best_iteration
    dump = booster.dump_model(num_iteration=best)

    def predict(inputs: ModelInputs) -> npt.NDArray[np.float32]:
        probability = booster.predict(columns(inputs).matrix, num_iteration=best)
        return np.asarray(probability, dtype=np.float32)

    return SeedResult(
        **judged(data, predict, with_test=with_test),
        epochs=best,
        seconds=seconds,
        samples_per_second=len(rows) * booster.current_iteration() / seconds,
        params=sum(tree["num_leaves"] for tree in dump["tree_info"]),
    )


def _params(settings: TreeSettings, seed: int) -> dict[str, object]:
    chosen = dataclasses.asdict(settings)
    del chosen["has_large_ids"]
    return chosen | {
        "objective": "binary",
        "metric": "auc",
        "bagging_freq": 1 if settings.bagging_fraction < 1 else 0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": num_cores(),
        "verbosity": -1,
    }


class _Reports:
    """The callback that says how good the trees are; its attributes are LightGBM's protocol."""

    order, before_iteration = 40, False

    def __init__(self, after_trees: Note) -> None:
        self._after_trees, self._best = after_trees, 0.0

    def __call__(self, env: lightgbm.callback.CallbackEnv) -> None:
        for _, _, found, *_ in env.evaluation_result_list or ():
            self._best = max(self._best, found)
        if (number := env.iteration + 1) % PATIENCE_TREES == 0:
            self._after_trees(number // PATIENCE_TREES, self._best)


class _Columns(NamedTuple):
    """Encoded rows as numbers and categories."""

    matrix: npt.NDArray[np.float32]
    """(rows, columns)."""
    categorical: list[int]
    """The columns that are categories."""

    @classmethod
    def of(cls, inputs: Inputs, rows: ModelInputs, *, has_large_ids: bool) -> "_Columns":
        """Dense inputs are numbers, NaN where they are missing, and an id is a category.

        A bag of a small table is a count for each of its rows, one of a larger table its length and
        its first id.
        """
        parts, categorical = [rows.dense], []
        for one in inputs.sparse:
            ids, is_bag = rows.ids[one.name], one.max_length > 1
            if is_bag and one.num_rows <= MOST_COUNTED:
                parts.append(_counts(ids, one.num_rows))
                continue
            if is_bag:
                parts.append(ids.lengths[:, None].astype(np.float32))
            if one.num_rows <= SMALL_CATEGORY or has_large_ids:
                categorical.append(sum(part.shape[1] for part in parts))
                parts.append(_first(ids)[:, None])
        return cls(np.concatenate(parts, axis=1, dtype=np.float32), categorical)


def _counts(ids: Ids, num_rows: int) -> npt.NDArray[np.float32]:
    row = np.repeat(np.arange(len(ids.lengths)), ids.lengths)
    cells = np.bincount(row * num_rows + ids.values, minlength=len(ids.lengths) * num_rows)
    return cells.reshape(-1, num_rows).astype(np.float32)


def _first(ids: Ids) -> npt.NDArray[np.float32]:
    """The first id of each bag, NaN where it is empty; below 2**24, where float32 is exact."""
    found = np.full(len(ids.lengths), np.nan, np.float32)
    starts = np.cumsum(ids.lengths, dtype=np.int64) - ids.lengths
    has_one = ids.lengths > 0
    found[has_one] = ids.values[starts[has_one]]
    return found
