"""Charts of training: a run's learning curve, and predicted against observed rates."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from features.pages import figures
from features.pages.content import Chart
from training.bootstrap import FloatArray

Curve = Sequence[Mapping[str, float]]
"""What a run noted at some of its steps: ``step``, and ``ne`` where it was measured."""
Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

_CALIBRATION_BINS = 10


def learning_curve(curve: Curve) -> list[Chart]:
    """The chart of a run; none where no NE was measured, which cannot be drawn."""
    points = [point for point in curve if np.isfinite(point.get("ne", np.nan))]
    title = "Learning curve"
    return [figures.chart(title, lambda axes: _draw_curve(axes, points))] if points else []


def calibration(scores: Mapping[str, Scores], label: Labels) -> list[Chart]:
    """Predicted and seen, by decile of each ranker's prediction.

    Args:
        scores: (rows,) of each ranker, by its name; what is not finite is left out.
        label: (rows,) 0 or 1.
    """
    drawn = {name: reliability(values, label) for name, values in scores.items()}
    drawn = {name: (predicted, seen) for name, (predicted, seen) in drawn.items() if len(seen)}
    title = "Calibration by decile"
    return [figures.chart(title, lambda axes: _draw_calibration(axes, drawn))] if drawn else []


def reliability(
    scores: Scores, label: Labels, weight: FloatArray | None = None
) -> tuple[list[float], list[float]]:
    """Mean prediction and share of positives in ten equal parts of the rows, by prediction.

    Args:
        scores: (rows,); what is not finite is left out.
        label: (rows,) 0 or 1.
        weight: (rows,) of each in its part's means; None: all alike.
    """
    finite = np.isfinite(scores)
    scores, label = scores[finite], label[finite]
    times = np.ones(len(scores)) if weight is None else weight[finite]
    parts = np.array_split(np.argsort(scores, kind="stable"), _CALIBRATION_BINS)
    filled = [rows for rows in parts if len(rows)]
    means = [
        [float(np.average(np.float64(of[rows]), weights=times[rows])) for rows in filled]
        for of in (scores, label)
    ]
    return means[0], means[1]


def _draw_curve(axes: Axes, points: Curve) -> None:
    axes.axhline(1, color=figures.LINE, linewidth=0.8)
    axes.annotate("the base rate", (0.02, 1), xycoords=("axes fraction", "data"), va="bottom")
    steps, values = [p["step"] for p in points], [p["ne"] for p in points]
    figures.plot(axes, steps, values, colour=figures.SERIES[0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True) if steps[1:] else FixedLocator(steps))
    axes.set(xlabel="step", ylabel="normalised entropy, window")


def _draw_calibration(axes: Axes, drawn: Mapping[str, tuple[list[float], list[float]]]) -> None:
    axes.plot([0, 1], [0, 1], color=figures.LINE, linewidth=0.8)
    for (name, (predicted, seen)), colour in zip(drawn.items(), figures.SERIES, strict=False):
        figures.plot(axes, predicted, seen, colour=colour, label=name)
    axes.set(xlabel="mean prediction", ylabel="share of positives")
    axes.legend(frameon=False)
