"""The runs of a sweep: each trains one size of one data set, and is judged on its last days.

A run is one pass over the training days in order of time, with weights averaged at its end.
"""

import dataclasses
import datetime
import itertools
import math
import time
from collections.abc import Iterator

from training.config.recipe import Recipe
from training.data.batch import Batch
from training.data.dataset import ExampleTable, batches, num_batches, user_groups
from training.data.day_split import Days
from training.experiments.scaling.points import Point
from training.experiments.sweep.hashed_table import HashedTable, capped
from training.experiments.sweep.journal import Outcome, code_hash, hash_of
from training.experiments.sweep.sizes import Size
from training.metrics import evaluate
from training.model.flops import cost_of
from training.model.inputs import inputs_of
from training.recipes import recipe_of
from training.registry.mlflow_registry import Registry
from training.trainer.ema import WeightAverage
from training.trainer.loop import first_rows
from training.trainer.session import Session

_AVERAGE_DECAY = 0.98
_WARM_UP_STEPS = 50
_WARM_UP_SHARE = 0.1
"""The learning rate rises over these steps, or over this share of a short run."""
_SHUFFLE_ROWS = 65_536
_TIMED_STEPS = 6


class Runs:
    """The runs of one data set.

    Args:
        table: The examples.
        registry: Where every run is an MLflow run.
        last: Last day to use; None: the newest.
        batch_size: Of all runs.
    """

    def __init__(
        self,
        table: ExampleTable,
        registry: Registry,
        *,
        last: datetime.date | None,
        batch_size: int,
    ) -> None:
        self.table = table
        days = table.days(datetime.date.min, last or datetime.date.max)
        self.days = Days.of([day for day in days if table.num_rows([day])])
        self.examples = {"valid": table.read(self.days.valid), "test": table.read(self.days.test)}
        self.inputs = inputs_of(table.schema)
        self.num_steps = num_batches(
            table, self.days.train, batch_size=batch_size, shuffle_rows=_SHUFFLE_ROWS
        )
        self.registry = registry
        self.batch_size = batch_size
        self.setting = self._hash_of_setting()

    def train(self, size: Size, rate: float, seed: int) -> Outcome:
        """One run: a pass over the training days, judged on the days behind them."""
        key = self.key_of(size, rate, seed)
        started = time.monotonic()
        recipe, table = self._recipe(size, rate, seed), self.table_of(size)
        parameters = {"axis": size.axis, "size": size.label, "seed": seed, "learning_rate": rate}
        run = self.registry.start_run(self.days.test[-1], {**parameters, "key": key})
        session = self._session(recipe, table)
        average = WeightAverage(
            [value for _, value in session.local_tensors() if value.is_floating_point()],
            _AVERAGE_DECAY,
        )
        steps = self.steps_of(size)
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
            setting=self.setting,
        )

    def point(self, size: Size, outcome: Outcome) -> Point:
        """The point of a run for the law."""
        recipe = size.recipe
        flops = cost_of(self.table_of(size).inputs, recipe.model).training_flops
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

    def estimate_seconds(self, size: Size) -> float:
        """How long one run takes, from a few of its own steps."""
        table = self.table_of(size)
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
        return step * (self.steps_of(size) + judged)

    def steps_of(self, size: Size) -> int:
        """Steps of one run."""
        return max(1, round(self.num_steps * size.data_share))

    def table_of(self, size: Size) -> HashedTable:
        """The examples with as many rows of each table as a size has."""
        return HashedTable(self.table, self.inputs, size.rows_share)

    def key_of(self, size: Size, rate: float, seed: int) -> str:
        """The key of a run in the journal."""
        recipe = self._recipe(size, rate, seed)
        content = {
            "setting": self.setting,
            "recipe": dataclasses.replace(recipe, name="").to_dict(),
            "shares": (size.data_share, size.rows_share),
        }
        return hash_of(content)

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

    def _session(self, recipe: Recipe, table: HashedTable) -> Session:
        return Session(table.inputs, recipe, first_rows(self.table, self.days.train))

    def _recipe(self, size: Size, rate: float, seed: int) -> Recipe:
        training = dataclasses.replace(
            size.recipe.training, batch_size=self.batch_size, dense_learning_rate=rate, seed=seed
        )
        # One pass does not overfit, so there is no dropout.
        model = dataclasses.replace(size.recipe.model, dropout=0.0)
        return dataclasses.replace(size.recipe, model=model, training=training)

    def _batches(self, table: HashedTable, seed: int) -> Iterator[Batch]:
        return batches(
            *(table, self.days.train),
            batch_size=self.batch_size,
            shuffle_rows=_SHUFFLE_ROWS,
            seed=seed,
        )

    def _hash_of_setting(self) -> str:
        days = [*self.days.train, *self.days.valid, *self.days.test]
        content = {
            "code": code_hash(),
            "schema": self.table.schema.fingerprint(),
            "partitions": self.table.content_hashes(days),
        }
        return hash_of(content)


def _known(recipe: Recipe) -> str | None:
    try:
        return recipe_of(recipe.name).name
    except ValueError:
        return None


def parameters_of(size: Size) -> dict[str, str]:
    """What names a size in the journal."""
    return {"axis": size.axis, "model": size.recipe.model.interaction.kind, "label": size.label}
