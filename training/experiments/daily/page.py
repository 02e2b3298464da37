"""The page of the policies: a table of them, NE against age, and calibration by day."""

import json
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from features.pages import figures, site
from features.pages.content import Cell, Chart, Charts, Page, Prose, Table, Tone, Value
from features.places import Place, put_whole
from training.experiments.daily.policies import NEVER, USUAL

_SIZE = (4.6, 3)
_COLUMNS = ("policy", "log loss", "NE", "AUC", "calibration", "log loss, change")


def write_page(reports: Place, dataset: str, found: Mapping[str, Any]) -> str:
    """The page, and ``daily.json`` beside it; returns its path below ``reports``."""
    path = PurePath(dataset, "daily-policies", "index.html")
    written = site.write(page(dataset, found), reports, path)
    put_whole((reports / path).with_name("daily.json"), json.dumps(found, indent=1).encode())
    return written


def page(dataset: str, found: Mapping[str, Any]) -> Page:
    """What each policy came to, the best first."""
    policies = sorted(found["policies"].items(), key=lambda item: item[1]["log_loss"])
    days, ages = found["days"], found["by_age"]
    return Page(
        f"{dataset}: what a daily run should do",
        [
            Prose(
                f"{len(days)} days, {days[0]} to {days[-1]}, {found['rows']:,} rows, each "
                f"predicted before it was learnt. Change: of the log loss, against “{USUAL}”, 95 % "
                "intervals with whole days drawn; below 0 is better.",
                Tone.QUIET,
            ),
            Table(_COLUMNS, [_row(name, one) for name, one in policies]),
            Charts(
                [
                    _chart("NE against the age of the model", lambda: _ages(ages)),
                    _chart("Calibration by day", lambda: _calibration(found["policies"])),
                ]
            ),
        ],
    )


def _row(name: str, one: Mapping[str, Any]) -> list[Value]:
    change = one["log_loss_change"]
    note = f"({change['low']:+.2%} to {change['high']:+.2%})"
    shown = [one[key] for key in ("log_loss", "ne", "auc", "calibration")]
    changed = Cell(f"{change['change']:+.2%}", note="" if name == USUAL else note, is_number=True)
    return [name, *shown, changed]


def _chart(title: str, draw: Callable[[], Figure]) -> Chart:
    return Chart(figures.svg(draw, label=title), title)


def _ages(ages: list[dict[str, float]]) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=figures.LINE, linewidth=0.8)
    x = [one["age"] for one in ages]
    for one in ages:
        ends = [100 * one["low"], 100 * one["high"]]
        axes.plot([one["age"]] * 2, ends, color=figures.SERIES[0], linewidth=0.8)
    figures.plot(axes, x, [100 * one["change"] for one in ages], colour=figures.SERIES[0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="age, days", ylabel="NE above the newest model's, %")
    return figure


def _calibration(policies: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.axhline(1, color=figures.LINE, linewidth=0.8)
    for name, colour in zip((USUAL, NEVER), figures.SERIES, strict=False):
        by_day = policies.get(name, {"by_day": []})["by_day"]
        known = [(day, one["calibration"]) for day, one in enumerate(by_day, start=1)]
        known = [(day, value) for day, value in known if value is not None]
        if known:
            days, values = zip(*known, strict=True)
            figures.plot(axes, days, values, colour=colour, label=name)
    axes.set(xlabel="day", ylabel="mean prediction over mean label")
    axes.legend(frameon=False)
    return figure
