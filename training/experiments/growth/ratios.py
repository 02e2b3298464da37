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
class Runs:
    """What one seed's rankers reached."""

    scratch: Sequence[Point]
    """Of the large one, the last at the end of its log."""
    grown: Sequence[Point]
    parent_flops: float
    """Of the small one up to when it grew."""
    scratch_days: Sequence[float]
    """Log loss of the large one after each day, at the full rates."""
    grown_days: Sequence[float]
    """Of the grown one after each day from when it grew."""
    control_days: Sequence[float]
    """Of the small one, trained on, after the same days."""


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
        whole, target = runs.scratch[-1].flops, runs.scratch[-1].log_loss
        reached = flops_at(runs.grown, target)
        found["compute_to_scratch_loss"].append(reached and reached / whole)
        found["compute_after_growth"].append(reached and (reached - runs.parent_flops) / whole)
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
    """Days after growing until the grown one is better than the control, and stays so.

    And days of replay that one from scratch needs to be better than the control on that day. Each
    None where the log ends before.
    """
    known = min(len(runs.grown_days), len(runs.control_days))
    losses = np.array([runs.grown_days[:known], runs.control_days[:known]])
    worse = np.flatnonzero(losses[0] >= losses[1])
    days = int(worse[-1]) + 2 if len(worse) else 1
    if days > losses.shape[1]:
        return None, None
    better = np.flatnonzero(np.array(runs.scratch_days) < runs.control_days[days - 1])
    return days, int(better[0]) + 1 if len(better) else None
