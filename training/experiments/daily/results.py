"""What policies come to over the days that they predicted, and what a ranker's age costs."""

import dataclasses
import datetime
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from features.places import place
from training.config.recipe import Recipe
from training.data.dataset import ExampleTable, user_groups
from training.evaluation.comparison import Rows, Scores, relative_change
from training.experiments.daily.policies import POLICIES, USUAL
from training.experiments.daily.rolled import Rolled
from training.metrics import evaluate, log_losses, or_none

_SHOWN = ("log_loss", "ne", "auc", "gauc", "calibration")


def run_policies(
    table: ExampleTable,
    recipe: Recipe,
    days: Sequence[datetime.date],
    *,
    names: Sequence[str],
    seeds: int,
) -> dict[str, Any]:
    """Every policy over the same days, and NE against age; needs a process group.

    The ranker begins with all before the first of ``days``; ``names`` are policies besides the
    recipe's own, and ``seeds`` runs of each, of weights and of the order of rows.
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
    users, number = user_groups(examples, table.schema), np.repeat(np.arange(len(days)), sizes)
    return {
        "days": [str(day) for day in days],
        "rows": len(examples),
        "policies": _policies(examples.label, users, number, found),
        "by_age": by_age(examples.label, number, aged),
    }


def _policies(
    label: Rows, user: Rows, day: Rows, found: Mapping[str, list[list[Scores]]]
) -> dict[str, Any]:
    losses = {
        name: np.mean([log_losses(np.concatenate(one), label) for one in runs], axis=0)
        for name, runs in found.items()
    }
    usual = losses[USUAL]
    return {
        name: {
            **_means(map(np.concatenate, runs), label, user),
            # What a day was learnt from is common to its rows: users alone would not be enough.
            "log_loss_change": dataclasses.asdict(relative_change(losses[name], usual, day)),
            "by_day": [
                {"rows": len(scores[0]), **_means(scores, label[day == n], user[day == n])}
                for n, scores in enumerate(zip(*runs, strict=True))
            ],
        }
        for name, runs in found.items()
    }


def _means(runs: Iterable[Scores], label: Rows, user: Rows) -> dict[str, float | None]:
    """Of the seeds' metrics; None where one is not defined."""
    metrics = [evaluate(scores, label, user) for scores in runs]
    means = {name: float(np.mean([getattr(one, name) for one in metrics])) for name in _SHOWN}
    return {name: or_none(value) for name, value in means.items()}


def by_age(
    label: Rows, day: Rows, aged: Sequence[Sequence[Mapping[int, Scores]]]
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
