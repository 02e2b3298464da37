"""Loss against compute: a small Wukong, a large one from scratch, and the small one grown into it.

One pass over the days in order, as a ranker is trained every day, with the same batches for all. A
run ends when it has spent the compute of the large ranker over its share of the log, or with the
log: a smaller ranker has seen more examples by then. Three learning rates are chosen on days of
validation from the same list: the small ranker's, the large one's, and that of a ranker after it
has grown. The last days are scored by an average of the weights. A grown ranker's compute includes
its parent's.
Growth is the product's own: the parent is saved, upscaled with its proof, and loaded.
"""

import dataclasses
import datetime
import itertools
import logging
import math
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from features.places import place
from training.checkpoint.catalog import Checkpoint, CheckpointManifest
from training.checkpoint.tensors import load_training_state, save, training_state
from training.config.recipe import Recipe, recipe_from_dict
from training.data.dataset import ExampleTable
from training.data.examples import Examples
from training.distributed.divergence import DivergedError
from training.evaluation.holdout import best_log_losses
from training.experiments.one_pass import AVERAGE_DECAY, WARM_UP_STEPS, Days, OnePass
from training.metrics import log_losses
from training.model.flops import cost_of
from training.model.inputs import inputs_of
from training.trainer.loop import take_steps
from training.trainer.session import Session, Step, WeightAverage
from training.upscale.upscale import upscale

logger = logging.getLogger(__name__)

MOMENTS = (0.25, 0.5, 0.75)
"""When to grow, as shares of the steps that the large ranker from scratch takes."""
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
"""Of the dense part, tried for each size, and for what has grown."""
POINTS = 10
"""Evaluations of the large ranker's steps; a run of more steps has more."""
JUDGED_ROWS = 50_000
"""Rows that an evaluation scores, spread evenly over its days; all where there are fewer."""
_GROWN = "grown"
_BAR = "{desc} {percentage:3.0f}% of the compute |{bar}| {elapsed}"
_MANIFEST_FIELDS = [field.name for field in dataclasses.fields(CheckpointManifest)]


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run: training FLOPs so far and log loss, point by point."""

    name: str
    seed: int
    flops: list[float]
    log_loss: list[float]
    max_logit_difference: float = 0.0
    grown_after: float = 0.0
    """Training FLOPs at which it grew; what it reached before was the small ranker's."""


class Comparison:
    """The runs on one data set: a ``small`` ranker grows to the ``large`` one.

    From scratch the large one sees that ``share`` of the log's training examples.
    """

    def __init__(
        self,
        table: ExampleTable,
        small: Recipe,
        large: Recipe,
        *,
        batch_size: int,
        share: float = 1.0,
    ) -> None:
        self.table = table
        self.inputs = inputs_of(table.schema)
        days = Days.of(table.days(datetime.date.min, datetime.date.max))
        self.log = OnePass(table, days.train, batch_size)
        self.recipes = {"small": small, "large": large}
        self.flops = {
            size: cost_of(self.inputs, recipe.model).training_flops
            for size, recipe in self.recipes.items()
        }
        log_steps = self.log.num_steps()
        self.steps = round(share * log_steps)
        if not 0 < share <= 1 or self.steps < POINTS:
            raise ValueError(
                f"share: {share} of {log_steps} steps; above 0, at most 1, and {POINTS} steps"
            )
        self.examples = {
            part: _thinned(table.read(getattr(days, part))) for part in ("valid", "test")
        }
        self.rates: dict[str, float] = {}

    def choose_learning_rates(self) -> None:
        """The best of the same rates for each size and after growing, on the validation days.

        What grows is tried at the moment in the middle.
        """
        middle = MOMENTS[len(MOMENTS) // 2]
        for name, moment in (("small", None), ("large", None), (_GROWN, middle)):
            losses = {}
            for rate in LEARNING_RATES:
                self.rates[name] = rate
                try:
                    run = self.run(name, seed=0, moment=moment, judged_on="valid")
                except DivergedError as error:
                    logger.warning("%s: learning rate %g: %s", name, rate, error)
                    losses[rate] = math.inf
                    continue
                losses[rate] = run.log_loss[-1]
            self.rates[name] = min(losses, key=lambda rate: losses[rate])
            logger.info("%s: learning rates %s; %g is taken", name, losses, self.rates[name])

    def run(
        self, name: str, *, seed: int, moment: float | None = None, judged_on: str = "test"
    ) -> Curve:
        """Train one ranker to its end; with a ``moment`` the small one, then the large."""
        grow_at = 0 if moment is None else round(moment * self.steps)
        size = "small" if grow_at else name
        recipe = self.log.recipe(self.recipes[size], rate=self.rates[size], seed=seed)
        session = self.log.session(self.inputs, recipe)
        average = session.average(AVERAGE_DECAY)
        curve = Curve(name, seed, [], [])
        done, flops = 0, 0.0
        budget = float(self.flops["large"]) * self.log.batch_size * self.steps
        every = max(1, self.steps // POINTS)
        bar = tqdm(total=1.0, desc=f"{name} seed {seed}", leave=False, bar_format=_BAR)

        def spend(_: int, step: Step) -> None:
            nonlocal flops
            average.update()
            flops += self.flops[size] * len(step.batch.label)
            bar.update(flops / budget - bar.n)

        stream = self.log.batches(seed)
        while flops < budget:
            end = done + every - done % every
            part = itertools.islice(stream, (min(end, grow_at) if done < grow_at else end) - done)
            # A ranker that has grown counts its steps, and so its warm-up, anew.
            before = session.steps
            after = take_steps(
                session,
                part,
                schedule=lambda taken: min(1.0, (taken + 1) / WARM_UP_STEPS),
                after_step=spend,
                until=lambda _: flops >= budget,
                done=before,
            )
            if after == before:
                break
            done += after - before
            if done == grow_at:
                size = "large"
                session, difference = self._grown(session, seed)
                average = session.average(AVERAGE_DECAY)
                curve = dataclasses.replace(
                    curve, max_logit_difference=difference, grown_after=flops
                )
            if done % every == 0:
                self._judge(curve, flops, session, average, judged_on)
        if curve.flops[-1:] != [flops]:
            self._judge(curve, flops, session, average, judged_on)
        bar.close()
        logger.info(
            "%s, seed %d: log loss %.5f after %.3g FLOPs", *(name, seed, curve.log_loss[-1], flops)
        )
        return curve

    def _judge(
        self, curve: Curve, flops: float, session: Session, average: WeightAverage, part: str
    ) -> None:
        examples = self.examples[part]
        with average.in_place():
            probability = session.predict(examples.inputs)
        curve.flops.append(flops)
        curve.log_loss.append(float(log_losses(probability, examples.label).mean()))

    def _grown(self, session: Session, seed: int) -> tuple[Session, float]:
        """The large ranker with what a small one has learnt, and how far its logits moved."""
        target = self.log.recipe(self.recipes["large"], rate=self.rates[_GROWN], seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            values: dict[str, Any] = dict.fromkeys(_MANIFEST_FIELDS, "")
            manifest = CheckpointManifest(
                **{**values, "recipe": session.recipe.to_dict(), "family": [], "run_day": "parent"}
            )
            state = training_state(session.model, session.optimizer)
            source = save(place(folder), state, manifest, "parent")
            summary = upscale(self.table.schema, source, target, self.table, place(folder))
            grown = Checkpoint.at(place(summary["checkpoint"]))
            model = recipe_from_dict(grown.manifest.recipe).model
            larger = self.log.session(self.inputs, dataclasses.replace(target, model=model))
            load_training_state(grown.tensors, larger.model, larger.optimizer)
            return larger, float(summary["max_logit_difference"])

    def best_log_loss(self) -> float | None:
        """Of the true probabilities on the rows that judge, where they are known."""
        losses = best_log_losses(self.table.schema, self.examples["test"])
        return None if losses is None else float(losses.mean())


def _thinned(examples: Examples) -> Examples:
    """At most ``JUDGED_ROWS`` of the examples, evenly spread."""
    indices = np.linspace(0, len(examples) - 1, min(len(examples), JUDGED_ROWS)).astype(np.int64)
    return Examples(
        examples.inputs.take(indices),
        examples.label[indices],
        examples.example_id[indices],
        examples.table.take(indices),
    )


def compare(comparison: Comparison, *, seeds: int) -> dict[str, Any]:
    """All runs of a data set, and what growth saved."""
    comparison.choose_learning_rates()
    curves = []
    for seed in range(1, seeds + 1):
        curves += [comparison.run(size, seed=seed) for size in comparison.recipes]
        curves += [
            comparison.run(f"grown at {moment:.0%}", seed=seed, moment=moment) for moment in MOMENTS
        ]
    by_name = {
        name: [curve for curve in curves if curve.name == name]
        for name in sorted({curve.name for curve in curves})
    }
    ratios = {
        name: _compute_ratio(runs, by_name["large"])
        for name, runs in by_name.items()
        if name != "large"
    }
    reached = [ratio for name, ratio in ratios.items() if ratio and name != "small"]
    return {
        "steps": comparison.steps,
        "learning_rates": dict(comparison.rates),
        "best_log_loss": comparison.best_log_loss(),
        "final_log_loss": {
            name: [run.log_loss[-1] for run in runs] for name, runs in by_name.items()
        },
        "training_flops": {name: runs[0].flops[-1] for name, runs in by_name.items()},
        "max_logit_difference": max(curve.max_logit_difference for curve in curves),
        "compute_to_scratch_loss_by_moment": ratios,
        "compute_to_scratch_loss": min(reached, default=None),
        "curves": [dataclasses.asdict(curve) for curve in curves],
    }


def _compute_ratio(runs: Sequence[Curve], scratch: Sequence[Curve]) -> float | None:
    """Compute at which the runs' mean reaches the scratch runs' final mean, as a ratio.

    Read off the straight line between two evaluations. None: it never does, after it has grown.
    """
    target = np.mean([run.log_loss[-1] for run in scratch])
    mean, flops = np.mean([run.log_loss for run in runs], axis=0), np.array(runs[0].flops)
    reached = np.flatnonzero((mean <= target) & (flops > runs[0].grown_after))
    if not len(reached):
        return None
    last, before = reached[0], max(0, reached[0] - 1)
    share = (mean[before] - target) / (mean[before] - mean[last]) if last != before else 1.0
    return float((flops[before] + share * (flops[last] - flops[before])) / scratch[0].flops[-1])
