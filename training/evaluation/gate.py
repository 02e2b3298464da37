"""The gate: may a candidate replace the champion? Pure functions on predictions.

Promote when every number is shown to be within its limit, refuse when one is shown to be beyond it
or what was given is broken, hold when the holdout cannot tell. The candidate is held against

- the champion, or the base rate of the training days where nothing answers yet;
- an anchor, an older champion: the margin counts from the better of the two, since both must hold,
  so that a little worse each day does not add up;
- in a trial the un-grown ranker, which it must be shown to beat, as the champion.

A baseline of which some scores are no probabilities is compared on the other rows; it can neither
block a good candidate nor let a bad one through, since the base rate must then be beaten too.

One exception: a candidate that is not shown to be calibrated within the bounds may replace a
champion if it is shown to be nearer to 1 than that one, and an alert asks to recalibrate.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from training.evaluation import findings
from training.evaluation.comparison import Against, Calibration, Holdout, Scores, calibrate, compare
from training.evaluation.findings import Finding, GateConfig, Verdict
from training.metrics import Metrics, evaluate

CHAMPION, ANCHOR, CONTROL, BASE_RATE = "champion", "anchor", "control", "base_rate"
"""Keys of the baselines."""
NAMES = {
    CHAMPION: "the champion",
    ANCHOR: "the anchor",
    CONTROL: "the un-grown ranker",
    BASE_RATE: "the base rate",
}
"""What the reasons call them."""
RECALIBRATE = "recalibrate"


@dataclasses.dataclass(frozen=True)
class Alert:
    """What a person has to look at, whatever the verdict."""

    name: str
    """Page of infra/runbooks, without its ending."""
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """The verdict, its reasons, and the numbers behind it."""

    verdict: Verdict
    reasons: list[str]
    """What decided: of a promotion all findings, else those that stood in its way."""
    findings: list[Finding]
    alerts: list[Alert] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    """What was left out of the comparison."""
    candidate: Metrics | None = None
    """None where its scores are no probabilities, or the labels no labels."""
    baselines: dict[str, Metrics] = dataclasses.field(default_factory=dict)
    """Of each baseline whose scores are all probabilities, by key."""
    against: dict[str, Against] = dataclasses.field(default_factory=dict)
    calibration: Calibration | None = None


def decide(
    config: GateConfig,
    holdout: Holdout,
    candidate: Scores,
    baselines: Mapping[str, Scores],
    *,
    base_rate: float,
) -> Decision:
    """Judge a candidate's predictions against its baselines'.

    Args:
        config: The limits.
        holdout: Labels, users and slices of the rows, on which no ranker has trained.
        candidate: (rows,) probabilities.
        baselines: The same of ``CHAMPION``, ``ANCHOR`` and ``CONTROL``, those that there are.
        base_rate: Positive rate of the training days, the baseline where there is no champion.

    Raises:
        ValueError: There are no rows, scores of another number of rows, or no such rate.
    """
    _check(holdout, candidate, baselines, base_rate)
    if broken := findings.of_input(holdout, candidate):
        return _decided(broken)
    judge = _Judge(config, holdout, candidate)
    for key, scores in baselines.items():
        judge.compare_with(key, scores, must_be_better=CONTROL in baselines and key != ANCHOR)
    if CHAMPION not in baselines or judge.has_broken_baseline:
        flat = np.full(len(holdout), base_rate, np.float32)
        judge.compare_with(BASE_RATE, flat, must_be_better=True)
    judge.calibration()
    decision = judge.decision(is_first=CHAMPION not in baselines)
    small = findings.of_size(config, holdout)
    return _decided([small], decision) if small else decision


class _Judge:
    """Collects what is found about one candidate."""

    def __init__(self, config: GateConfig, holdout: Holdout, candidate: Scores) -> None:
        self.config = config
        self.holdout = holdout
        self.candidate = candidate
        self.has_broken_baseline = False
        self.findings: list[Finding] = []
        self.alerts: list[Alert] = []
        self.against: dict[str, Against] = {}
        self.baselines: dict[str, Metrics] = {}
        self.calibrated: Calibration | None = None
        metrics = evaluate(candidate, holdout.label, holdout.group, holdout.request)
        self.metrics = metrics
        self.notes = [*_left_out(config, holdout, metrics)]

    def compare_with(self, key: str, scores: Scores, *, must_be_better: bool) -> None:
        """Compare with a baseline, on the rows for which it has an answer."""
        good = findings.usable(scores)
        if good.all():
            rows = self.holdout
            self.baselines[key] = evaluate(scores, rows.label, rows.group, rows.request)
        elif not self._has_enough_answers(key, good):
            return
        rows = _with_judged_slices(self.config, self.holdout.take(good))
        found = compare(
            *(rows, self.candidate[good], scores[good]),
            draws=self.config.draws,
            seed=self.config.seed,
        )
        self.against[key] = found
        name = NAMES[key]
        self.findings.append(
            findings.of_log_loss(
                name, found.log_loss, margin=self.config.margin, must_be_better=must_be_better
            )
        )
        # A trial asks for a lower loss alone; chance must be beaten at ranking, too.
        ranked = findings.of_gauc(self.config, name, found, must_be_better=key == BASE_RATE)
        self.findings += [ranked] if ranked else []
        self.findings += findings.of_slices(self.config, name, found)

    def calibration(self) -> None:
        """Compare the calibration with its bounds, and with that of the version to replace."""
        config, holdout = self.config, self.holdout
        found = calibrate(holdout, self.candidate, draws=config.draws, seed=config.seed)
        self.calibrated = found
        finding = findings.of_calibration(config, found, len(holdout))
        # A champion that is broken is compared on some rows; those of the base rate are all.
        keys = [CHAMPION] if CHAMPION in self.baselines else [CHAMPION, BASE_RATE]
        keys = [key for key in keys if key in self.against]
        is_nearer = all(findings.is_nearer(self.against[key]) for key in keys)
        if finding.verdict is not Verdict.PROMOTE and is_nearer:
            names = " and ".join(NAMES[key] for key in keys)
            finding = self._let_through(
                finding, f"{finding.text}; shown to be nearer to 1 than {names}: let through"
            )
        self.findings.append(finding)

    def decision(self, *, is_first: bool) -> Decision:
        """The verdict on all that was found."""
        if is_first and self.config.accepts_unknown:
            self.findings = [self._accepted(found) for found in self.findings]
        decision = Decision(
            verdict=Verdict.HOLD,
            reasons=[],
            findings=[],
            alerts=self.alerts,
            notes=self.notes,
            candidate=self.metrics,
            baselines=self.baselines,
            against=self.against,
            calibration=self.calibrated,
        )
        return _decided(self.findings, decision)

    def _has_enough_answers(self, key: str, good: npt.NDArray[np.bool_]) -> bool:
        """Note that a baseline is broken; whether it has answers enough to compare with."""
        self.has_broken_baseline = True
        text = findings.bad_rows(f"scores of {NAMES[key]}", "no probabilities", ~good, self.holdout)
        is_enough = findings.of_size(self.config, self.holdout.take(good)) is None
        outcome = "compared on the others" if is_enough else "not compared"
        self.notes.append(f"{text}; {outcome}, and the base rate must be beaten")
        if key == CHAMPION:
            self.alerts.append(Alert("gate-refused-or-hold", text))
        if key == CONTROL and not is_enough:
            self.findings.append(Finding(Verdict.HOLD, f"{text}; not shown to be better than it"))
        return is_enough

    def _accepted(self, found: Finding) -> Finding:
        """A finding on a first candidate, let through where it is not known and may be."""
        if found.verdict is not Verdict.HOLD or not (found.is_calibration or found.is_slice):
            return found
        is_open = self.calibrated and findings.may_be_calibrated(self.config, self.calibrated)
        if found.is_calibration and not is_open:
            return found
        return self._let_through(found, f"{found.text}; let through, as it is the first")

    def _let_through(self, found: Finding, text: str) -> Finding:
        if found.is_calibration:
            self.alerts.append(Alert(RECALIBRATE, text))
        return dataclasses.replace(found, verdict=Verdict.PROMOTE, text=text)


def _decided(found: list[Finding], decision: Decision | None = None) -> Decision:
    """A decision by the hardest of the findings; without any, nothing is proven."""
    decision = decision or Decision(verdict=Verdict.HOLD, reasons=[], findings=[])
    order = list(Verdict)
    verdicts = [one.verdict for one in found] or [Verdict.HOLD]
    verdict = max(verdicts, key=order.index)
    hardest_first = sorted(found, key=lambda one: -order.index(one.verdict))
    in_its_way = [one for one in hardest_first if one.verdict is not Verdict.PROMOTE]
    # Only a candidate that is promoted needs to be recalibrated.
    is_through = verdict is Verdict.PROMOTE
    return dataclasses.replace(
        decision,
        verdict=verdict,
        reasons=[one.text for one in (found if is_through else in_its_way)],
        findings=found,
        alerts=[one for one in decision.alerts if is_through or one.name != RECALIBRATE],
    )


def _with_judged_slices(config: GateConfig, holdout: Holdout) -> Holdout:
    """A holdout with the slices that are large enough to be judged."""
    kept = {
        name: rows
        for name, rows in holdout.slices.items()
        if rows.sum() >= config.min_slice_rows and holdout.num_users(rows) >= config.min_users
    }
    return dataclasses.replace(holdout, slices=kept)


def _left_out(config: GateConfig, holdout: Holdout, metrics: Metrics) -> list[str]:
    """What is not judged, in words."""
    judged = _with_judged_slices(config, holdout).slices
    notes = [
        f"slice {name}: {rows.sum():,} rows of {holdout.num_users(rows):,} users; judged from "
        f"{config.min_slice_rows} rows of {config.min_users} users on"
        for name, rows in holdout.slices.items()
        if name not in judged
    ]
    if not holdout.has_users:
        return ["GAUC: this data set has no users; not compared", *notes]
    if config.gauc_margin is None:
        return ["GAUC: not asked for; not compared", *notes]
    users = holdout.num_users()
    left_out = round(metrics.one_class_users * users)
    return [f"GAUC: {left_out:,} of {users:,} users are left out: their labels are equal", *notes]


def _check(
    holdout: Holdout, candidate: Scores, baselines: Mapping[str, Scores], base_rate: float
) -> None:
    if not len(holdout):
        raise ValueError("rows of the holdout: 0; at least 1")
    for name, scores in {"candidate": candidate, **baselines}.items():
        if len(scores) != len(holdout):
            raise ValueError(f"scores of {name}: {len(scores)}; the holdout has {len(holdout)}")
    if unknown := sorted(set(baselines) - {CHAMPION, ANCHOR, CONTROL}):
        raise ValueError(f"baselines: {unknown}; one of {[CHAMPION, ANCHOR, CONTROL]}")
    if not 0 <= base_rate <= 1:
        raise ValueError(f"base_rate: {base_rate}; from 0 to 1")
