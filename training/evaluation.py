"""The evaluation job: candidate and champion on days that neither has seen, and the gate's word.

A trial has a third ranker, the control: what the candidate grew from, trained on the same days.
Then the candidate must be shown to be better than both.
"""

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.schema import Role, Schema, TableKind
from training import artifact
from training.artifact import Artifact
from training.dataset import Examples, ExampleTable, user_groups
from training.gate import Decision, GateConfig, Holdout, decide, joined
from training.manifest import Manifest
from training.metrics import log_losses

_NEW_USER_IMPRESSIONS, _HEAVY_USER_IMPRESSIONS, _NEW_ITEM_IMPRESSIONS = 10, 100, 10


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation: the decision, and what the report draws."""

    decision: Decision
    candidate: Artifact
    champion: Artifact | None
    days: list[datetime.date]
    label: npt.NDArray[np.int64]
    candidate_scores: npt.NDArray[np.float32]
    champion_scores: npt.NDArray[np.float32] | None
    control: "Control | None"
    regret: float | None
    """Log loss above that of the true probabilities, in generated data."""
    is_spoilt: bool


@dataclasses.dataclass(frozen=True)
class Control:
    """The un-grown ranker of a trial, and how the candidate compares with it."""

    artifact: Artifact
    scores: npt.NDArray[np.float32]
    decision: Decision


def evaluate_candidate(
    schema: Schema,
    table: ExampleTable,
    artifacts: Path,
    *,
    day: datetime.date,
    candidate_version: str,
    champion_version: str | None,
    control_version: str | None = None,
    is_spoilt: bool = False,
) -> Evaluation:
    """Score candidate and champion on (candidate's trained_through, day] and let the gate decide.

    Args:
        schema: The data set's schema.
        table: The training examples.
        artifacts: Folder of all artifacts.
        day: Last day of the holdout.
        candidate_version: The candidate's artifact.
        champion_version: The champion's; None when nothing serves yet.
        control_version: The un-grown ranker's in a trial; then better is asked for.
        is_spoilt: A drill: the candidate's scores are dealt out to other rows first.

    Raises:
        ValueError: A model has trained on a day of the holdout, the holdout has no rows, or the
            control is not the candidate's.
    """
    root = artifacts / schema.name
    candidate = artifact.load(root / candidate_version, schema)
    champion = artifact.load(root / champion_version, schema) if champion_version else None
    control = artifact.load(root / control_version, schema) if control_version else None
    through = datetime.date.fromisoformat(candidate.manifest.trained_through)
    days = table.days(through + datetime.timedelta(days=1), day)
    for model in filter(None, (candidate, champion, control)):
        refuse_overlap(model, days)
    if control is not None:
        refuse_stranger(candidate.manifest, control.manifest)
    examples = table.read(days)
    scores = candidate.score(examples.inputs)
    if is_spoilt:
        scores = np.random.default_rng(0).permutation(scores)
    rival = champion.score(examples.inputs) if champion else None
    holdout = Holdout(examples.label, user_groups(examples, schema), named_slices(examples, schema))
    config = GateConfig(must_be_better=control is not None)
    # The prior of the label is a declared constant, so it has seen no day of the holdout.
    base_rate = schema.label.prior_rate
    decision = decide(config, holdout, scores, rival, base_rate=base_rate)
    compared = None
    if control is not None:
        answers = control.score(examples.inputs)
        judged = decide(
            *(config, holdout, scores, answers), base_rate=base_rate, rival="the un-grown ranker"
        )
        compared = Control(control, answers, judged)
        decision = joined(decision, judged)
    return Evaluation(
        decision=decision,
        candidate=candidate,
        champion=champion,
        days=days,
        label=examples.label,
        candidate_scores=scores,
        champion_scores=rival,
        control=compared,
        regret=regret(schema, examples, scores),
        is_spoilt=is_spoilt,
    )


def refuse_overlap(model: Artifact, days: list[datetime.date]) -> None:
    """ValueError when a model has trained on one of the days on which it is to be judged."""
    through = datetime.date.fromisoformat(model.manifest.trained_through)
    if days and through >= days[0]:
        raise ValueError(
            f"trained_through of {model.manifest.version}: {through}; must be before the holdout's "
            f"first day {days[0]}"
        )


def refuse_stranger(candidate: Manifest, control: Manifest) -> None:
    """ValueError unless a control went on from what the candidate grew from, as far as it did."""
    grown_from = (candidate.growth or {}).get("parent")
    if grown_from is None or control.parents[-1:] != [grown_from]:
        raise ValueError(
            f"control {control.version}: went on from {control.parents[-1:]}; the candidate "
            f"{candidate.version} grew from {grown_from}"
        )
    if control.trained_through != candidate.trained_through:
        raise ValueError(
            f"control {control.version}: trained through {control.trained_through}; the candidate "
            f"through {candidate.trained_through}"
        )


def named_slices(examples: Examples, schema: Schema) -> dict[str, npt.NDArray[np.bool_]]:
    """Parts of the rows that must not break: new users, heavy users, new items."""
    slices = {}
    for table in schema.tables:
        if table.kind is TableKind.ATTRIBUTES:
            continue
        count = examples.table.column(f"{table.role}_impressions_all").fill_null(0).to_numpy()
        if table.role is Role.USER:
            slices["new users"] = count < _NEW_USER_IMPRESSIONS
            slices["heavy users"] = count >= _HEAVY_USER_IMPRESSIONS
        else:
            slices["new items"] = count < _NEW_ITEM_IMPRESSIONS
    return slices


def regret(schema: Schema, examples: Examples, scores: npt.NDArray[np.float32]) -> float | None:
    """Log loss of the scores above that of the true probabilities; None where they are unknown."""
    if not schema.best_log_loss_column:
        return None
    best = examples.table.column(schema.best_log_loss_column).to_numpy()
    mine, least = log_losses(scores, examples.label), log_losses(best, examples.label)
    return float(mine.mean() - least.mean())


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """The decision as plain values, for JSON."""
    decision = evaluation.decision
    champion, control = evaluation.champion, evaluation.control
    return {
        "decision": decision.verdict.value,
        "drill": "spoilt candidate" if evaluation.is_spoilt else None,
        "reasons": decision.reasons,
        "candidate": evaluation.candidate.manifest.version,
        "champion": champion.manifest.version if champion else None,
        "holdout": [evaluation.days[0].isoformat(), evaluation.days[-1].isoformat()],
        "metrics": decision.candidate.to_dict(),
        "champion_metrics": decision.champion.to_dict() if decision.champion else None,
        "log_loss_change": dataclasses.asdict(decision.overall),
        "slices": _plain(decision),
        "control": None if control is None else _control_summary(control),
        "calibration_interval": decision.calibration_interval,
        "regret": evaluation.regret,
    }


def _control_summary(control: Control) -> dict[str, Any]:
    judged = control.decision
    return {
        "version": control.artifact.manifest.version,
        "metrics": judged.champion.to_dict() if judged.champion else None,
        "log_loss_change": dataclasses.asdict(judged.overall),
        "slices": _plain(judged),
    }


def _plain(decision: Decision) -> dict[str, Any]:
    return {name: dataclasses.asdict(value) for name, value in decision.slices.items()}
