"""Runs the points of a scaling law: one resource at a time, every size with its own learning rate.

The days behind the training days choose the learning rate of a size, the last days judge it; all
sizes are judged on the same rows. Every finished run is a line of a journal, found by the hash of
the code and of its configuration, so that a killed sweep goes on and never does a run twice.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Sequence
from typing import Never

from tqdm import tqdm

from features.places import Place
from training.experiments.journal import Journal
from training.experiments.one_pass import START, Rates, tuned
from training.experiments.scaling.points import Point, append_points, read_points
from training.experiments.sweep.runs import Outcome, Runs
from training.experiments.sweep.sizes import Size

logger = logging.getLogger(__name__)

MOST_RATES = 9
"""Of the tables, and of the dense part, that a size tries, from the last size's outwards."""
_BAR = "{desc} {percentage:3.0f}% |{bar}| {elapsed} of about {remaining} more{postfix}"


class _OverBudgetError(Exception):
    """The next run would end behind the budget."""


class Sweep:
    """The sizes of one data set, within a budget.

    Args:
        runs: Of the data set.
        folder: For the journal and the points.
        seeds: Runs of each size, at its learning rate.
        budget_seconds: Of this call; no run is begun that would go beyond it.
    """

    def __init__(self, runs: Runs, folder: Place, *, seeds: int, budget_seconds: float) -> None:
        name = runs.table.schema.name
        self.runs, self.points = runs, folder / f"{name}.jsonl"
        self._journal = Journal(folder / f"{name}-runs.jsonl")
        self.seeds, self.budget_seconds = seeds, budget_seconds
        # Of a size, usually: both learning rates with their neighbours, some of them again when
        # one has moved, and the other seeds.
        self._num_runs = 7 + seeds - 1
        self.ends = time.monotonic() + budget_seconds
        self.outcomes = {
            key: Outcome(**run)
            for key, run in self._journal.runs.items()
            if run.get("setting") == runs.setting
        }
        self._known_points = self._points_of_setting()

    def run(self, sizes: Sequence[Size]) -> dict[str, object]:
        """All runs of some sizes that are not done, the smallest size first.

        Returns:
            What was done, what it cost against the estimate, and what the budget left out.

        Raises:
            ValueError: The data are too few for so many sizes.
        """
        different = {(size.recipe, size.rows_share, self.runs.steps_of(size)) for size in sizes}
        if len(different) < len(sizes):
            raise ValueError(
                f"axis {sizes[0].axis}: {self.runs.num_steps} steps of {self.runs.log.batch_size} "
                f"examples; too few for {len(sizes)} sizes; take a smaller --batch-size"
            )
        estimates = [self._estimate(size) for size in sizes]
        self._log_estimates(sizes, estimates)
        started, rates, left = time.monotonic(), START, []
        with tqdm(total=sum(estimates), desc=sizes[0].axis, bar_format=_BAR, smoothing=0) as bar:
            for size, estimate in zip(sizes, estimates, strict=True):
                done = bar.n
                try:
                    rates = self._size(size, rates, estimate / self._num_runs, bar)
                except _OverBudgetError:
                    left.append(size.label)
                bar.update(done + estimate - bar.n)
        return {
            "points": str(self.points),
            "estimated_minutes": sum(estimates) / 60,
            "minutes": (time.monotonic() - started) / 60,
            "left_out": left,
        }

    def _size(self, size: Size, rates: Rates, seconds: float, bar: "tqdm[Never]") -> Rates:
        """The best learning rates of a size, and its points at these.

        Raises:
            _OverBudgetError: A run that the journal does not have would go beyond the budget.
        """
        limit = bar.n + seconds * self._num_runs

        def outcome(rates: Rates, seed: int) -> Outcome:
            nonlocal seconds
            key = self.runs.key_of(size, rates, seed)
            if key in self.outcomes:
                return self.outcomes[key]
            if time.monotonic() + seconds > self.ends:
                raise _OverBudgetError
            bar.set_postfix_str(f"{size.label}, {rates}, seed {seed}")
            found = self.outcomes[key] = self.runs.train(size, rates, seed)
            self._journal.add(key, dataclasses.asdict(found))
            bar.update(min(seconds, max(0.0, limit - bar.n)))
            # A whole run is a better estimate than a few timed steps.
            seconds = found.seconds if math.isfinite(found.valid_ne) else seconds
            return found

        def loss_of(rates: Rates) -> float:
            reached = outcome(rates, 0).valid_ne
            return reached if math.isfinite(reached) else math.inf

        best = tuned(rates, loss_of, most=MOST_RATES)
        for seed in range(self.seeds):
            found = outcome(best, seed)
            if math.isfinite(found.test_ne):
                point = self.runs.point(size, found)
                append_points(self.points, [point] if point not in self._known_points else [])
        return best

    def _estimate(self, size: Size) -> float:
        """Seconds that a size will take, from a few of its own steps; 0 when it is done."""
        last = self.seeds - 1
        judged = {point.key for point in self._known_points}
        for one in self.outcomes.values():
            rates = Rates(dense=one.learning_rate, tables=one.tables_learning_rate)
            key = self.runs.key_of(size, rates, last)
            # With one seed the search has run it too; its point says that the size is done.
            if key in self.outcomes and (last or key in judged):
                return 0.0
        return self._num_runs * self.runs.estimate_seconds(size)

    def _log_estimates(self, sizes: Sequence[Size], estimates: Sequence[float]) -> None:
        for size, seconds in zip(sizes, estimates, strict=True):
            needed = f"{seconds / 60:.1f} minutes" if seconds else "done"
            logger.info("%s %s: %s", size.axis, size.label, needed)
        total, budget = sum(estimates) / 60, self.budget_seconds / 60
        logger.info("estimated: %.1f minutes; the budget is %.1f", total, budget)
        if total > budget:
            logger.warning("the largest sizes will be left out; the same command goes on with them")

    def _points_of_setting(self) -> list[Point]:
        """The points that belong to this code, schema and days; others leave the file.

        They were judged on other rows, and would bend the curves; the journal still has their runs.
        """
        points = read_points(self.points) if self.points.exists() else []
        kept = [point for point in points if point.key in self.outcomes]
        if len(kept) < len(points):
            logger.warning(
                "%s: %d points of other code, schema or days leave the study",
                *(self.points, len(points) - len(kept)),
            )
            self.points.unlink()
            append_points(self.points, kept)
        return kept
