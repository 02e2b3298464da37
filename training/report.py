"""Pages for people: the training curve of a run, and the gate's one-page report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from training.evaluation import Evaluation, summary
from training.templates import PAGES, markup

_CALIBRATION_BINS = 10


def write_training_page(
    reports: Path, dataset: str, day: str, curve: list[dict[str, float]], facts: dict[str, Any]
) -> str:
    """The learning curve of one run; returns the page's path below ``reports``."""
    page = Path(dataset) / "training" / day / "index.html"
    folder = (reports / page).parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "curve.json").write_text(json.dumps(curve))
    content = PAGES.get_template("training.html").render(
        day=day, dataset=dataset, facts=facts, curve=markup(_curve_figure(curve))
    )
    (reports / page).write_text(content)
    return str(page)


def write_gate_page(reports: Path, dataset: str, day: str, evaluation: Evaluation) -> str:
    """The gate's report and ``decision.json`` beside it; returns the page's path below ``reports``.

    A drill has pages of its own, so that no promotion can read its decision.
    """
    kind = "gate-drill" if evaluation.is_spoilt else "gate"
    page = Path(dataset) / kind / day / "index.html"
    folder = (reports / page).parent
    folder.mkdir(parents=True, exist_ok=True)
    values = summary(evaluation)
    trained = reports / dataset / "training" / day / "curve.json"
    curve = json.loads(trained.read_text()) if trained.exists() else []
    models = [("candidate", values["metrics"])]
    if values["champion_metrics"]:
        models.append(("champion", values["champion_metrics"]))
    content = PAGES.get_template("gate.html").render(
        day=day,
        dataset=dataset,
        s=values,
        keys=("log_loss", "ne", "auc", "gauc", "calibration"),
        models=models,
        comparisons=[("all", values["log_loss_change"]), *values["slices"].items()],
        calibration=markup(_calibration_figure(evaluation)),
        curve=markup(_curve_figure(curve)),
        family=[*evaluation.candidate.manifest.parents, evaluation.candidate.manifest.version],
    )
    (reports / page).write_text(content)
    _write_json(folder / "decision.json", values)
    return str(page)


def write_decision(reports: Path, dataset: str, day: str, values: dict[str, Any]) -> None:
    """A decision that needed no comparison, where a promotion looks for it."""
    _write_json(reports / dataset / "gate" / day / "decision.json", values)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1))


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
