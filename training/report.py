"""Pages for people: the training curve of a run, the gate's report, the family of the rankers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.figure import Figure

from training.decisions import summary
from training.evaluation import Evaluation
from training.family import Member, lanes
from training.gate import BASE_RATE
from training.templates import PAGES, markup

_CALIBRATION_BINS = 10


def write_training_page(
    reports: Path, dataset: str, name: str, curve: list[dict[str, float]], facts: dict[str, Any]
) -> str:
    """The learning curve of a run, by its checkpoint's name; returns its page below ``reports``."""
    page = Path(dataset) / "training" / name / "index.html"
    folder = (reports / page).parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "curve.json").write_text(json.dumps(curve))
    content = PAGES.get_template("training.html").render(
        name=name, dataset=dataset, facts=facts, curve=markup(_curve_figure(curve))
    )
    (reports / page).write_text(content)
    return str(page)


def gate_kind(*, is_trial: bool, is_drill: bool = False) -> str:
    """Folder of a gate's pages: no promotion can read a drill's decision, or mix up the others."""
    return "gate-drill" if is_drill else "gate-upscale" if is_trial else "gate"


def write_gate_page(
    reports: Path, dataset: str, day: str, evaluation: Evaluation, members: Sequence[Member]
) -> str:
    """The gate's report, ``decision.json`` beside it; returns the page's path below ``reports``."""
    kind = gate_kind(is_trial=evaluation.control is not None, is_drill=evaluation.is_spoilt)
    page = Path(dataset) / kind / day / "index.html"
    folder = (reports / page).parent
    folder.mkdir(parents=True, exist_ok=True)
    values = summary(evaluation)
    candidate = evaluation.candidate.manifest
    trained = reports / dataset / "training" / (candidate.checkpoint or day) / "curve.json"
    curve = json.loads(trained.read_text()) if trained.exists() else []
    models, rivals = _compared(values)
    content = PAGES.get_template("gate.html").render(
        day=day,
        dataset=dataset,
        s=values,
        keys=("log_loss", "ne", "auc", "gauc", "calibration"),
        models=models,
        rivals=rivals,
        calibration=markup(_calibration_figure(evaluation)),
        curve=markup(_curve_figure(curve)),
        members=members,
        tree=_tree(members),
    )
    (reports / page).write_text(content)
    write_decision(folder, values)
    return str(page)


def _compared(values: dict[str, Any]) -> tuple[list[tuple[str, Any]], list[dict[str, Any]]]:
    """Metrics of each model that has some, and the comparison with each rival."""
    rivals = [("the " + values["compared_with"].replace("_", " "), values)]
    models = [("candidate", values["metrics"]), ("champion", values["champion_metrics"])]
    for key, name in (("anchor", "the anchor"), ("control", "the un-grown control")):
        if values[key]:
            models.append((key, values[key]["metrics"]))
            rivals.append((name, values[key]))
    if values["compared_with"] != BASE_RATE:
        rivals.append(("the base rate", values["base_rate"]))
    told = [
        {
            "name": name,
            "losses": [("all", found["log_loss_change"]), *found["slices"].items()],
            "gauc": found["gauc_change"],
            "gauc_users": found["gauc_users"],
        }
        for name, found in rivals
        if found["log_loss_change"]
    ]
    return [(name, metrics) for name, metrics in models if metrics], told


def write_decision(folder: Path, values: dict[str, Any]) -> None:
    """A decision where a promotion looks for it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decision.json").write_text(json.dumps(values, indent=1))


def write_family_page(reports: Path, dataset: str, members: Sequence[Member]) -> str:
    """The family's drawing and table; returns the page's path below ``reports``."""
    page = Path(dataset) / "family" / "index.html"
    (reports / page).parent.mkdir(parents=True, exist_ok=True)
    template = PAGES.get_template("family.html")
    content = template.render(dataset=dataset, members=members, tree=_tree(members))
    (reports / page).write_text(content)
    return str(page)


def _tree(members: Sequence[Member]) -> Any:
    """The family as inline SVG: generations to the right, a lane for each branch."""
    at = {
        name: (50 + 70 * column, 30 + 72 * lane) for name, (column, lane) in lanes(members).items()
    }
    lane_of = {name: y for name, (_, y) in at.items()}
    edges = [
        dict(zip(("x1", "y1", "x2", "y2"), (*at[member.parent], *at[member.name]), strict=True))
        | {"grown": bool(member.grown), "gone": member.generations_gone}
        for member in members
        if member.parent
    ]
    nodes = [
        {
            "member": member,
            "x": at[member.name][0],
            "y": at[member.name][1],
            "is_first": lane_of[member.name] != lane_of.get(member.parent or ""),
        }
        for member in members
    ]
    drawing = {
        "width": max((x for x, _ in at.values()), default=0) + 130,
        "height": max((y for _, y in at.values()), default=0) + 45,
        "nodes": nodes,
        "edges": edges,
    }
    return Markup(PAGES.get_template("family.svg").render(d=drawing))  # escaped by the template


def _curve_figure(curve: list[dict[str, float]]) -> Figure:
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([p["step"] for p in curve], [p.get("ne", np.nan) for p in curve], color="#1f5fa8")
    axes.axhline(1, color="#999", linewidth=0.8)
    axes.set(xlabel="step", ylabel="normalised entropy, window", title="Training")
    return figure


def _calibration_figure(evaluation: Evaluation) -> Figure:
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999", linewidth=0.8)
    scored = {"candidate": evaluation.candidate_scores, "champion": evaluation.champion_scores}
    if evaluation.control is not None:
        scored["control"] = evaluation.control.scores
    for name, scores in scored.items():
        if scores is not None:
            axes.plot(*reliability(scores, evaluation.label), marker="o", markersize=3, label=name)
    axes.set(xlabel="mean prediction", ylabel="share of positives", title="Calibration by decile")
    axes.legend(frameon=False)
    return figure


def reliability(
    scores: npt.NDArray[np.float32], label: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean prediction and share of positives in ten equal parts of the rows, by prediction."""
    parts = np.array_split(np.argsort(scores, kind="stable"), _CALIBRATION_BINS)
    filled = [rows for rows in parts if len(rows)]
    means = [np.float64(scores[rows]).mean() for rows in filled]
    return np.array(means), np.array([label[rows].mean() for rows in filled])
