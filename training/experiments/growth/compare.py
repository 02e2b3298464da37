"""All runs of a comparison: each arm's rates, then the rankers of every seed, and what they say.

From scratch the large ranker is trained to three budgets, up to the share of the log that is asked
for. The small one grows after half of these steps, and goes on until its compute, with the
parent's, is that of the large one and a fifth more; its first budget is the large one's examples.
The small one alone has the same examples, and then as many as there are, up to the large one's
compute.
"""

import dataclasses
import functools
import logging
import math
from typing import Any

import numpy as np

from training.distributed.divergence import DivergedError
from training.evaluation.holdout import best_log_loss
from training.experiments.growth.arms import Log
from training.experiments.growth.ratios import Arm, Point, Runs, days_to_better, ratios
from training.experiments.journal import Journal, hash_of
from training.experiments.one_pass import DECAY, START, Rates, setting_of, tuned

logger = logging.getLogger(__name__)

GROW_AT = 0.5
"""Share of the large ranker's steps."""
SCRATCH_SHARES = (0.6, 0.8, 1.0)
"""Budgets of the large ranker, as shares of its steps."""
COMPUTE_SHARES = (0.7, 0.8, 0.9, 1.0, 1.2)
"""Budgets of the grown one after that of equal examples, as shares of the large one's compute; the
last one, where the log has it, says by how much it misses what it does not reach."""
SEARCH_SHARE = 0.4
"""Of the steps, in the search for rates."""
MIN_STEPS = 40


def compare(log: Log, journal: Journal, *, share: float, seeds: int, trials: int) -> dict[str, Any]:
    """All runs, and the three ratios with their intervals.

    Args:
        log: The rankers and their data.
        journal: Of finished runs; one that it has is not run again.
        share: Of the log's steps, what the large one sees from scratch.
        seeds: Runs of each.
        trials: Rates of tables, and of the dense part, to try at most for each size; 0: those that
            the search would begin with.

    Raises:
        ValueError: The share gives too few steps.
    """
    steps = round(share * log.num_steps)
    if not 0 < share <= 1 or steps < MIN_STEPS:
        raise ValueError(
            f"share: {share} of {log.num_steps} steps; above 0, at most 1, and {MIN_STEPS} steps"
        )
    kept = _Kept(log, journal)
    log.rates = {}
    searched = round(SEARCH_SHARE * steps)
    for size in log.recipes:
        log.rates[size] = _rates(kept, size, size, START, searched, trials=trials)
    # Tables go on as they were trained, and the dense part is of the large one's shape.
    first = Rates(dense=log.rates["large"].dense, tables=log.rates["small"].tables)
    grow_at = round(GROW_AT * searched)
    log.rates["grown"] = _rates(
        kept, "grown", "small", first, searched, trials=trials, grow_at=grow_at
    )
    runs = [_seed(kept, steps, seed) for seed in range(1, seeds + 1)]
    return {
        "steps": steps,
        "compute_ratio": log.flops["large"] / log.flops["small"],
        "operator": log.operator,
        "learning_rates": {arm: dataclasses.asdict(rates) for arm, rates in log.rates.items()},
        "best_log_loss": best_log_loss(log.table.schema, log.examples["test"]),
        "max_logit_difference": max(one.grown.max_logit_difference for one in runs),
        **{name: dataclasses.asdict(ratio) for name, ratio in ratios(runs).items()},
        "days": [{"grown": grown, "replay": replay} for grown, replay in map(days_to_better, runs)],
        "arms": {
            name: _shown([getattr(one, name) for one in runs], steps * log.flops["large"])
            for name in ("small", "scratch", "grown")
        },
        "log_loss_by_day": [
            {"scratch": one.scratch.days, "grown": one.grown.days, "control": one.small.days}
            for one in runs
        ],
    }


class _Kept:
    """The runs of a log, from the journal where it has them."""

    def __init__(self, log: Log, journal: Journal) -> None:
        self.log, self._journal = log, journal
        self._setting = {
            "setting": setting_of(log.table, log.table.days(), __name__),
            "recipes": [recipe.to_dict() for recipe in log.recipes.values()],
            "operator": log.operator,
            "batch_size": log.one_pass.batch_size,
        }

    def run(self, size: str, ends: list[int], **how: Any) -> Arm:
        """``Log.run``, with the log's rates."""
        rates = {name: dataclasses.asdict(one) for name, one in self.log.rates.items()}
        key = hash_of({**self._setting, "rates": rates, "size": size, "ends": ends, **how})
        if key not in self._journal.runs:
            try:
                found = dataclasses.asdict(self.log.run(size, ends, **how))
            except DivergedError as error:
                found = {"diverged": error.summary["step"]}
            self._journal.add(key, found)
        run = self._journal.runs[key]
        if "diverged" in run:
            raise DivergedError(run["diverged"], "as the journal has it")
        points = [Point(**point) for point in run["points"]]
        return Arm(points, run["days"], run["max_logit_difference"])


def _seed(kept: _Kept, steps: int, seed: int) -> Runs:
    log = kept.log
    grow_at, ratio = round(GROW_AT * steps), log.flops["large"] / log.flops["small"]
    scratch_ends = [round(one * steps) for one in SCRATCH_SHARES]
    # Where the compute of both parts is so much of the large one's.
    grown_ends = [round(one * steps + grow_at * (1 - 1 / ratio)) for one in COMPUTE_SHARES]
    first = max(steps, math.ceil(grow_at / (1 - DECAY)) + 1)
    grown_ends = rising([first, *grown_ends], log.num_steps)
    small_ends = rising([steps, round(min(log.num_steps, steps * ratio))], log.num_steps)
    run = functools.partial(kept.run, seed=seed, has_days=True)
    scratch, grown = run("large", scratch_ends), run("small", grown_ends, grow_at=grow_at)
    small = run("small", small_ends)
    small = dataclasses.replace(small, days=small.days[grow_at // log.day_steps :])
    return Runs(scratch, grown, small, parent_flops=float(log.flops["small"]) * grow_at)


def rising(ends: list[int], most: int) -> list[int]:
    """Those ends within the log whose decay begins after that of the one before."""
    kept: list[int] = []
    for end in ends:
        begins = end - round(DECAY * end)
        if end <= most and (not kept or begins > kept[-1] - round(DECAY * kept[-1])):
            kept.append(end)
    return kept


def _rates(
    kept: _Kept, arm: str, size: str, first: Rates, steps: int, *, trials: int, **how: Any
) -> Rates:
    """An arm's best rates on the days that choose; without trials those that it begins with."""

    def loss_of(rates: Rates) -> float:
        kept.log.rates[arm] = rates
        try:
            loss = kept.run(size, [steps], seed=0, part="valid", **how).points[-1].log_loss
        except DivergedError as error:
            logger.warning("%s: %s: %s", arm, rates, error)
            return math.inf
        logger.info("%s: log loss %.5f with %s", arm, loss, rates)
        return loss

    return tuned(first, loss_of, most=trials) if trials else first


def _shown(arms: list[Arm], whole: float) -> list[dict[str, object]]:
    """Each budget's share of the large ranker's compute, and the losses of all seeds."""
    return [
        {
            "steps": points[0].steps,
            "compute": points[0].flops / whole,
            "log_loss": [point.log_loss for point in points],
            "mean_log_loss": float(np.mean([point.log_loss for point in points])),
        }
        for points in zip(*(arm.points for arm in arms), strict=True)
    ]
