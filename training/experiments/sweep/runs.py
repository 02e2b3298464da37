"""The runs of a sweep: each trains one size of one data set, and is judged on its last days.

A run is one pass over the training days in order of time: warm-up, stable, decay.
"""

import dataclasses
import datetime
import itertools
import logging
import math
import time

import numpy as np
import pyarrow as pa

from features.encoding.encode import Ids, ModelInputs
from training.config.model import WukongConfig
from training.config.recipe import Recipe
from training.data.dataset import ExampleTable, user_groups
from training.data.examples import Examples
from training.distributed.divergence import DivergedError
from training.experiments.journal import hash_of
from training.experiments.one_pass import DECAY, START, WARM_UP, Days, OnePass, Rates, setting_of
from training.experiments.scaling.points import Point
from training.experiments.sweep.sizes import Size
from training.metrics import Metrics, evaluate
from training.model.flops import cost_of
from training.model.inputs import Inputs, inputs_of
from training.recipes import recipe_of
from training.registry.mlflow_registry import Registry
from training.trainer.loop import take_steps
from training.trainer.schedule import falling, rising

logger = logging.getLogger(__name__)

_TIMED_STEPS = 6
_SMALL_TABLE = 64
"""Rows that a table keeps at the least."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """One finished run, as the journal has it."""

    key: str
    axis: str
    model: str
    label: str
    learning_rate: float
    """Of the dense part."""
    tables_learning_rate: float
    seed: int
    valid_ne: float
    test_ne: float
    test_log_loss: float
    examples: int
    seconds: float
    setting: str = ""
    """Hash of the code, the schema and the days: points are of one curve under one setting only."""


class HashedTable(ExampleTable):
    """The same examples with fewer rows in each embedding table; ids beyond them share rows."""

    def __init__(self, table: ExampleTable, inputs: Inputs, rows_share: float) -> None:
        # The same table, with what it knows of its files.
        vars(self).update(vars(table))
        sparse = tuple(
            dataclasses.replace(one, num_rows=capped(one.num_rows, rows_share))
            for one in inputs.sparse
        )
        self.inputs = dataclasses.replace(inputs, sparse=sparse)

    def encode(self, rows: pa.Table) -> Examples:
        """Examples of raw columns of this table."""
        examples = super().encode(rows)
        return dataclasses.replace(examples, inputs=self.hashed(examples.inputs))

    def hashed(self, inputs: ModelInputs) -> ModelInputs:
        """Ids in the rows that there are; row 0 stays missing or unknown."""
        found = {}
        for sparse in self.inputs.sparse:
            ids = inputs.ids[sparse.name]
            rows = np.where(ids.values > 0, 1 + (ids.values - 1) % (sparse.num_rows - 1), 0)
            found[sparse.name] = Ids(rows, ids.lengths)
        return ModelInputs(inputs.dense, found)


def capped(num_rows: int, share: float) -> int:
    """Rows of a table at a share of its own."""
    return max(min(num_rows, _SMALL_TABLE), round(num_rows * share))


class Runs:
    """The runs of one data set, each an MLflow run; ``last`` is the last day to use, if any."""

    def __init__(
        self,
        table: ExampleTable,
        registry: Registry,
        *,
        last: datetime.date | None,
        batch_size: int,
    ) -> None:
        self.table = table
        days = [day for day in table.days(last=last or datetime.date.max) if table.num_rows([day])]
        self.days = Days.of(days)
        self.valid, self.test = table.read(self.days.valid), table.read(self.days.test)
        self.inputs = inputs_of(table.schema)
        self.log = OnePass(table, self.days.train, batch_size)
        self.num_steps = self.log.num_steps()
        self.registry = registry
        self.setting = setting_of(table, days, "training.experiments.sweep.sweep")

    def train(self, size: Size, rates: Rates, seed: int) -> Outcome:
        """One run, judged on the days behind its own; of one that diverges the losses are NaN."""
        key, started = self.key_of(size, rates, seed), time.monotonic()
        parameters = {"axis": size.axis, "size": size.label, "seed": seed}
        parameters |= {"learning_rate": rates.dense, "tables_learning_rate": rates.tables}
        run = self.registry.start_run(self.days.test[-1], {**parameters, "key": key})
        valid = test = None
        examples = 0
        try:
            valid, test, examples = self._trained(size, rates, seed)
        except DivergedError as error:
            logger.warning("%s, %s, seed %d: %s", size.label, rates, seed, error)
        valid_ne, metrics = valid.ne if valid else math.nan, test.to_dict() if test else {}
        tags = {"valid_ne": str(valid_ne)}
        self.registry.finish_run(run, metrics=metrics, tags=tags, curve=[], succeeded=bool(test))
        return Outcome(
            key=key,
            axis=size.axis,
            model=size.recipe.model.interaction.kind,
            label=size.label,
            learning_rate=rates.dense,
            tables_learning_rate=rates.tables,
            seed=seed,
            valid_ne=valid_ne,
            test_ne=test.ne if test else math.nan,
            test_log_loss=test.log_loss if test else math.nan,
            examples=examples,
            seconds=time.monotonic() - started,
            setting=self.setting,
        )

    def _trained(self, size: Size, rates: Rates, seed: int) -> tuple[Metrics, Metrics, int]:
        """What a run reaches on the days of validation and the last ones, and its examples."""
        table, steps = self.table_of(size), self.steps_of(size)
        session = self.log.session(table.inputs, self.log.recipe(size.recipe, rates, seed=seed))
        warm_up, decay = math.ceil(WARM_UP * steps), math.ceil(DECAY * steps)
        sizes: list[int] = []

        def judged(part: Examples) -> Metrics:
            scores = session.predict(table.hashed(part.inputs))
            return evaluate(scores, part.label, user_groups(part, table.schema))

        take_steps(
            session,
            itertools.islice(dataclasses.replace(self.log, table=table).batches(seed), steps),
            schedule=lambda n: rising(n, warm_up=warm_up) * falling(n, steps, decay=decay),
            after_step=lambda _, step: sizes.append(len(step.batch.label)),
        )
        return judged(self.valid), judged(self.test), sum(sizes)

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
            tables_learning_rate=outcome.tables_learning_rate,
            recipe=_known(recipe),
            key=outcome.key,
        )

    def estimate_seconds(self, size: Size) -> float:
        """How long one run takes, from a few of its own steps."""
        table = self.table_of(size)
        session = self.log.session(table.inputs, self.log.recipe(size.recipe, START, seed=0))
        stream = dataclasses.replace(self.log, table=table).batches(seed=0)
        take_steps(session, itertools.islice(stream, 1))
        started = time.monotonic()
        steps = take_steps(session, itertools.islice(stream, _TIMED_STEPS))
        step = (time.monotonic() - started) / max(1, steps)
        # A forward pass is a third of a step.
        judged = (len(self.valid) + len(self.test)) / self.log.batch_size / 3
        return step * (self.steps_of(size) + judged)

    def steps_of(self, size: Size) -> int:
        """Steps of one run."""
        return max(1, round(self.num_steps * size.data_share))

    def table_of(self, size: Size) -> HashedTable:
        """The examples with as many rows of each table as a size has."""
        return HashedTable(self.table, self.inputs, size.rows_share)

    def key_of(self, size: Size, rates: Rates, seed: int) -> str:
        """The key of a run in the journal."""
        recipe = self.log.recipe(size.recipe, rates, seed=seed)
        return hash_of(
            {
                "setting": self.setting,
                "recipe": dataclasses.replace(recipe, name="").to_dict(),
                "shares": (size.data_share, size.rows_share),
            }
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
        stack = size.recipe.model.interaction
        if size.axis == "depth" and isinstance(stack, WukongConfig):
            return float(len(stack.layers)), "layers"
        return float(flops), "dense FLOPs per example"


def _known(recipe: Recipe) -> str | None:
    try:
        return recipe_of(recipe.name).name
    except ValueError:
        return None
