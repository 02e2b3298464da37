"""The rolling backtest: each day is predicted by models that have seen only earlier days.

Beside the ranker stand two simple baselines under the same rule.
"""

import dataclasses
import datetime
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from features.schema import Schema
from training.config.recipe import Recipe
from training.data.dataset import ExampleTable, request_groups, user_groups
from training.data.examples import Examples
from training.evaluation.comparison import Holdout, Scores, compare
from training.evaluation.holdout import best_log_loss
from training.experiments.daily.rolled import from_scratch
from training.metrics import evaluate, log_losses
from training.trainer.loop import fit

RANKER, REGRESSION, BASE_RATE = "ranker", "logistic regression", "base rate"
Rates = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def run_backtest(
    recipe: Recipe, table: ExampleTable, days: Sequence[datetime.date]
) -> dict[str, object]:
    """Predict each of ``days`` after training on everything before it, one day at a time.

    Needs a process group; the ranker starts cold before the first day and warm from then on, as the
    daily pipeline does. The baselines are fitted anew before each day.

    Returns:
        Plain values, pooled over the days: ``metrics`` of the ranker and the baselines,
        ``log_loss_change``, the ranker's against each baseline, and its ``regret``, in nats.
    """
    schema = table.schema
    before = table.days(last=days[0] - datetime.timedelta(days=1))
    session = from_scratch(table, recipe, before)
    past = _rates(table.read(before), schema)
    scores: dict[str, list[Scores]] = {RANKER: [], REGRESSION: [], BASE_RATE: []}
    predicted = [day for day in days if table.num_rows([day])]
    for day in tqdm(predicted, unit="day", mininterval=5):
        examples = table.read([day])
        rates = _rates(examples, schema)
        scores[RANKER].append(session.predict(examples.inputs))
        regression = LogisticRegression().fit(*past)
        scores[REGRESSION].append(regression.predict_proba(rates[0])[:, 1].astype(np.float32))
        scores[BASE_RATE].append(np.full(len(examples), past[1].mean(), dtype=np.float32))
        fit(session, table, [day], epochs=recipe.training.warm_epochs, is_warm=True)
        past = (np.concatenate([past[0], rates[0]]), np.concatenate([past[1], rates[1]]))
    pooled = {name: np.concatenate(parts) for name, parts in scores.items()}
    return {"days": len(predicted), **_figures(schema, table.read(predicted), pooled)}


def _figures(schema: Schema, examples: Examples, scores: dict[str, Scores]) -> dict[str, object]:
    label, group = examples.label, user_groups(examples, schema)
    request = request_groups(examples, schema)
    holdout = Holdout(label=label, group=group, example_id=examples.example_id)
    ranker, best = scores[RANKER], best_log_loss(schema, examples)
    regret = None if best is None else float(log_losses(ranker, label).mean()) - best
    return {
        "metrics": {n: evaluate(s, label, group, request).to_dict() for n, s in scores.items()},
        "log_loss_change": {
            name: dataclasses.asdict(compare(holdout, ranker, scores[name]).log_loss)
            for name in (REGRESSION, BASE_RATE)
        },
        "regret": regret,
    }


def _rates(examples: Examples, schema: Schema) -> Rates:
    """Log odds of the smoothed positive rates of user and item, and the labels."""
    names = [f"{role}_positive_rate_all" for role, _ in schema.entities()]
    prior = schema.label.prior_rate
    rates = [examples.table.column(name).fill_null(prior).to_numpy() for name in names]
    stacked = np.stack(rates, axis=1)
    return np.log(stacked / (1 - stacked)), examples.label
