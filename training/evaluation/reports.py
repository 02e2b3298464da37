"""The pages of training: a run's, and the gate's report with ``decision.json`` beside it."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from features.pages import site
from features.pages.content import (
    Block,
    Cell,
    Charts,
    Facts,
    Heading,
    Page,
    Prose,
    Table,
    Tone,
)
from features.places import Place, put_whole
from training.evaluation import gate
from training.evaluation.charts import Curve, learning_curve
from training.evaluation.comparison import Against, Calibration, Comparison
from training.evaluation.evaluate import Evaluation
from training.evaluation.gate import Decision
from training.evaluation.gate_page import gate_page
from training.metrics import or_none
from training.registry.family_tree import Member

Values = dict[str, Any]
_FIGURES = {
    "gradient": "gradient, L2 norm",
    "update": "update, share of the weights",
    "dead_units": "dead hidden units, share",
    "fmb_norm": "length of the block's embeddings",
}
"""Of a part of the dense part, with the columns of the page."""


def write_training_page(
    reports: Place,
    dataset: str,
    name: str,
    curve: Curve,
    facts: Mapping[str, Any],
    parts: Sequence[Values],
) -> str:
    """The page of a run, by its checkpoint's name; returns its path below ``reports``."""
    path = PurePath(dataset, "training", name, "index.html")
    page = training_page(dataset, name, curve, facts, parts)
    return site.write(page, reports, path, figures={"curve.json": curve})


def training_page(
    dataset: str, name: str, curve: Curve, facts: Mapping[str, Any], parts: Sequence[Values]
) -> Page:
    """What a run was, its learning curve, and how its parts trained.

    Args:
        dataset: Of the run.
        name: Of its checkpoint.
        curve: What it noted on its way.
        facts: What it was.
        parts: Each ``training.trainer.health.PartHealth`` as plain values, by step.
    """
    shown = [(key.replace("_", " "), value) for key, value in facts.items()]
    charts = learning_curve(curve)
    none = Prose("No learning curve: the run noted no normalised entropy.", Tone.QUIET)
    blocks = [Facts(shown), Charts(charts) if charts else none, *_by_part(parts)]
    return Page(f"{dataset}: training of {name}", blocks)


def _by_part(parts: Sequence[Values]) -> list[Block]:
    """A row for each part: its figures after the last step, those after earlier ones below them."""
    if not parts:
        return []
    by_name: dict[str, list[Values]] = {}
    for one in parts:
        by_name.setdefault(one["part"], []).append(one)
    rows = [
        [f"{name}{', new' * found[-1]['is_new']}", *(_figure(found, key) for key in _FIGURES)]
        for name, found in by_name.items()
    ]
    heading = f"Gradients, updates and dead units after {parts[-1]['step']:,} steps"
    return [Heading(heading), Table(("part", *_FIGURES.values()), rows)]


def _figure(found: Sequence[Values], key: str) -> Cell | None:
    *before, last = [(one["step"], one[key]) for one in found]
    if last[1] is None:
        return None
    note = ", ".join(f"{value:.3g} after {step:,}" for step, value in before if value is not None)
    return Cell(f"{last[1]:.3g}", note=note, is_number=True)


def gate_kind(*, is_trial: bool, is_drill: bool = False) -> str:
    """Folder of a gate's pages: no promotion can read a drill's decision, or mix up the others."""
    return "gate-drill" if is_drill else "gate-upscale" if is_trial else "gate"


def write_gate_page(
    reports: Place, dataset: str, day: str, evaluation: Evaluation, members: Sequence[Member]
) -> str:
    """The gate's report, ``decision.json`` beside it; returns the page's path below ``reports``."""
    kind = gate_kind(is_trial=gate.CONTROL in evaluation.rankers, is_drill=evaluation.is_spoilt)
    path = PurePath(dataset, kind, day, "index.html")
    values = summary(evaluation)
    checkpoint = evaluation.rankers["candidate"].manifest.checkpoint or day
    trained = reports / dataset / "training" / checkpoint / "curve.json"
    page = gate_page(
        f"{dataset}, {day}",
        values,
        scores=evaluation.scores,
        label=evaluation.label,
        curve=json.loads(trained.read_text()) if trained.exists() else [],
        members=members,
    )
    written = site.write(page, reports, path)
    write_decision((reports / path).parent, values)
    return written


def write_decision(folder: Place, values: Mapping[str, Any]) -> None:
    """A decision where a promotion looks for it."""
    put_whole(folder / "decision.json", json.dumps(values, indent=1).encode())


def summary(evaluation: Evaluation) -> Values:
    """The decision as plain values, for JSON; what is not finite is None."""
    decision, base_rate = evaluation.decision, evaluation.base_rate
    answering = gate.CHAMPION if gate.CHAMPION in decision.against else gate.BASE_RATE
    return {
        "decision": decision.verdict.value,
        "drill": "spoilt candidate" if evaluation.is_spoilt else None,
        "reasons": decision.reasons,
        "alerts": [
            {"alert": one.name, "runbook": f"infra/runbooks/{one.name}.md", "what": one.text}
            for one in decision.alerts
        ],
        "notes": [*decision.notes, *evaluation.notes],
        "checks": [{"says": one.verdict.value, "what": one.text} for one in decision.findings],
        "candidate": evaluation.rankers["candidate"].manifest.version,
        "champion": evaluation.champion_version,
        "holdout": [evaluation.days[0].isoformat(), evaluation.days[-1].isoformat()],
        "metrics": decision.candidate.to_dict() if decision.candidate else None,
        "champion_metrics": _metrics(decision, gate.CHAMPION),
        "compared_with": answering,
        **_against(decision.against.get(answering)),
        "anchor": _baseline(evaluation, gate.ANCHOR),
        "control": _baseline(evaluation, gate.CONTROL),
        "calibration": _calibration(evaluation),
        "base_rate": {
            "rate": base_rate.rate,
            "rows": base_rate.rows,
            "days": [base_rate.first_day.isoformat(), base_rate.last_day.isoformat()],
            **_against(decision.against.get(gate.BASE_RATE)),
        },
        "agreement": evaluation.agreement,
        "regret": None if evaluation.regret is None else or_none(evaluation.regret),
    }


def _metrics(decision: Decision, key: str) -> Values | None:
    found = decision.baselines.get(key)
    return found.to_dict() if found else None


def _baseline(evaluation: Evaluation, key: str) -> Values | None:
    if key not in evaluation.rankers:
        return None
    manifest, decision = evaluation.rankers[key].manifest, evaluation.decision
    values = {"version": manifest.version, "day": manifest.day, "metrics": _metrics(decision, key)}
    return {**values, **_against(decision.against.get(key))}


def _against(found: Against | None) -> Values:
    """The comparison with one baseline; None where there is none."""
    return {
        "log_loss_change": _comparison(found.log_loss) if found else None,
        "gauc_change": _comparison(found.gauc) if found and found.gauc else None,
        "gauc_users": found.num_gauc_users if found and found.gauc else None,
        "slices": {n: _comparison(c) for n, c in found.slices.items()} if found else {},
    }


def _comparison(found: Comparison | Calibration) -> Values:
    return {name: or_none(value) for name, value in dataclasses.asdict(found).items()}


def _calibration(evaluation: Evaluation) -> Values | None:
    found, bounds = evaluation.decision.calibration, evaluation.config.calibration
    if found is None:
        return None
    return {**_comparison(found), "bounds": list(bounds)}
