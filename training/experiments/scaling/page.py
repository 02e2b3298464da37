"""The page of a study: the advice, a panel an axis, what each resource buys, and the laws.

A panel is the NE against one resource, with law, interval, floor, production and the next step.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from features.pages import figures, site
from features.pages.content import (
    Block,
    Bullets,
    Cell,
    Chart,
    Charts,
    Heading,
    Notice,
    Page,
    Prose,
    Table,
    Tone,
    Value,
)
from features.places import Place, put_whole
from training.experiments.scaling.advice import Regime, Step, signed_percent
from training.experiments.scaling.bootstrap import LEVEL, Interval
from training.experiments.scaling.curve import Curve
from training.experiments.scaling.laws import FloatArray, Form
from training.experiments.scaling.points import AXES
from training.experiments.scaling.study import Study

_TONES = {Regime.GROWING: Tone.GOOD, Regime.SATURATED: Tone.UNSURE, Regime.WORSE: Tone.BAD}
_FLOOR_REACH = 1.0
"""A floor farther below than so many times the drawn range is named in a note, not drawn."""
_STEP_COLUMNS = (
    *("resource", "now", "next", "NE after it, %", "training compute"),
    *("NE per doubling, %", "NE per doubling of compute, %", "above the floor, %"),
)


def write_law_page(reports: Place, name: str, study: Study) -> str:
    """The page of a study and ``law.json`` beside it; returns its path below ``reports``."""
    path = PurePath("scaling", name, "index.html")
    written = site.write(page(study, name=name), reports, path)
    law = json.dumps(study.to_dict(), indent=1)
    put_whole((reports / path).with_name("law.json"), law.encode())
    return written


def page(study: Study, *, name: str = "") -> Page:
    """What to grow next, and what that is read from."""
    axes = [axis for axis in AXES if any(curve.axis == axis for curve in study.curves)]
    steps = {step.axis: step for step in study.advice.steps}
    ranked = sorted(axes, key=lambda axis: [*steps, *axes].index(axis))
    curves = [curve for axis in ranked for curve in study.curves if curve.axis == axis]
    first, *others = study.advice.sentences
    return Page(
        f"{name}: what to grow next" if name else "What to grow next",
        [
            Notice(first, Tone.ACCENT),
            *_production(study),
            Bullets(others),
            Prose(
                "Large dots: means of the runs (small dots). Line: the expected NE, dashed beyond "
                f"what was run. Bands and brackets: {LEVEL:.0%} intervals. Dotted: the floor. "
                "Below each panel: how far the runs are from the line.",
                Tone.QUIET,
            ),
            Charts([Chart(panel_svg(study, axis), AXES[axis].title) for axis in ranked]),
            Heading("What each resource buys"),
            Table(_STEP_COLUMNS, [_step_row(step) for step in study.advice.steps]),
            Heading("The laws"),
            _laws(curves),
            Prose(
                "β and γ are of α·x^(−β) + γ. "
                "The last columns: AICc of the forms, above the least one.",
                Tone.QUIET,
            ),
            *_unknown(study, curves),
        ],
    )


def _production(study: Study) -> list[Block]:
    if not study.current:
        return []
    ne = f", NE {study.current.ne:.4f}" if study.current.ne else ""
    return [Prose(f"From production, {study.current.name}{ne}.")]


def _step_row(step: Step) -> list[Value]:
    floor = step.distance_to_floor
    return [
        Cell(AXES[step.axis].title, note=step.regime, tone=_TONES.get(step.regime, Tone.PLAIN)),
        Cell(short(step.x), is_number=True),
        Cell(f"×{step.factor:.2g}", note=step.recipe or "", is_number=True),
        _within(step.ne_change, signed_percent),
        Cell(f"×{step.compute_factor:.2g}", is_number=True),
        _within(step.doubling, signed_percent),
        None
        if step.compute_doubling is None
        else Cell(signed_percent(step.compute_doubling), is_number=True),
        _within(floor, lambda share: f"{100 * share:.2f}") if floor else None,
    ]


def _within(interval: Interval, text: Callable[[float], str]) -> Cell:
    """A value with its interval."""
    estimate, low, high = map(text, (interval.estimate, interval.low, interval.high))
    return Cell(estimate, note=f"({low} to {high})", is_number=True)


def _laws(curves: Sequence[Curve]) -> Table:
    columns = ("resource", "model", "points, runs", "β", "floor γ")
    return Table(
        (*columns, *(form.formula for form in Form)), [_law_row(curve) for curve in curves]
    )


def _law_row(curve: Curve) -> list[Value]:
    criteria = curve.criteria
    return [
        AXES[curve.axis].title,
        curve.model,
        f"{len(curve.observed.x)}, {len(curve.points)}",
        _within(curve.beta, "{:.4g}".format),
        _within(curve.gamma, "{:.4g}".format) if curve.is_floor_identified else "not identified",
        *(
            Cell(f"{criteria[form]:.1f}", is_number=True) if form in criteria else None
            for form in Form
        ),
    ]


def _unknown(study: Study, curves: Sequence[Curve]) -> list[Block]:
    notes = [f"{AXES[c.axis].title}, {c.model}: {note}" for c in curves for note in c.notes]
    notes += [f"Left out: {reason}." for reason in study.refused]
    return [Heading("What the points cannot tell"), Bullets(notes)] if notes else []


def panel_svg(study: Study, axis: str) -> Markup:
    """The panel as SVG."""
    return figures.svg(lambda: panel(study, axis), label=f"NE against {AXES[axis].title}")


def panel(study: Study, axis: str) -> Figure:
    """NE against one resource, and below it how far the runs are from the law."""
    figure = Figure(figsize=(5.2, 4.1), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    curves = [curve for curve in study.curves if curve.axis == axis]
    steps = [step for step in study.advice.steps if step.axis == axis]
    others = {curve.model for curve in study.curves} - {study.advice.model}
    models = [study.advice.model, *sorted(others)]
    colours = [figures.SERIES[models.index(c.model) % len(figures.SERIES)] for c in curves]
    # A little to the left of the first run, and past the last one and the next step.
    amounts = [curve.observed.x for curve in curves]
    drawn = np.concatenate([*amounts, *([step.x, step.to] for step in steps)])
    x = np.geomspace(drawn.min() / 1.25, drawn.max() * 1.6, 100)
    for curve, colour in zip(curves, colours, strict=True):
        _draw_curve(upper, curve, x, colour)
        _draw_residuals(lower, curve, colour)
    low, high = upper.get_ylim()
    for curve, colour in zip(curves, colours, strict=True):
        low = min(low, _draw_floor(upper, curve, (low, high), colour, is_only=len(curves) == 1))
    upper.set_ylim(low, high)
    for step in steps:
        _draw_step(upper, study, step)
    _finish(upper, lower, curves)
    return figure


def _draw_curve(axes: Axes, curve: Curve, x: FloatArray, colour: str) -> None:
    axes.fill_between(x, *curve.band(x), color=colour, alpha=0.16, linewidth=0)
    last = x <= curve.observed.x[-1] * 1.0001
    axes.plot(x[last], curve.expected(x[last]), color=colour, linewidth=1.6, label=curve.model)
    beyond = np.append(curve.observed.x[-1], x[~last])
    axes.plot(beyond, curve.expected(beyond), color=colour, linewidth=1.6, linestyle=(0, (3, 2)))
    runs = curve.points
    axes.plot([p.x for p in runs], [p.ne for p in runs], "o", color=colour, ms=2.6, alpha=0.45)
    observed = curve.observed
    (dots,) = axes.plot(
        observed.x, observed.means, "o", color=colour, ms=5, mec=figures.BACKGROUND, mew=0.8
    )
    dots.set_gid(figures.MARK)


def _draw_floor(
    axes: Axes, curve: Curve, limits: tuple[float, float], colour: str, *, is_only: bool
) -> float:
    """Draw the floor where it is known and near; returns the lowest NE to show."""
    low, high = limits
    name = "floor" if is_only else f"floor of {curve.model}"
    text: dict[str, Any] = {
        "fontsize": 8,
        "color": colour,
        "transform": axes.get_yaxis_transform(),
        "va": "bottom",
    }
    if not curve.is_floor_identified:
        if is_only:
            axes.text(0.015, low, "floor not identified", **{**text, "color": figures.QUIET})
        return low
    gamma = curve.gamma
    if gamma.low < low - _FLOOR_REACH * (high - low):
        axes.text(0.015, low, f"{name} at {gamma.estimate:.4f} ↓", **text)
        return low
    axes.axhspan(gamma.low, gamma.high, color=colour, alpha=0.07, linewidth=0)
    axes.axhline(gamma.estimate, color=colour, linewidth=0.9, linestyle=(0, (1, 1.6)))
    axes.text(0.015, gamma.estimate, f"{name} {gamma.estimate:.4f}", **text)
    return gamma.low - 0.06 * (high - gamma.low)


def _draw_step(axes: Axes, study: Study, step: Step) -> None:
    """Production, and where the next step is expected to land."""
    curve = next(c for c in study.curves if (c.axis, c.model) == (step.axis, step.model))
    start = float(curve.expected([step.x])[0])
    is_next = step is study.advice.next
    colour = figures.ACCENT if is_next else figures.QUIET
    below = [[step.ne.estimate - step.ne.low], [step.ne.high - step.ne.estimate]]
    axes.errorbar(
        *([step.to], [step.ne.estimate]),
        yerr=np.maximum(below, 0),
        fmt="o",
        color=colour,
        markerfacecolor=figures.BACKGROUND,
        markersize=6,
        capsize=3,
        zorder=5,
        label="next" if is_next else "one step",
    )
    arrow = {"arrowstyle": "->", "color": colour, "shrinkA": 3, "shrinkB": 5}
    arrow |= {"connectionstyle": "arc3,rad=-0.3", "linewidth": 1.4 if is_next else 0.9}
    axes.annotate("", (step.to, step.ne.estimate), (step.x, start), arrowprops=arrow, zorder=4)
    if study.current:
        ne = study.current.ne or start
        axes.plot(
            *([step.x], [ne]),
            "D",
            color=figures.TEXT,
            ms=5.5,
            mec=figures.BACKGROUND,
            mew=0.8,
            zorder=6,
            label="production",
        )


def _draw_residuals(axes: Axes, curve: Curve, colour: str) -> None:
    law = curve.expected(curve.observed.x)[curve.observed.index]
    percent_off = 100 * (np.exp(curve.observed.log_loss) / law - 1)
    axes.plot(
        curve.observed.x[curve.observed.index], percent_off, "o", color=colour, ms=2.6, alpha=0.55
    )


def _finish(upper: Axes, lower: Axes, curves: list[Curve]) -> None:
    upper.set_xscale("log")
    upper.set_ylabel("normalised entropy")
    upper.yaxis.set_major_locator(MaxNLocator(5))
    handles, labels = upper.get_legend_handles_labels()
    upper.legend(handles, labels, frameon=False, fontsize=8, loc="upper right")
    lower.axhline(0, color=figures.LINE, linewidth=0.8)
    reach = 1.15 * max(map(abs, lower.get_ylim()))
    lower.set(ylim=(-reach, reach), ylabel="off, %", xlabel=curves[0].unit)
    lower.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    lower.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    lower.xaxis.set_major_formatter(FuncFormatter(short))
    lower.xaxis.set_minor_formatter(NullFormatter())


def short(value: float, _: Any = None) -> str:
    """``2M`` for 2,000,000."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
