"""Charts of quality: figures over days, by hour, by decile of the score, and by age."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from features.pages import figures
from features.pages.content import Chart
from training.evaluation.charts import Labels, reliability
from training.monitoring.quality.age import AgeCurve
from training.monitoring.quality.figures import Figure
from training.monitoring.quality.scored_rows import ScoredRows

Series = Mapping[str, Sequence[tuple[str, Figure]]]
"""By name, places on the axis (days, hours) in order, with a figure at each."""
_MOST_LABELS = 6


def over_places(title: str, series: Series, *, level: float | None, axis: str) -> list[Chart]:
    """Lines with their intervals; none where nothing is known.

    Args:
        title: Of the chart, and its vertical axis.
        series: What is drawn.
        level: A line across, such as calibration's 1; None: there is none.
        axis: What the places are.
    """
    known = {
        name: [(place, one) for place, one in points if one["value"] is not None]
        for name, points in series.items()
    }
    known = {name: points for name, points in known.items() if points}
    if not known:
        return []
    places = sorted({place for points in known.values() for place, _ in points})
    return [
        figures.chart(
            title, lambda axes: _lines(axes, title, known, places, level=level, axis=axis)
        )
    ]


def by_decile(measured: Mapping[str, tuple[ScoredRows, Labels]]) -> list[Chart]:
    """Mean score and share of positives in ten parts of each version's rows, by score."""
    drawn = {
        name: reliability(rows.score, label, rows.weight)
        for name, (rows, label) in measured.items()
        if len(rows)
    }
    title = "Calibration by decile"
    return [figures.chart(title, lambda axes: _deciles(axes, drawn))] if drawn else []


def by_age(curve: AgeCurve) -> list[Chart]:
    """NE over that of age 0, and the slope with its interval; none where it is not known."""
    title = "NE by age of the version"
    return [figures.chart(title, lambda axes: _ages(axes, curve))] if curve.ages else []


def _lines(
    axes: Axes,
    title: str,
    series: Series,
    places: Sequence[str],
    *,
    level: float | None,
    axis: str,
) -> None:
    if level is not None:
        axes.axhline(level, color=figures.LINE, linewidth=0.8)
    for (name, points), colour in zip(series.items(), figures.SERIES, strict=False):
        x = [places.index(place) for place, _ in points]
        _band(axes, x, [one for _, one in points], colour=colour)
        values = [one["value"] or 0.0 for _, one in points]
        figures.plot(axes, x, values, colour=colour, label=name)
    shown = range(0, len(places), -(-len(places) // _MOST_LABELS))
    axes.xaxis.set_major_locator(FixedLocator(list(shown)))
    axes.set_xticks(list(shown), [places[number] for number in shown])
    axes.set(xlabel=axis, ylabel=title)
    axes.legend(frameon=False)


def _band(axes: Axes, x: Sequence[float], points: Sequence[Figure], *, colour: str) -> None:
    """The intervals that are known, as a line at each point."""
    for at, one in zip(x, points, strict=True):
        if one["low"] is not None and one["high"] is not None:
            axes.plot([at, at], [one["low"], one["high"]], color=colour, linewidth=0.8)


def _deciles(axes: Axes, drawn: Mapping[str, tuple[list[float], list[float]]]) -> None:
    highest = max(max(predicted + seen) for predicted, seen in drawn.values())
    axes.plot([0, highest], [0, highest], color=figures.LINE, linewidth=0.8)
    for (name, (predicted, seen)), colour in zip(drawn.items(), figures.SERIES, strict=False):
        figures.plot(axes, predicted, seen, colour=colour, label=name)
    axes.set(xlabel="mean score", ylabel="share of positives")
    axes.legend(frameon=False)


def _ages(axes: Axes, curve: AgeCurve) -> None:
    axes.axhline(1, color=figures.LINE, linewidth=0.8)
    ages = np.array([0, *curve.ages])
    for slope, style in ((curve.daily_loss, "-"), (curve.low, "--"), (curve.high, "--")):
        if slope is not None:
            axes.plot(ages, (1 + slope) ** ages, style, color=figures.QUIET, linewidth=0.8)
    figures.plot(axes, curve.ages, curve.ratios, colour=figures.SERIES[0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="age, days", ylabel="NE, over that at age 0")
