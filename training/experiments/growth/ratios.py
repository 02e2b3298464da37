"""What growing came to against training from scratch: pure functions of the runs."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

_LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Point:
    """A ranker at the end of one budget, after a decay of its own."""

    steps: int
    """From the start of the log; a parent's count."""
    flops: float
    """Of training; a parent's count."""
    log_loss: float


@dataclasses.dataclass(frozen=True)
class Arm:
    """What one ranker of one seed came to."""

    points: Sequence[Point]
    days: Sequence[float]
    """Log loss after each day at the full rates, from the start or from when it grew."""
    max_logit_difference: float
    """By how much growing moved its logits."""


@dataclasses.dataclass(frozen=True)
class Runs:
    """What one seed's rankers reached."""

    scratch: Arm
    """The large one; its last point is at the end of its log."""
    grown: Arm
    small: Arm
    """Trained on; its days are those from when the other one grew."""
    parent_flops: float
    """Of the small one up to when it grew."""


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A figure over seeds, with the 95 % interval of its mean; None: some seed never got there."""

    value: float | None
    low: float | None = None
    high: float | None = None
    by_seed: Sequence[float | None] = ()

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Ratio":
        """From one value a seed; without an interval where there is one seed."""
        known = [value for value in values if value is not None]
        mean = float(np.mean(known)) if known and len(known) == len(values) else None
        if mean is None or len(known) == 1:
            return cls(mean, by_seed=tuple(values))
        half = stats.t.ppf((1 + _LEVEL) / 2, len(known) - 1) * stats.sem(known)
        return cls(mean, mean - float(half), mean + float(half), tuple(values))


def ratios(seeds: Sequence[Runs]) -> dict[str, Ratio]:
    """The three figures of a comparison."""
    found = collections.defaultdict[str, list[float | None]](list)
    for runs in seeds:
        last = runs.scratch.points[-1]
        reached = flops_at(runs.grown.points, last.log_loss)
        found["compute_to_scratch_loss"].append(reached and reached / last.flops)
        own = reached and (reached - runs.parent_flops) / last.flops
        found["compute_after_growth"].append(own)
        grown, replay = days_to_better(runs)
        found["days_to_better"].append(grown / replay if grown and replay else None)
    return {name: Ratio.of(values) for name, values in found.items()}


def flops_at(points: Sequence[Point], log_loss: float) -> float | None:
    """Compute at which a loss is reached, on straight lines between points; None: it never is.

    Where the first point is below the loss already, that point's: an upper bound.
    """
    for before, after in zip((None, *points), points, strict=False):
        if after.log_loss > log_loss:
            continue
        if before is None:
            return after.flops
        share = (before.log_loss - log_loss) / (before.log_loss - after.log_loss)
        return before.flops + share * (after.flops - before.flops)
    return None


def days_to_better(runs: Runs) -> tuple[int | None, int | None]:
    """Days after growing until the grown one is better than the small one, and stays so.

    And days of replay that one from scratch needs to be better than the small one on that day. Each
    None where the log ends before.
    """
    pairs = [*zip(runs.grown.days, runs.small.days, strict=False)]
    worse = [day for day, (grown, small) in enumerate(pairs, start=1) if grown >= small]
    days = worse[-1] + 1 if worse else 1
    if days > len(pairs):
        return None, None
    better = np.flatnonzero(np.array(runs.scratch.days) < runs.small.days[days - 1])
    return days, int(better[0]) + 1 if len(better) else None
