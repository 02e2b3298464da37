"""What policies come to over the days that they predicted, and what a ranker's age costs."""

import dataclasses
import datetime
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.places import place
from training.config.recipe import Recipe
from training.data.dataset import ExampleTable, user_groups
from training.evaluation.comparison import relative_change
from training.experiments.daily.policies import POLICIES, USUAL
from training.experiments.daily.rolled import Rolled, Scores
from training.metrics import Metrics, evaluate, log_losses, or_none

_SHOWN = ("log_loss", "ne", "auc", "gauc", "calibration")


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The predicted rows, in the order of the scores."""

    label: npt.NDArray[np.int64]
    user: npt.NDArray[np.int64]
    day: npt.NDArray[np.int64]
    """Number of the row's day."""


def run_policies(
    table: ExampleTable,
    recipe: Recipe,
    days: Sequence[datetime.date],
    *,
    names: Sequence[str],
    seeds: int,
) -> dict[str, Any]:
    """Every policy over the same days, and NE against age; needs a process group.

    Args:
        table: The examples.
        recipe: Of the ranker.
        days: To predict; the ranker begins with all before the first.
        names: Policies besides the recipe's own.
        seeds: Runs of each, of weights and of the order of rows.
    """
    names = list(dict.fromkeys([USUAL, *names]))
    found: dict[str, list[list[Scores]]] = {name: [] for name in names}
    aged: list[list[dict[int, Scores]]] = []
    for seed in range(seeds):
        seeded = recipe.with_training(seed=recipe.training.seed + seed)
        with tempfile.TemporaryDirectory() as folder:
            rolled = Rolled(table, seeded, days, place(folder))
            for name in names:
                found[name].append(rolled.scores(POLICIES[name]))
            aged.append(rolled.scores_by_age())
        days = rolled.days
    examples, sizes = table.read(days), [table.num_rows([day]) for day in days]
    users = user_groups(examples, table.schema)
    rows = _Rows(examples.label, users, np.repeat(np.arange(len(days)), sizes))
    return {
        "days": [str(day) for day in days],
        "rows": len(rows.label),
        "policies": _policies(rows, found),
        "by_age": by_age(rows.label, rows.day, aged),
    }


def _policies(rows: _Rows, found: Mapping[str, list[list[Scores]]]) -> dict[str, Any]:
    losses = {
        name: np.mean([log_losses(np.concatenate(one), rows.label) for one in runs], axis=0)
        for name, runs in found.items()
    }
    usual = losses[USUAL]
    return {
        name: {
            **_means([evaluate(np.concatenate(one), rows.label, rows.user) for one in runs]),
            # What a day was learnt from is common to its rows: users alone would not be enough.
            "log_loss_change": dataclasses.asdict(relative_change(losses[name], usual, rows.day)),
            "by_day": [_day(rows, number, runs) for number in range(len(runs[0]))],
        }
        for name, runs in found.items()
    }


def _means(metrics: Sequence[Metrics]) -> dict[str, float | None]:
    """Of the seeds; None where one is not defined."""
    means = {name: float(np.mean([getattr(one, name) for one in metrics])) for name in _SHOWN}
    return {name: or_none(value) for name, value in means.items()}


def _day(rows: _Rows, number: int, runs: Sequence[Sequence[Scores]]) -> dict[str, float | None]:
    of_day = rows.day == number
    label, user = rows.label[of_day], rows.user[of_day]
    return {"rows": len(label), **_means([evaluate(one[number], label, user) for one in runs])}


def by_age(
    label: npt.NDArray[np.int64],
    day: npt.NDArray[np.int64],
    aged: Sequence[Sequence[Mapping[int, Scores]]],
) -> list[dict[str, float]]:
    """By how much rankers of each age are worse than the newest one, on the same rows.

    The change of NE is that of the log loss: both have one entropy.

    Args:
        label: (rows,) of all days.
        day: (rows,) numbers of the days.
        aged: Of each seed, of each day, the scores by age.
    """
    labels = [label[day == number] for number in range(len(aged[0]))]
    losses = [
        {
            age: np.mean([log_losses(run[number][age], labels[number]) for run in aged], axis=0)
            for age in aged[0][number]
        }
        for number in range(len(labels))
    ]
    found = []
    ages = sorted({age for one in losses for age in one})
    for age in ages:
        # After days without rows the newest one has this age itself, and shows nothing of it.
        days = [
            number
            for number, one in enumerate(losses)
            if age in one and (age == ages[0] or age > min(one))
        ]
        if not days:
            continue
        mine = np.concatenate([losses[number][age] for number in days])
        newest = np.concatenate([losses[number][min(losses[number])] for number in days])
        drawn = np.repeat(days, [len(labels[number]) for number in days])
        change = relative_change(mine, newest, drawn)
        found.append({"age": age, "days": len(days), **dataclasses.asdict(change)})
    return found
