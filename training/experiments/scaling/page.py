"""The page of a study: the advice, a panel an axis, what each resource buys, and the laws.

A panel is the NE against one resource, with law, interval, floor, production and the next step.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
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
from features.places import Place
from training.experiments.scaling.advice import Regime, Step, Study, signed_percent
from training.experiments.scaling.bootstrap import LEVEL, Interval
from training.experiments.scaling.curve import Curve
from training.experiments.scaling.laws import FloatArray, Form
from training.experiments.scaling.points import AXES

_TONES = {Regime.GROWING: Tone.GOOD, Regime.SATURATED: Tone.UNSURE, Regime.WORSE: Tone.BAD}
_FLOOR_REACH = 1.0
"""A floor farther below than so many times the drawn range is named in a note, not drawn."""
_EDGE: dict[str, Any] = {"mec": figures.BACKGROUND, "mew": 0.8}
_STEP_COLUMNS = (
    *("resource", "now", "next", "NE after it, %", "training compute"),
    *("NE per doubling, %", "NE per doubling of compute, %", "above the floor, %"),
)
_LAW_COLUMNS = (
    *("resource", "model", "points, runs", "β", "floor γ"),
    *(form.formula for form in Form),
)


def write_law_page(reports: Place, name: str, study: Study) -> str:
    """The page of a study and ``law.json`` beside it; returns its path below ``reports``."""
    path, law = f"scaling/{name}/index.html", study.to_dict()
    return site.write(page(study, name=name), reports, path, figures={"law.json": law})


def page(study: Study, *, name: str) -> Page:
    """What to grow next, and what that is read from."""
    steps = {step.axis: step for step in study.advice.steps}
    axes = {curve.axis for curve in study.curves}
    ranked = [*steps, *(axis for axis in AXES if axis in axes - steps.keys())]
    curves = [curve for axis in ranked for curve in study.curves if curve.axis == axis]
    first, *others = study.advice.sentences
    blocks: list[Block] = [Notice(first, Tone.ACCENT)]
    if current := study.current:
        ne = f", NE {current.ne:.4f}" if current.ne else ""
        blocks.append(Prose(f"From production, {current.name}{ne}."))
    blocks += [
        Bullets(others),
        Prose(
            "Large dots: means of the runs (small dots). Line: the expected NE, dashed beyond "
            f"what was run. Bands and brackets: {LEVEL:.0%} intervals. Dotted: the floor. "
            "Below each panel: how far the runs are from the line.",
            Tone.QUIET,
        ),
        Charts([_chart(study, axis) for axis in ranked]),
        Heading("What each resource buys"),
        Table(_STEP_COLUMNS, [_step_row(step) for step in study.advice.steps]),
        Heading("The laws"),
        Table(_LAW_COLUMNS, [_law_row(curve) for curve in curves]),
        Prose(
            "β and γ are of α·x^(−β) + γ. "
            "The last columns: AICc of the forms, above the least one.",
            Tone.QUIET,
        ),
    ]
    notes = [f"{AXES[c.axis].title}, {c.model}: {note}" for c in curves for note in c.notes]
    notes += [f"Left out: {reason}." for reason in study.refused]
    if notes:
        blocks += [Heading("What the points cannot tell"), Bullets(notes)]
    return Page(f"{name}: what to grow next", blocks)


def _step_row(step: Step) -> list[Value]:
    floor, doubling = step.distance_to_floor, step.compute_doubling
    return [
        Cell(AXES[step.axis].title, note=step.regime, tone=_TONES.get(step.regime, Tone.PLAIN)),
        _number(short(step.x)),
        _number(f"×{step.factor:.2g}", note=step.recipe or ""),
        _within(step.ne_change, signed_percent),
        _number(f"×{step.compute_factor:.2g}"),
        _within(step.doubling, signed_percent),
        None if doubling is None else _number(signed_percent(doubling)),
        _within(floor, lambda share: f"{100 * share:.2f}") if floor else None,
    ]


def _law_row(curve: Curve) -> list[Value]:
    criteria = curve.criteria
    return [
        AXES[curve.axis].title,
        curve.model,
        f"{len(curve.observed.x)}, {len(curve.points)}",
        _within(curve.beta, "{:.4g}".format),
        _within(curve.gamma, "{:.4g}".format) if curve.is_floor_identified else "not identified",
        *(_number(f"{criteria[form]:.1f}") if form in criteria else None for form in Form),
    ]


def _within(interval: Interval, text: Callable[[float], str]) -> Cell:
    """A value with its interval."""
    estimate, low, high = map(text, (interval.estimate, interval.low, interval.high))
    return _number(estimate, note=f"({low} to {high})")


def _number(text: str, *, note: str = "") -> Cell:
    return Cell(text, note=note, is_number=True)


def _chart(study: Study, axis: str) -> Chart:
    title = AXES[axis].title
    return Chart(figures.svg(lambda: panel(study, axis), label=f"NE against {title}"), title)


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
    (dots,) = axes.plot(observed.x, observed.means, "o", color=colour, ms=5, **_EDGE)
    dots.set_gid(figures.MARK)


def _draw_floor(
    axes: Axes, curve: Curve, limits: tuple[float, float], colour: str, *, is_only: bool
) -> float:
    """Draw the floor where it is known and near; returns the lowest NE to show."""
    (low, high), gamma = limits, curve.gamma
    is_known, name = curve.is_floor_identified, "floor" if is_only else f"floor of {curve.model}"
    is_near = gamma.low >= low - _FLOOR_REACH * (high - low)
    if is_known and is_near:
        axes.axhspan(gamma.low, gamma.high, color=colour, alpha=0.07, linewidth=0)
        axes.axhline(gamma.estimate, color=colour, linewidth=0.9, linestyle=(0, (1, 1.6)))
        at, text = gamma.estimate, f"{name} {gamma.estimate:.4f}"
    elif is_known:
        at, text = low, f"{name} at {gamma.estimate:.4f} ↓"
    elif is_only:
        at, text, colour = low, "floor not identified", figures.QUIET
    else:
        return low
    over = axes.get_yaxis_transform()
    axes.text(0.015, at, text, fontsize=8, color=colour, va="bottom", transform=over)
    return gamma.low - 0.06 * (high - gamma.low) if is_known and is_near else low


def _draw_step(axes: Axes, study: Study, step: Step) -> None:
    """Production, and where the next step is expected to land."""
    curve = next(c for c in study.curves if (c.axis, c.model) == (step.axis, step.model))
    start, ne = float(curve.expected([step.x])[0]), step.ne
    is_next = step is study.advice.next
    colour = figures.ACCENT if is_next else figures.QUIET
    axes.errorbar(
        *([step.to], [ne.estimate]),
        yerr=np.maximum([[ne.estimate - ne.low], [ne.high - ne.estimate]], 0),
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
    axes.annotate("", (step.to, ne.estimate), (step.x, start), arrowprops=arrow, zorder=4)
    if study.current:
        at = study.current.ne or start
        style = {"color": figures.TEXT, "ms": 5.5, "zorder": 6, **_EDGE}
        axes.plot([step.x], [at], "D", label="production", **style)


def _draw_residuals(axes: Axes, curve: Curve, colour: str) -> None:
    observed = curve.observed
    law = curve.expected(observed.x)[observed.index]
    percent_off = 100 * (np.exp(observed.log_loss) / law - 1)
    axes.plot(observed.x[observed.index], percent_off, "o", color=colour, ms=2.6, alpha=0.55)


def _finish(upper: Axes, lower: Axes, curves: list[Curve]) -> None:
    upper.set_xscale("log")
    upper.set_ylabel("normalised entropy")
    upper.yaxis.set_major_locator(MaxNLocator(5))
    upper.legend(frameon=False, fontsize=8, loc="upper right")
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
