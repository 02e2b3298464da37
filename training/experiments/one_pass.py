"""One pass over a log in order of time: how growth and scaling laws compare rankers.

Every ranker sees the same batches, without dropout, for one pass does not overfit. Its learning
rates rise, stay, and fall to zero over its last steps; those of the tables and of the dense part
are searched for each size, because the tables' has the largest effect of all.
"""

import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from features.places import Place
from training.checkpoint.catalog import Checkpoint, CheckpointManifest
from training.checkpoint.tensors import save, training_state
from training.config.recipe import Recipe
from training.data.batch import Batch
from training.data.batches import batches, num_batches
from training.data.dataset import ExampleTable
from training.experiments.journal import code_hash, hash_of
from training.model.inputs import Inputs
from training.trainer.first_rows import first_rows
from training.trainer.session import Session

WARM_UP, DECAY = 0.03, 0.15
"""Shares of a run's steps over which the learning rates rise, and fall to zero."""
FACTOR = 2.0
"""Between neighbouring learning rates of a search."""
_EXPONENTS = range(-9, 10)
"""Of ``FACTOR``, in a search, which begins with 0."""
_SHUFFLE_ROWS = 65_536


@dataclasses.dataclass(frozen=True)
class Days:
    """Days to train on, to choose learning rates on, and to judge on, in this order in time."""

    train: Sequence[datetime.date]
    valid: Sequence[datetime.date]
    test: Sequence[datetime.date]

    @classmethod
    def of(cls, days: Sequence[datetime.date]) -> "Days":
        """The last eighth judges, the eighth before chooses.

        Raises:
            ValueError: There are too few days.
        """
        eighth = max(1, len(days) // 8)
        if len(days) < 3:
            raise ValueError(f"days with examples: {len(days)}; at least 3")
        return cls(days[: -2 * eighth], days[-2 * eighth : -eighth], days[-eighth:])


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates of a size."""

    dense: float
    tables: float

    def times(self, field: str, exponent: int) -> "Rates":
        """With one of them so many steps of a search higher."""
        return dataclasses.replace(self, **{field: getattr(self, field) * FACTOR**exponent})


START = Rates(dense=3e-3, tables=0.25)
"""Where a search begins."""


@dataclasses.dataclass(frozen=True)
class OnePass:
    """The pass over some days of a table."""

    table: ExampleTable
    days: Sequence[datetime.date]
    batch_size: int

    def num_steps(self) -> int:
        """Batches of the pass."""
        return num_batches(
            self.table, self.days, batch_size=self.batch_size, shuffle_rows=_SHUFFLE_ROWS
        )

    def batches(self, seed: int, *, skip: int = 0) -> Iterator[Batch]:
        """The pass, shuffled within buffers, from a batch on."""
        return batches(
            *(self.table, self.days),
            batch_size=self.batch_size,
            shuffle_rows=_SHUFFLE_ROWS,
            seed=seed,
            skip=skip,
        )

    def recipe(self, recipe: Recipe, rates: Rates, *, seed: int) -> Recipe:
        """A recipe with the learning rates and the seed of one run, without dropout."""
        model = dataclasses.replace(recipe.model, dropout=0.0)
        return dataclasses.replace(recipe, model=model).with_training(
            batch_size=self.batch_size,
            dense_learning_rate=rates.dense,
            sparse_learning_rate=rates.tables,
            seed=seed,
        )

    def session(self, inputs: Inputs, recipe: Recipe) -> Session:
        """A fresh ranker."""
        return Session(inputs, recipe, first_rows(self.table, self.days))


def setting_of(table: ExampleTable, days: Sequence[datetime.date], module: str) -> str:
    """Hash of the code behind a module, the schema and the days: what a bench's runs share."""
    return hash_of(
        {
            "code": code_hash(module),
            "schema": table.schema.fingerprint(),
            "partitions": table.content_hashes(days),
        }
    )


def tuned(first: Rates, loss_of: Callable[[Rates], float], *, most: int) -> Rates:
    """The best rate of the tables and of the dense part, each between two worse ones.

    One after the other, and again for as long as either moves: each is best at the other's best.

    Args:
        first: Where the search begins.
        loss_of: The loss on the days that choose; infinite where training diverged.
        most: Rates of either to try at most, each time.
    """
    loss_of, chosen, before = functools.cache(loss_of), first, None
    while chosen != before:
        before = chosen
        for field in ("tables", "dense"):
            losses: dict[int, float] = {}
            while (n := next_to_try(losses, most=most)) is not None:
                losses[n] = loss_of(chosen.times(field, n))
            chosen = chosen.times(field, min(losses, key=lambda n: losses[n]))
    return chosen


def next_to_try(losses: Mapping[int, float], *, most: int) -> int | None:
    """The exponent of the next rate to try, so that the best has a worse neighbour on both sides.

    Args:
        losses: By exponent, those that were tried; infinite where training diverged.
        most: Rates to try at most.

    Returns:
        None: the best has them, or ends the series, or enough were tried.
    """
    if not losses:
        return 0
    best = min(losses, key=lambda number: losses[number])
    near = [n for n in (best + 1, best - 1) if n in _EXPONENTS and n not in losses]
    return near[0] if near and len(losses) < most else None


def saved(session: Session, root: Place, table: ExampleTable) -> Checkpoint:
    """A checkpoint of a session as it is."""
    values: dict[str, Any] = {field.name: "" for field in dataclasses.fields(CheckpointManifest)}
    values |= {"recipe": session.recipe.to_dict(), "family": [], "run_day": "parent"}
    values |= {"trained_through": str(table.days()[0]), "steps": session.steps}
    state = training_state(session.model, session.optimizer)
    return save(root, state, CheckpointManifest(**values), "parent")
