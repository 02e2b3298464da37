"""The page of a study: the advice, a panel an axis, what each resource buys, and the laws."""

import json
from collections.abc import Sequence
from pathlib import Path

from features.pages import site
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
from training.experiments.scaling.advice import Regime, Step, signed_percent
from training.experiments.scaling.bootstrap import LEVEL, Interval
from training.experiments.scaling.curve import Curve
from training.experiments.scaling.laws import Form
from training.experiments.scaling.panel import panel_svg, short
from training.experiments.scaling.points import AXES
from training.experiments.scaling.study import Study

_TONES = {Regime.GROWING: Tone.GOOD, Regime.SATURATED: Tone.UNSURE, Regime.WORSE: Tone.BAD}
_STEP_COLUMNS = (
    *("resource", "now", "next", "NE after it, %", "training compute"),
    *("NE per doubling, %", "NE per doubling of compute, %", "above the floor, %"),
)


def write_law_page(reports: Path, name: str, study: Study) -> str:
    """The page of a study and ``law.json`` beside it; returns its path below ``reports``."""
    path = Path("scaling") / name / "index.html"
    written = site.write(page(study, name=name), reports, path)
    (reports / path).with_name("law.json").write_text(json.dumps(study.to_dict(), indent=1))
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
        _change(step.ne_change),
        Cell(f"×{step.compute_factor:.2g}", is_number=True),
        _change(step.doubling),
        None
        if step.compute_doubling is None
        else Cell(signed_percent(step.compute_doubling), is_number=True),
        _within(floor, "{:.2f}", times=100) if floor else None,
    ]


def _change(interval: Interval) -> Cell:
    """A relative change with its interval."""
    low, high = signed_percent(interval.low), signed_percent(interval.high)
    return Cell(signed_percent(interval.estimate), note=f"({low} to {high})", is_number=True)


def _within(interval: Interval, form: str, *, times: float = 1) -> Cell:
    """A value with its interval."""
    estimate, low, high = (
        form.format(times * value) for value in (interval.estimate, interval.low, interval.high)
    )
    return Cell(estimate, note=f"({low} to {high})", is_number=True)


def _laws(curves: Sequence[Curve]) -> Table:
    forms = list(Form)
    return Table(
        ("resource", "model", "points, runs", "β", "floor γ", *(form.formula for form in forms)),
        [_law_row(curve, forms) for curve in curves],
    )


def _law_row(curve: Curve, forms: Sequence[Form]) -> list[Value]:
    criteria = curve.criteria
    return [
        AXES[curve.axis].title,
        curve.model,
        f"{len(curve.observed.x)}, {len(curve.points)}",
        _within(curve.beta, "{:.4g}"),
        _within(curve.gamma, "{:.4g}") if curve.is_floor_identified else "not identified",
        *(
            Cell(f"{criteria[form]:.1f}", is_number=True) if form in criteria else None
            for form in forms
        ),
    ]


def _unknown(study: Study, curves: Sequence[Curve]) -> list[Block]:
    notes = [f"{AXES[c.axis].title}, {c.model}: {note}" for c in curves for note in c.notes]
    notes += [f"Left out: {reason}." for reason in study.refused]
    return [Heading("What the points cannot tell"), Bullets(notes)] if notes else []
