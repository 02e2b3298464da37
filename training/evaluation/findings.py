"""The gate's limits, and what each number says when it is held against one of them.

A limit is kept when the whole interval lies within it, broken when all of it lies beyond, and not
known in between, or where a number is not finite: nothing passes because nothing is against it.
"""

import dataclasses
import enum
import math

import numpy as np

from training.evaluation.comparison import Against, Calibration, Comparison, Holdout, Scores

_QUANTILE = 1.96
"""Of the normal distribution, for intervals of 95 %."""


class Verdict(enum.StrEnum):
    """What the gate says; the later one outweighs the earlier."""

    PROMOTE = "promote"
    HOLD = "hold"
    REFUSE = "refuse"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateConfig:
    """The limits; fixed before any candidate is seen."""

    margin: float = 0.002
    """Largest log loss of the candidate above a baseline's, as a share of the baseline's."""
    gauc_margin: float | None = 0.002
    """Largest GAUC of a baseline above the candidate's; None: GAUC is not compared."""
    slice_margin: float = 0.05
    """Largest log loss above a baseline's within a named slice, as a share of the baseline's."""
    calibration: tuple[float, float] = (0.9, 1.1)
    """Bounds of mean prediction over mean label."""
    min_rows: int = 300
    min_users: int = 20
    """Fewest users that are resampled; below it intervals mean nothing."""
    min_slice_rows: int = 100
    """A slice of fewer rows is not judged; one of fewer than ``min_rows`` can only refuse."""
    accepts_unknown: bool = False
    """Of a first candidate: a calibration or a slice that is not yet known lets it through."""
    draws: int = 2_000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one number says."""

    verdict: Verdict
    text: str
    is_calibration: bool = False
    is_slice: bool = False


def kept(low: float, high: float, *, at_most: float) -> Verdict:
    """What an interval says of a limit."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return Verdict.HOLD
    if high <= at_most:
        return Verdict.PROMOTE
    return Verdict.REFUSE if low > at_most else Verdict.HOLD


def below_zero(low: float, high: float) -> Verdict:
    """What an interval says of being below 0, which 0 itself is not."""
    verdict = kept(low, high, at_most=0.0)
    return Verdict.HOLD if verdict is Verdict.PROMOTE and high == 0 else verdict


def of_input(holdout: Holdout, candidate: Scores) -> list[Finding]:
    """What no comparison can be made with: labels, and scores of the candidate."""
    labels = np.isin(holdout.label, (0, 1))
    found = [
        text
        for text in (
            bad_rows("labels", "not 0 or 1", ~labels, holdout),
            bad_rows("scores of the candidate", "no probabilities", ~usable(candidate), holdout),
        )
        if text
    ]
    if not found and np.ptp(candidate) == 0:
        found = [f"scores of the candidate: all are {candidate[0]:.4g}; a constant ranks nothing"]
    return [Finding(Verdict.REFUSE, text) for text in found]


def usable(scores: Scores) -> "np.typing.NDArray[np.bool_]":
    """Which scores are probabilities: finite, and from 0 to 1."""
    return np.asarray((scores >= 0) & (scores <= 1))


def bad_rows(what: str, how: str, rows: "np.typing.NDArray[np.bool_]", holdout: Holdout) -> str:
    """How many rows are bad, and the first one's example; empty without any."""
    if not rows.any():
        return ""
    first = holdout.example_id[int(np.argmax(rows))]
    return f"{what}: {rows.sum():,} of {len(rows):,} are {how}; the first is example_id {first}"


def of_size(config: GateConfig, holdout: Holdout) -> Finding | None:
    """Why the holdout is too small to decide; None where it is not."""
    rows, users, positives = len(holdout), holdout.num_users(), int(holdout.label.sum())
    if rows < config.min_rows or users < config.min_users:
        text = (
            f"holdout: {rows:,} rows of {users:,} users; at least {config.min_rows:,} rows of "
            f"{config.min_users} users"
        )
    elif positives in {0, rows}:
        text = f"holdout: all {rows:,} labels are {holdout.label[0]}; both are needed"
    else:
        return None
    return Finding(Verdict.HOLD, text)


def of_log_loss(name: str, change: Comparison, *, margin: float, must_be_better: bool) -> Finding:
    """Whether the log loss is at most a margin above a baseline's, or below it."""
    seen = f"log loss against {name}: {percent(change)}"
    if must_be_better:
        verdict = below_zero(change.low, change.high)
        return Finding(verdict, f"{seen}; {_better(verdict)}")
    verdict = kept(change.low, change.high, at_most=margin)
    return Finding(verdict, f"{seen}; {_within(verdict, f'{margin:+.1%}')}")


def of_gauc(
    config: GateConfig, name: str, against: Against, *, must_be_better: bool
) -> Finding | None:
    """Whether the GAUC is at most a margin below a baseline's, or above it; None: not compared."""
    change = against.gauc
    if change is None or config.gauc_margin is None:
        return None
    if against.num_gauc_users < config.min_users:
        return Finding(
            Verdict.HOLD,
            f"GAUC against {name}: {against.num_gauc_users} users have both labels; at least "
            f"{config.min_users}",
        )
    seen = (
        f"GAUC against {name}: {change.change:+.4f} ({change.low:+.4f} to {change.high:+.4f}, "
        f"{against.num_gauc_users:,} users)"
    )
    if must_be_better:
        verdict = below_zero(-change.high, -change.low)
        return Finding(verdict, f"{seen}; {_better(verdict, side='above')}")
    verdict = kept(-change.high, -change.low, at_most=config.gauc_margin)
    limit = f"{-config.gauc_margin:+.4f}"
    return Finding(verdict, f"{seen}; {_within(verdict, limit, most='least', side='below')}")


def of_slices(config: GateConfig, name: str, against: Against) -> list[Finding]:
    """Whether the log loss within each slice is at most a margin above a baseline's."""
    findings = []
    for part, change in against.slices.items():
        verdict = kept(change.low, change.high, at_most=config.slice_margin)
        if verdict is Verdict.HOLD and change.rows < config.min_rows:
            continue
        limit = f"{config.slice_margin:+.1%}"
        text = f"slice {part}: log loss against {name}: {percent(change)}"
        findings.append(Finding(verdict, f"{text}; {_within(verdict, limit)}", is_slice=True))
    return findings


def of_calibration(config: GateConfig, found: Calibration, rows: int) -> Finding:
    """Whether the calibration lies within its bounds."""
    least, most = config.calibration
    bounds = f"{least} to {most}"
    seen = f"calibration: {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    sides = kept(-found.high, -found.low, at_most=-least), kept(found.low, found.high, at_most=most)
    verdict = max(sides, key=list(Verdict).index)
    needed = positives_needed(config, found, rows)
    if verdict is Verdict.PROMOTE:
        return Finding(verdict, f"{seen}; within {bounds}", is_calibration=True)
    if verdict is Verdict.REFUSE and found.positives >= fewest_positives(config, found, rows):
        return Finding(verdict, f"{seen}; outside {bounds}", is_calibration=True)
    where = "may be" if least <= found.value <= most else "is, as far as can be told,"
    text = (
        f"{seen}; {where} outside {bounds}: {found.positives:,} positives, about {needed:,} would "
        "tell"
    )
    return Finding(Verdict.HOLD, text, is_calibration=True)


def may_be_calibrated(config: GateConfig, found: Calibration) -> bool:
    """Whether the interval is known and has a part within the bounds."""
    least, most = config.calibration
    return found.is_finite and found.low <= most and found.high >= least


def fewest_positives(config: GateConfig, found: Calibration, rows: int) -> int:
    """Positives below which the interval is wider than the bounds, even if rows were independent.

    The count of positives has the relative variance (1 - rate) / positives.
    """
    width = min(1 - config.calibration[0], config.calibration[1] - 1)
    return math.ceil((_QUANTILE / width) ** 2 * (1 - found.positives / rows))


def positives_needed(config: GateConfig, found: Calibration, rows: int) -> int:
    """Positives at which the interval, narrower by their square root, ends at the nearest bound."""
    fewest = fewest_positives(config, found, rows)
    distance = min(abs(found.value - bound) for bound in config.calibration)
    half = (found.high - found.low) / 2
    if not (math.isfinite(half) and math.isfinite(distance)):
        return fewest
    return max(fewest, math.ceil(found.positives * (half / max(distance, half / 100)) ** 2))


def is_nearer(against: Against) -> bool:
    """Whether the candidate is shown to be calibrated nearer to 1 than a baseline."""
    found = against.miscalibration
    return found.is_finite and found.high < 0


def percent(comparison: Comparison) -> str:
    """A relative change with its interval."""
    return (
        f"{comparison.change:+.2%} ({comparison.low:+.2%} to {comparison.high:+.2%}, "
        f"{comparison.rows:,} rows)"
    )


def _better(verdict: Verdict, *, side: str = "below") -> str:
    texts = {
        Verdict.PROMOTE: "better",
        Verdict.HOLD: f"not shown to be better: all of it must be {side} 0",
        Verdict.REFUSE: "worse; it must be better",
    }
    return texts[verdict]


def _within(verdict: Verdict, limit: str, *, most: str = "most", side: str = "above") -> str:
    if verdict is Verdict.HOLD:
        return f"it may be {side} {limit}"
    return f"at {most} {limit}" + (" is allowed" if verdict is Verdict.REFUSE else "")
