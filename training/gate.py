"""The gate: may a candidate replace the champion? Pure functions on predictions.

Promote when the candidate is shown not to be worse, refuse when it is shown to be worse or broken,
hold when the holdout cannot tell. A candidate that costs more than its rival must be shown to be
better (``GateConfig.must_be_better``).
"""

import dataclasses
import enum

import numpy as np
import numpy.typing as npt

from training.metrics import Metrics, bootstrap_means, evaluate, interval, log_losses


class Verdict(enum.StrEnum):
    """What the gate says."""

    PROMOTE = "promote"
    HOLD = "hold"
    REFUSE = "refuse"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateConfig:
    """The limits; fixed before any candidate is seen."""

    margin: float = 0.01
    """Largest log loss of the candidate above the rival's, as a share of the rival's."""
    must_be_better: bool = False
    """Promote only below the rival's log loss, the whole interval; the margin is 0 then."""
    slice_margin: float = 0.05
    """The same within a named slice."""
    calibration: tuple[float, float] = (0.9, 1.1)
    """Range that the interval of mean prediction over mean label must reach into."""
    min_rows: int = 300
    min_users: int = 20
    """Fewest groups that are resampled; below it intervals mean nothing."""
    min_slice_rows: int = 100
    draws: int = 2_000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Holdout:
    """What both models are judged on."""

    label: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]
    slices: dict[str, npt.NDArray[np.bool_]]
    """Named parts of the rows, such as new users."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A paired comparison on some rows: relative change of the log loss, negative is better."""

    rows: int
    change: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Decision:
    """The verdict, its reasons, and the numbers behind it."""

    verdict: Verdict
    reasons: list[str]
    candidate: Metrics
    champion: Metrics | None
    overall: Comparison
    slices: dict[str, Comparison]
    calibration_interval: tuple[float, float]


def decide(
    config: GateConfig,
    holdout: Holdout,
    candidate: npt.NDArray[np.float32],
    champion: npt.NDArray[np.float32] | None,
    *,
    base_rate: float,
    rival: str = "the champion",
) -> Decision:
    """Judge a candidate's predictions against the champion's, or the base rate without one.

    Args:
        config: The limits.
        holdout: Labels, users and slices of the rows, which neither model has trained on.
        candidate: (rows,) probabilities.
        champion: (rows,) probabilities; None when nothing serves yet.
        base_rate: Positive rate of the training days, the rival of a first candidate.
        rival: What the reasons call whose predictions ``champion`` are.
    """
    scores = np.full(len(candidate), base_rate, np.float32) if champion is None else champion
    everything = np.ones(len(candidate), dtype=np.bool_)
    overall = compare(config, holdout, candidate, scores, everything)
    slices = {
        name: compare(config, holdout, candidate, scores, rows)
        for name, rows in holdout.slices.items()
        if rows.sum() >= config.min_slice_rows
    }
    calibration = _calibration_interval(config, holdout, candidate)
    if champion is None:
        config, rival = dataclasses.replace(config, margin=0.0), "the base rate"
    verdict, reasons = _verdict(config, holdout, overall, slices, calibration, rival=rival)
    return Decision(
        verdict=verdict,
        reasons=reasons,
        candidate=evaluate(candidate, holdout.label, holdout.group),
        champion=None if champion is None else evaluate(champion, holdout.label, holdout.group),
        overall=overall,
        slices=slices,
        calibration_interval=calibration,
    )


def joined(first: Decision, second: Decision) -> Decision:
    """The decision on a candidate that was judged twice: the harder verdict, all its reasons.

    Numbers are those of the first.
    """
    order = (Verdict.PROMOTE, Verdict.HOLD, Verdict.REFUSE)
    verdict = max(first.verdict, second.verdict, key=order.index)
    told = [*first.reasons, *second.reasons]
    return dataclasses.replace(first, verdict=verdict, reasons=list(dict.fromkeys(told)))


def compare(
    config: GateConfig,
    holdout: Holdout,
    candidate: npt.NDArray[np.float32],
    rival: npt.NDArray[np.float32],
    rows: npt.NDArray[np.bool_],
) -> Comparison:
    """Relative change of the log loss on some rows, with an interval over resampled users."""
    label = holdout.label[rows]
    losses = np.stack([log_losses(candidate[rows], label), log_losses(rival[rows], label)], axis=1)
    draws = bootstrap_means(losses, holdout.group[rows], draws=config.draws, seed=config.seed)
    low, high = interval(draws[:, 0] / draws[:, 1] - 1)
    mine, theirs = losses.mean(axis=0)
    return Comparison(int(rows.sum()), float(mine / theirs - 1), low, high)


def _calibration_interval(
    config: GateConfig, holdout: Holdout, candidate: npt.NDArray[np.float32]
) -> tuple[float, float]:
    pairs = np.stack([np.float64(candidate), np.float64(holdout.label)], axis=1)
    draws = bootstrap_means(pairs, holdout.group, draws=config.draws, seed=config.seed)
    return interval(draws[:, 0] / np.maximum(draws[:, 1], 1e-12))


def _verdict(
    config: GateConfig,
    holdout: Holdout,
    overall: Comparison,
    slices: dict[str, Comparison],
    calibration: tuple[float, float],
    *,
    rival: str,
) -> tuple[Verdict, list[str]]:
    rows, users = len(holdout.label), len(np.unique(holdout.group))
    if rows < config.min_rows or users < config.min_users:
        return Verdict.HOLD, [
            f"holdout: {rows} rows of {users} users; at least {config.min_rows} rows of "
            f"{config.min_users} users"
        ]
    margin = 0.0 if config.must_be_better else config.margin
    broken = _broken(config, overall, slices, calibration, margin=margin, rival=rival)
    if broken:
        return Verdict.REFUSE, broken
    seen = f"log loss against {rival}: {_text(overall)}"
    if config.must_be_better:
        if overall.high >= 0:
            return Verdict.HOLD, [f"{seen}; not shown to be better: it must end below 0"]
        return Verdict.PROMOTE, [f"{seen}; better"]
    if overall.high > margin:
        return Verdict.HOLD, [f"{seen}; it may be above {margin:+.1%}"]
    return Verdict.PROMOTE, [f"{seen}; at most {margin:+.1%}"]


def _broken(
    config: GateConfig,
    overall: Comparison,
    slices: dict[str, Comparison],
    calibration: tuple[float, float],
    *,
    margin: float,
    rival: str,
) -> list[str]:
    """What is shown to be wrong: the whole interval lies beyond the limit."""
    reasons = []
    if overall.low > margin:
        reasons.append(f"log loss against {rival}: {_text(overall)}; at most {margin:+.1%}")
    low, high = config.calibration
    if calibration[1] < low or calibration[0] > high:
        reasons.append(
            f"calibration: {calibration[0]:.3f} to {calibration[1]:.3f}; "
            f"must reach into {low} to {high}"
        )
    for name, comparison in slices.items():
        if comparison.low > config.slice_margin:
            reasons.append(
                f"slice {name}: log loss against {rival}: {_text(comparison)}; "
                f"at most {config.slice_margin:+.1%}"
            )
    return reasons


def _text(comparison: Comparison) -> str:
    return (
        f"{comparison.change:+.2%} ({comparison.low:+.2%} to {comparison.high:+.2%}, "
        f"{comparison.rows} rows)"
    )
