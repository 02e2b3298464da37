"""Pages of training: the learning curve of a run, and the gate's report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from features.pages import figures, site
from features.pages.content import (
    Block,
    Bullets,
    Chart,
    Charts,
    Facts,
    Heading,
    Notice,
    Page,
    Prose,
    Table,
    Tone,
    decimal,
    percent,
)
from training.evaluation import Evaluation, summary
from training.family import Member
from training.family_page import family_blocks

_CALIBRATION_BINS = 10
_METRICS = ("log_loss", "ne", "auc", "gauc", "calibration")
_TONES = {"promote": Tone.GOOD, "hold": Tone.UNSURE, "refuse": Tone.BAD}
_SIZE = (4.6, 3)
"""Of a chart, in inches at the size of the page's letters."""

Curve = Sequence[Mapping[str, float]]
Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def write_training_page(
    reports: Path, dataset: str, name: str, curve: Curve, facts: Mapping[str, Any]
) -> str:
    """The learning curve of a run, by its checkpoint's name; returns its page below ``reports``."""
    path = Path(dataset) / "training" / name / "index.html"
    page = training_page(dataset, name, curve, facts)
    written = site.write(page, reports, path)
    (reports / path).with_name("curve.json").write_text(json.dumps(curve))
    return written


def training_page(dataset: str, name: str, curve: Curve, facts: Mapping[str, Any]) -> Page:
    """What a run was, and its learning curve."""
    told = [(key.replace("_", " "), value) for key, value in facts.items()]
    return Page(f"{dataset}: training of {name}", [Facts(told), _curve_block(curve)])


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


def write_decision(folder: Path, values: Mapping[str, Any]) -> None:
    """A decision where a promotion looks for it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decision.json").write_text(json.dumps(values, indent=1))


def gate_page(
    title: str,
    values: Mapping[str, Any],
    *,
    scores: Mapping[str, Scores],
    label: Labels,
    curve: Curve,
    members: Sequence[Member],
) -> Page:
    """The gate's report.

    Args:
        title: Data set and day.
        values: The decision, as ``evaluation.summary`` tells it.
        scores: (rows,) probabilities of each ranker, by what the page calls it.
        label: (rows,) of the holdout.
        curve: How the candidate was trained.
        members: The family, of which the candidate is one.
    """
    return Page(
        title,
        [
            *_drill(values),
            Bullets(values["reasons"]),
            _who(values),
            _metrics(values),
            *_regret(values),
            *_comparisons(values),
            Charts(
                [
                    _chart("Calibration by decile", lambda: _calibration_figure(scores, label)),
                    *_curve_chart(curve),
                ]
            ),
            Heading("Family"),
            *family_blocks(members),
        ],
        verdict=values["decision"],
        tone=_TONES.get(values["decision"], Tone.PLAIN),
    )


def _drill(values: Mapping[str, Any]) -> list[Block]:
    if not values["drill"]:
        return []
    scores = "Its scores were dealt out to other rows on purpose."
    return [Notice(f"Drill: {values['drill']}. {scores}", Tone.ACCENT)]


def _who(values: Mapping[str, Any]) -> Prose:
    control = values["control"]
    names = f"Candidate {values['candidate']}, champion {values['champion'] or 'none'}"
    if control:
        names += f", un-grown control {control['version']}"
    first, last = values["holdout"]
    told = f"{names}; judged on {first} to {last}, on which none has trained."
    if control:
        told += (
            " Candidate and control go on from one checkpoint, which grew for the candidate, and "
            "trained on the same days. The candidate costs more to serve, so it must be shown to "
            "be better than both."
        )
    return Prose(told)


def _metrics(values: Mapping[str, Any]) -> Table:
    models = [("candidate", values["metrics"])]
    if values["champion_metrics"]:
        models.append(("champion", values["champion_metrics"]))
    if values["control"]:
        models.append(("control", values["control"]["metrics"]))
    return Table(
        ("", "rows", "log loss", "NE", "AUC", "GAUC", "calibration"),
        [(name, m["rows"], *(decimal(m[key]) for key in _METRICS)) for name, m in models],
    )


def _regret(values: Mapping[str, Any]) -> list[Block]:
    if values["regret"] is None:
        return []
    return [Prose(f"Regret to the best log loss that is possible: {values['regret']:.4f}.")]


def _comparisons(values: Mapping[str, Any]) -> list[Block]:
    """A table for each rival: all rows, then the slices."""
    rivals = [("the champion" if values["champion"] else "the base rate", values)]
    if values["control"]:
        rivals.append(("the un-grown control", values["control"]))
    blocks: list[Block] = []
    for rival, compared in rivals:
        parts = [("all", compared["log_loss_change"]), *compared["slices"].items()]
        rows = [
            (name, part["rows"], percent(part["change"]), _interval(part)) for name, part in parts
        ]
        columns = ("rows of", "rows", "change", "95 % interval, users resampled")
        blocks += [Heading(f"Log loss against {rival}"), Table(columns, rows)]
    return blocks


def _interval(compared: Mapping[str, float]) -> str:
    return f"{compared['low']:+.2%} to {compared['high']:+.2%}"


def _scores(evaluation: Evaluation) -> dict[str, Scores]:
    scores = {"candidate": evaluation.candidate_scores, "champion": evaluation.champion_scores}
    if evaluation.control is not None:
        scores["control"] = evaluation.control.scores
    return {name: values for name, values in scores.items() if values is not None}


def _curve_block(curve: Curve) -> Block:
    chart = _curve_chart(curve)
    if not chart:
        return Prose("No learning curve: the run noted no normalised entropy.", Tone.QUIET)
    return Charts(chart)


def _curve_chart(curve: Curve) -> list[Chart]:
    """The learning curve; a point without a measured NE cannot be drawn."""
    points = [point for point in curve if np.isfinite(point.get("ne", np.nan))]
    return [_chart("Learning curve", lambda: _curve_figure(points))] if points else []


def _chart(title: str, draw: Any) -> Chart:
    return Chart(figures.svg(draw, label=title), title)


def _curve_figure(points: Curve) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.axhline(1, color=figures.LINE, linewidth=0.8)
    axes.annotate("the base rate", (0.02, 1), xycoords=("axes fraction", "data"), va="bottom")
    steps, values = [p["step"] for p in points], [p["ne"] for p in points]
    figures.plot(axes, steps, values, colour=figures.SERIES[0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True) if steps[1:] else FixedLocator(steps))
    axes.set(xlabel="step", ylabel="normalised entropy, window")
    return figure


def _calibration_figure(scores: Mapping[str, Scores], label: Labels) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=figures.LINE, linewidth=0.8)
    for (name, predicted), colour in zip(scores.items(), figures.SERIES, strict=False):
        figures.plot(axes, *reliability(predicted, label), colour=colour, label=name)
    axes.set(xlabel="mean prediction", ylabel="share of positives")
    axes.legend(frameon=False)
    return figure


def reliability(
    scores: Scores, label: Labels
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean prediction and share of positives in ten equal parts of the rows, by prediction."""
    parts = np.array_split(np.argsort(scores, kind="stable"), _CALIBRATION_BINS)
    filled = [rows for rows in parts if len(rows)]
    means = [np.float64(scores[rows]).mean() for rows in filled]
    return np.array(means), np.array([label[rows].mean() for rows in filled])
