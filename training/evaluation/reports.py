"""Writes the pages of training: a run's, and the gate's report with its decision beside it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from features.pages import site
from features.pages.content import Charts, Facts, Page, Prose, Tone, Value
from training.evaluation.charts import Curve, Scores, learning_curve
from training.evaluation.decisions import summary
from training.evaluation.evaluate import Evaluation
from training.evaluation.gate_page import gate_page
from training.registry.family_tree import Member


def write_training_page(
    reports: Path, dataset: str, name: str, curve: Curve, facts: Mapping[str, Value]
) -> str:
    """The learning curve of a run, by its checkpoint's name; returns its page below ``reports``."""
    path = Path(dataset) / "training" / name / "index.html"
    written = site.write(training_page(dataset, name, curve, facts), reports, path)
    (reports / path).with_name("curve.json").write_text(json.dumps(curve))
    return written


def training_page(dataset: str, name: str, curve: Curve, facts: Mapping[str, Value]) -> Page:
    """What a run was, and its learning curve."""
    shown = [(key.replace("_", " "), value) for key, value in facts.items()]
    charts = learning_curve(curve)
    none = Prose("No learning curve: the run noted no normalised entropy.", Tone.QUIET)
    return Page(
        f"{dataset}: training of {name}", [Facts(shown), Charts(charts) if charts else none]
    )


def gate_kind(*, is_trial: bool, is_drill: bool = False) -> str:
    """Folder of a gate's pages: no promotion can read a drill's decision, or mix up the others."""
    return "gate-drill" if is_drill else "gate-upscale" if is_trial else "gate"


def write_gate_page(
    reports: Path, dataset: str, day: str, evaluation: Evaluation, members: Sequence[Member]
) -> str:
    """The gate's report, ``decision.json`` beside it; returns the page's path below ``reports``."""
    kind = gate_kind(is_trial=evaluation.control is not None, is_drill=evaluation.is_spoilt)
    path = Path(dataset) / kind / day / "index.html"
    values = summary(evaluation)
    checkpoint = evaluation.candidate.manifest.checkpoint or day
    trained = reports / dataset / "training" / checkpoint / "curve.json"
    page = gate_page(
        f"{dataset}, {day}",
        values,
        scores=_scores(evaluation),
        label=evaluation.label,
        curve=json.loads(trained.read_text()) if trained.exists() else [],
        members=members,
    )
    written = site.write(page, reports, path)
    write_decision((reports / path).parent, values)
    return written


def write_decision(folder: Path, values: Mapping[str, object]) -> None:
    """A decision where a promotion looks for it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decision.json").write_text(json.dumps(values, indent=1))


def _scores(evaluation: Evaluation) -> dict[str, Scores]:
    anchor, control = evaluation.anchor, evaluation.control
    scores = {
        "candidate": evaluation.candidate_scores,
        "champion": evaluation.champion_scores,
        "anchor": anchor.scores if anchor else None,
        "control": control.scores if control else None,
    }
    return {name: values for name, values in scores.items() if values is not None}
