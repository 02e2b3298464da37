"""Runs the points of a scaling law: one resource at a time, every size with its own learning rate.

A run is one pass over the training days in order of time, with weights averaged at its end. The
days behind them choose the learning rate of a size, the last days judge it; all sizes are judged on
the same rows. Every finished run is a line of a journal, found by the hash of the code and of its
configuration, so that a killed sweep goes on and never does a run twice.
"""

import dataclasses
import datetime
import itertools
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from training.config.recipe import Recipe
from training.data.batch import Batch
from training.data.dataset import ExampleTable, batches, num_batches, user_groups
from training.data.day_split import Days
from training.experiments.scaling.points import Point, append_points, read_points
from training.experiments.sweep.hashed_table import HashedTable, capped
from training.experiments.sweep.journal import Journal, Outcome, code_hash, hash_of
from training.experiments.sweep.sizes import Size
from training.metrics import evaluate
from training.model.flops import cost_of
from training.model.inputs import inputs_of
from training.recipes import recipe_of
from training.registry.mlflow_registry import Registry
from training.trainer.ema import WeightAverage
from training.trainer.loop import first_rows
from training.trainer.session import Session

logger = logging.getLogger(__name__)

LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Of the dense part; each size has the best of them, searched from the last size's outwards."""
_FIRST_RATE = 2
_AVERAGE_DECAY = 0.98
_WARM_UP_STEPS = 50
_WARM_UP_SHARE = 0.1
"""The learning rate rises over these steps, or over this share of a short run."""
_SHUFFLE_ROWS = 65_536
_TIMED_STEPS = 6
_BAR = "{desc} {percentage:3.0f}% |{bar}| {elapsed} of about {remaining} more{postfix}"


class Sweep:
    """The runs of one data set.

    Args:
        table: The examples.
        folder: For the journal and the points.
        registry: Where every run is an MLflow run.
        last: Last day to use; None: the newest.
        batch_size: Of all runs.
        seeds: Runs of each size, at its learning rate.
        budget_seconds: Of this call; no run is begun that would go beyond it.
    """

    def __init__(
        self,
        table: ExampleTable,
        folder: Path,
        registry: Registry,
        *,
        last: datetime.date | None = None,
        batch_size: int,
        seeds: int,
        budget_seconds: float,
    ) -> None:
        self.table = table
        days = table.days(datetime.date.min, last or datetime.date.max)
        self.days = Days.of([day for day in days if table.num_rows([day])])
        self.examples = {"valid": table.read(self.days.valid), "test": table.read(self.days.test)}
        self.inputs = inputs_of(table.schema)
        self.num_steps = num_batches(
            table, self.days.train, batch_size=batch_size, shuffle_rows=_SHUFFLE_ROWS
        )
        self.points = folder / f"{table.schema.name}.jsonl"
        self._journal = Journal(folder / f"{table.schema.name}-runs.jsonl")
        self.registry = registry
        self.batch_size = batch_size
        self.seeds = seeds
        self.ends = time.monotonic() + budget_seconds
        self.budget_seconds = budget_seconds
        self._setting = self._hash_of_setting()
        self.outcomes = {outcome.key: outcome for outcome in self._journal.outcomes()}
        self._known_points = self._points_of_setting()

    def run(self, sizes: Sequence[Size]) -> dict[str, Any]:
        """All runs of some sizes that are not done, the smallest size first.

        Returns:
            What was done, what it cost against the estimate, and what the budget left out.

        Raises:
            ValueError: The data are too few for so many sizes.
        """
        different = {(size.recipe, size.rows_share, self._num_steps(size)) for size in sizes}
        if len(different) < len(sizes):
            raise ValueError(
                f"axis {sizes[0].axis}: {self.num_steps} steps of {self.batch_size} examples; too "
                f"few for {len(sizes)} sizes; take a smaller --batch-size"
            )
        estimates = [self._estimate(size) for size in sizes]
        self._tell(sizes, estimates)
        started, rate, left = time.monotonic(), _FIRST_RATE, []
        with tqdm(total=sum(estimates), desc=sizes[0].axis, bar_format=_BAR, smoothing=0) as bar:
            for size, estimate in zip(sizes, estimates, strict=True):
                done = bar.n
                rate, is_whole = self._size(size, rate, estimate / self._num_runs, bar)
                bar.update(done + estimate - bar.n)
                if not is_whole:
                    left.append(size.label)
        return {
            "points": str(self.points),
            "estimated_minutes": sum(estimates) / 60,
            "minutes": (time.monotonic() - started) / 60,
            "left_out": left,
        }

    @property
    def _num_runs(self) -> int:
        """Of a size, usually: its learning rate's neighbours, and the other seeds."""
        return 3 + self.seeds - 1

    def _size(self, size: Size, rate: int, seconds: float, bar: "tqdm[Any]") -> tuple[int, bool]:
        """The learning rate of a size, then its seeds; the rate, and whether all was done."""
        tried: dict[int, float] = {}
        share, limit = seconds, bar.n + seconds * self._num_runs
        wanted = [place for place in (rate, rate - 1, rate + 1) if self._is_rate(place)]
        while wanted:
            place = wanted.pop(0)
            outcome = self._outcome(size, LEARNING_RATES[place], 0, seconds, bar)
            if outcome is None:
                return rate, False
            tried[place] = outcome.valid_ne
            # Its own first run tells better than a few timed steps.
            seconds = outcome.seconds
            bar.update(min(share, limit - bar.n))
            best = best_rate(tried)
            wanted += [
                near
                for near in (best - 1, best + 1)
                if self._is_rate(near) and near not in tried and near not in wanted
            ]
        best = best_rate(tried)
        outcomes = [
            self._outcome(size, LEARNING_RATES[best], seed, seconds, bar)
            for seed in range(self.seeds)
        ]
        points = [self._point(size, one) for one in outcomes if one]
        append_points(self.points, [point for point in points if point not in self._known_points])
        return best, all(outcomes)

    @staticmethod
    def _is_rate(place: int) -> bool:
        return 0 <= place < len(LEARNING_RATES)

    def _outcome(
        self, size: Size, rate: float, seed: int, seconds: float, bar: "tqdm[Any]"
    ) -> Outcome | None:
        """A run, or what the journal has of it; None when it would go beyond the budget."""
        key = self._key(size, rate, seed)
        if key in self.outcomes:
            return self.outcomes[key]
        if time.monotonic() + seconds > self.ends:
            return None
        bar.set_postfix_str(f"{size.label}, learning rate {rate:g}, seed {seed}")
        outcome = self._trained(size, rate, seed, key)
        self.outcomes[key] = outcome
        self._journal.add(outcome)
        return outcome

    def _trained(self, size: Size, rate: float, seed: int, key: str) -> Outcome:
        started = time.monotonic()
        recipe, table = self._recipe(size, rate, seed), self._table(size)
        parameters = {"axis": size.axis, "size": size.label, "seed": seed, "learning_rate": rate}
        run = self.registry.start_run(self.days.test[-1], {**parameters, "key": key})
        session = self._session(recipe, table)
        average = WeightAverage(
            [value for _, value in session.local_tensors() if value.is_floating_point()],
            _AVERAGE_DECAY,
        )
        steps = self._num_steps(size)
        warm_up = min(_WARM_UP_STEPS, math.ceil(_WARM_UP_SHARE * steps))
        examples = 0
        stream = itertools.islice(self._batches(table, seed), steps)
        for step, batch in enumerate(stream, start=1):
            session.step(batch, learning_rate_share=min(1.0, step / warm_up))
            average.update()
            examples += len(batch.label)
        with average.in_place():
            valid, test = (
                evaluate(
                    session.predict(table.hashed(part.inputs)),
                    part.label,
                    user_groups(part, self.table.schema),
                )
                for part in (self.examples["valid"], self.examples["test"])
            )
        self.registry.finish_run(
            run, metrics=test.to_dict(), tags={"valid_ne": str(valid.ne)}, curve=[], succeeded=True
        )
        return Outcome(
            key=key,
            **parameters_of(size),
            learning_rate=rate,
            seed=seed,
            valid_ne=valid.ne,
            test_ne=test.ne,
            test_log_loss=test.log_loss,
            examples=examples,
            seconds=time.monotonic() - started,
            setting=self._setting,
        )

    def _point(self, size: Size, outcome: Outcome) -> Point:
        recipe = size.recipe
        flops = cost_of(self._table(size).inputs, recipe.model).training_flops
        x, unit = self._resource(size, flops, outcome.examples)
        return Point(
            axis=size.axis,
            model=recipe.model.interaction.kind,
            x=x,
            unit=unit,
            ne=outcome.test_ne,
            log_loss=outcome.test_log_loss,
            seed=outcome.seed,
            dense_flops_per_example=flops,
            training_flops=float(flops) * outcome.examples,
            examples=outcome.examples,
            learning_rate=outcome.learning_rate,
            recipe=_known(recipe),
            key=outcome.key,
        )

    def _resource(self, size: Size, flops: int, examples: int) -> tuple[float, str]:
        """How much of its axis's resource a size has, and the unit."""
        if size.axis == "data":
            return float(examples), "examples"
        if size.axis == "rows":
            largest = max(self.inputs.sparse, key=lambda sparse: sparse.num_rows)
            return float(capped(largest.num_rows, size.rows_share)), "rows of the largest table"
        if size.axis == "dim":
            return float(size.recipe.model.embedding_dim), "dimensions"
        return float(flops), "dense FLOPs per example"

    def _estimate(self, size: Size) -> float:
        """Seconds that a size will take, from a few of its own steps; 0 when it is done."""
        keys = (
            self._key(size, rate, seed) for rate in LEARNING_RATES for seed in (self.seeds - 1,)
        )
        if any(key in self.outcomes for key in keys):
            return 0.0
        table = self._table(size)
        session = self._session(self._recipe(size, 1e-3, 0), table)
        stream = self._batches(table, seed=0)
        session.step(next(stream), learning_rate_share=1.0)
        started = time.monotonic()
        steps = 0
        for batch, _ in zip(stream, range(_TIMED_STEPS), strict=False):
            session.step(batch, learning_rate_share=1.0)
            steps += 1
        step = (time.monotonic() - started) / max(1, steps)
        # A forward pass is a third of a step.
        judged = sum(len(part) for part in self.examples.values()) / self.batch_size / 3
        return self._num_runs * step * (self._num_steps(size) + judged)

    def _tell(self, sizes: Sequence[Size], estimates: Sequence[float]) -> None:
        for size, seconds in zip(sizes, estimates, strict=True):
            told = f"{seconds / 60:.1f} minutes" if seconds else "done"
            logger.info("%s %s: %s", size.axis, size.label, told)
        total, budget = sum(estimates) / 60, self.budget_seconds / 60
        logger.info("estimated: %.1f minutes; the budget is %.1f", total, budget)
        if total > budget:
            logger.warning("the largest sizes will be left out; the same command goes on with them")

    def _num_steps(self, size: Size) -> int:
        return max(1, round(self.num_steps * size.data_share))

    def _table(self, size: Size) -> HashedTable:
        return HashedTable(self.table, self.inputs, size.rows_share)

    def _session(self, recipe: Recipe, table: HashedTable) -> Session:
        return Session(table.inputs, recipe, first_rows(self.table, self.days.train))

    def _recipe(self, size: Size, rate: float, seed: int) -> Recipe:
        training = dataclasses.replace(
            size.recipe.training, batch_size=self.batch_size, dense_learning_rate=rate, seed=seed
        )
        # Nothing is learnt by heart in one pass.
        model = dataclasses.replace(size.recipe.model, dropout=0.0)
        return dataclasses.replace(size.recipe, model=model, training=training)

    def _batches(self, table: HashedTable, seed: int) -> Iterator[Batch]:
        return batches(
            *(table, self.days.train),
            batch_size=self.batch_size,
            shuffle_rows=_SHUFFLE_ROWS,
            seed=seed,
        )

    def _key(self, size: Size, rate: float, seed: int) -> str:
        recipe = self._recipe(size, rate, seed)
        content = {
            "setting": self._setting,
            "recipe": dataclasses.replace(recipe, name="").to_dict(),
            "shares": (size.data_share, size.rows_share),
        }
        return hash_of(content)

    def _hash_of_setting(self) -> str:
        days = [*self.days.train, *self.days.valid, *self.days.test]
        content = {
            "code": code_hash(),
            "schema": self.table.schema.fingerprint(),
            "partitions": self.table.content_hashes(days),
        }
        return hash_of(content)

    def _points_of_setting(self) -> list[Point]:
        """The points that belong to this code, schema and days; others leave the file.

        They were judged on other rows, and would bend the curves; the journal still has their runs.
        """
        points = read_points(self.points) if self.points.exists() else []
        current = {one.key for one in self.outcomes.values() if one.setting == self._setting}
        kept = [point for point in points if point.key in current]
        if len(kept) < len(points):
            logger.warning(
                "%s: %d points of other code, schema or days leave the study",
                *(self.points, len(points) - len(kept)),
            )
            self.points.unlink()
            append_points(self.points, kept)
        return kept


def _known(recipe: Recipe) -> str | None:
    try:
        return recipe_of(recipe.name).name
    except ValueError:
        return None


def parameters_of(size: Size) -> dict[str, str]:
    """What names a size in the journal."""
    return {"axis": size.axis, "model": size.recipe.model.interaction.kind, "label": size.label}


def best_rate(tried: Mapping[int, float]) -> int:
    """The place with the lowest loss; a run that diverged has none, and loses to any that has."""
    return min(tried, key=lambda place: tried[place] if math.isfinite(tried[place]) else math.inf)
