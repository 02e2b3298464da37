"""The rankers of a comparison in training: warm-up, stable, decay, on one pass over a log.

A run goes along its stable phase. For each budget a copy of it decays, is judged at its end, and is
put away, so that every budget has a decay of its own and one stable phase serves them all. What
grows does so in the stable phase and goes on at rates of its own, without a warm-up. Saving,
growing with its proof, and loading are the product's own.
"""

import dataclasses
import itertools
import logging
import tempfile
from collections.abc import Sequence

import numpy as np

from features.places import Place, place
from training.checkpoint.catalog import Checkpoint
from training.checkpoint.tensors import load_training_state
from training.config.recipe import Recipe, recipe_from_dict
from training.data.dataset import ExampleTable
from training.data.examples import Examples
from training.experiments.growth.ratios import Arm, Point
from training.experiments.one_pass import DECAY, WARM_UP, Days, OnePass, Rates, saved
from training.metrics import log_losses
from training.model.flops import cost_of
from training.model.grown_config import Operator
from training.model.inputs import inputs_of
from training.trainer.loop import take_steps
from training.trainer.schedule import falling, rising
from training.trainer.session import Session
from training.upscale.upscale import upscale

logger = logging.getLogger(__name__)

JUDGED_ROWS = 40_000
"""Rows that an evaluation scores, spread evenly over its days; all where there are fewer."""


class Log:
    """One pass over a log, and the rankers that make it: a small one, which grows to a large."""

    def __init__(
        self,
        table: ExampleTable,
        small: Recipe,
        large: Recipe,
        *,
        batch_size: int,
        operator: Operator,
    ) -> None:
        self.table, self.operator = table, operator
        self.inputs = inputs_of(table.schema)
        days = Days.of(table.days())
        self.one_pass = OnePass(table, days.train, batch_size)
        self.recipes = {"small": small, "large": large}
        self.flops = {
            size: cost_of(self.inputs, recipe.model).training_flops * batch_size
            for size, recipe in self.recipes.items()
        }
        """Of a step."""
        self.num_steps = self.one_pass.num_steps()
        self.day_steps = max(1, self.num_steps // len(days.train))
        self.examples = {
            part: _thinned(table.read(getattr(days, part))) for part in ("valid", "test")
        }
        self.rates: dict[str, Rates] = {}
        """Of ``small`` and ``large`` from their starts, and of what has ``grown``."""

    def run(
        self,
        size: str,
        ends: Sequence[int],
        *,
        seed: int,
        grow_at: int | None = None,
        part: str = "test",
        has_days: bool = False,
    ) -> Arm:
        """Train one ranker to several budgets.

        Args:
            size: ``small`` or ``large``, at its start.
            ends: Steps of the budgets, rising; a decay begins after that of the one before.
            seed: Of weights and of the order of rows.
            grow_at: Steps after which it grows, before any decay; None: it does not.
            part: Days that judge.
            has_days: Whether to judge it after each day too, up to the last budget's decay.
        """
        points, moved, warm_up = [], 0.0, round(WARM_UP * ends[0])
        recipe = self.one_pass.recipe(self.recipes[size], self.rates[size], seed=seed)
        session = self.one_pass.session(self.inputs, recipe)
        with tempfile.TemporaryDirectory() as folder:
            trunk = _Trunk(self, session, place(folder), seed, part, has_days, warm_up)
            if grow_at:
                trunk.go_on(grow_at)
                trunk.days.clear()
                trunk.session, moved = self._grown(trunk.session, seed)
            for end in ends:
                trunk.go_on(end - round(DECAY * end))
                loss = trunk.decayed(end)
                spent = self.flops[size] * (grow_at or end)
                spent += self.flops["large"] * (end - grow_at) if grow_at else 0
                points.append(Point(end, float(spent), loss))
                logger.info("%s, seed %d, %d steps: log loss %.5f", size, seed, end, loss)
        return Arm(points, trunk.days, moved)

    def judge(self, session: Session, part: str) -> float:
        """The log loss on the days that judge."""
        examples = self.examples[part]
        return float(log_losses(session.predict(examples.inputs), examples.label).mean())

    def _grown(self, session: Session, seed: int) -> tuple[Session, float]:
        """The large ranker with what the small one has learnt, and how far its logits moved."""
        target = self.one_pass.recipe(self.recipes["large"], self.rates["grown"], seed=seed)
        table = self.table
        with tempfile.TemporaryDirectory() as folder:
            root = place(folder)
            source = saved(session, root, table)
            summary = upscale(table.schema, source, target, table, root, operator=self.operator)
            grown = Checkpoint.at(place(summary["checkpoint"]))
            model = recipe_from_dict(grown.manifest.recipe).model
            larger = self.one_pass.session(self.inputs, dataclasses.replace(target, model=model))
            load_training_state(grown.tensors, larger.model, larger.optimizer)
        return larger, float(summary["max_logit_difference"])


@dataclasses.dataclass
class _Trunk:
    """One run's stable phase, and the decays that branch off."""

    log: Log
    session: Session
    folder: Place
    """Keeps what a decay began from."""
    seed: int
    part: str
    has_days: bool
    warm_up: int
    done: int = 0
    days: list[float] = dataclasses.field(default_factory=list)

    def go_on(self, until: int) -> None:
        """Take the stable phase to a step, with a stop after each day."""
        every = self.log.day_steps if self.has_days else until
        while self.done < until:
            stop = min(until, self.done + every - self.done % every)
            self._steps(stop, decay_to=None)
            self.done = stop
            if self.has_days and stop % every == 0:
                self.days.append(self.log.judge(self.session, self.part))

    def decayed(self, end: int) -> float:
        """The log loss after a decay to ``end``; the stable phase is as it was before."""
        kept = saved(self.session, self.folder, self.log.table)
        self._steps(end, decay_to=end)
        loss = self.log.judge(self.session, self.part)
        load_training_state(kept.tensors, self.session.model, self.session.optimizer)
        return loss

    def _steps(self, stop: int, *, decay_to: int | None) -> None:
        stream = self.log.one_pass.batches(self.seed, skip=self.done)

        def share(step: int) -> float:
            if decay_to is None:
                return rising(step, warm_up=self.warm_up)
            return falling(step, decay_to, decay=decay_to - self.done)

        part = itertools.islice(stream, stop - self.done)
        take_steps(self.session, part, schedule=share, done=self.done)


def _thinned(examples: Examples) -> Examples:
    """At most ``JUDGED_ROWS`` of the examples, evenly spread."""
    count = min(len(examples), JUDGED_ROWS)
    return examples.take(np.linspace(0, len(examples) - 1, count).astype(np.int64))
