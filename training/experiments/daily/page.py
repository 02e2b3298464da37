"""The page of the policies: a table of them, NE against age, and calibration by day."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from features.pages import figures, site
from features.pages.content import Charts, Page, Prose, Table, Tone, Value, percent
from features.places import Place
from training.experiments.daily.policies import NEVER, USUAL

_COLUMNS = ("policy", "log loss", "NE", "AUC", "calibration", "log loss, change")


def write_page(reports: Place, dataset: str, found: Mapping[str, Any]) -> str:
    """The page, and ``daily.json`` beside it; returns its path below ``reports``."""
    path = f"{dataset}/daily-policies/index.html"
    return site.write(page(dataset, found), reports, path, figures={"daily.json": found})


def page(dataset: str, found: Mapping[str, Any]) -> Page:
    """What each policy came to, the best first."""
    policies = sorted(found["policies"].items(), key=lambda item: item[1]["log_loss"])
    days, age = found["days"], "NE against the age of the model"
    aged = figures.chart(age, lambda axes: _ages(axes, found["by_age"]))
    calibrated = figures.chart("Calibration by day", lambda axes: _calibration(axes, found))
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
            Charts([aged, calibrated]),
        ],
    )


def _row(name: str, one: Mapping[str, Any]) -> list[Value]:
    change = one["log_loss_change"]
    note = "" if name == USUAL else f"({change['low']:+.2%} to {change['high']:+.2%})"
    shown = [one[key] for key in ("log_loss", "ne", "auc", "calibration")]
    return [name, *shown, percent(change["change"], note=note)]


def _ages(axes: Axes, ages: list[dict[str, float]]) -> None:
    axes.axhline(0, color=figures.LINE, linewidth=0.8)
    x = [one["age"] for one in ages]
    low, high = ([100 * one[end] for one in ages] for end in ("low", "high"))
    axes.vlines(x, low, high, color=figures.SERIES[0], linewidth=0.8)
    figures.plot(axes, x, [100 * one["change"] for one in ages], colour=figures.SERIES[0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="age, days", ylabel="NE above the newest model's, %")


def _calibration(axes: Axes, found: Mapping[str, Any]) -> None:
    axes.axhline(1, color=figures.LINE, linewidth=0.8)
    for name, colour in zip((USUAL, NEVER), figures.SERIES, strict=False):
        by_day = found["policies"].get(name, {"by_day": []})["by_day"]
        known = [(day, one["calibration"]) for day, one in enumerate(by_day, start=1)]
        known = [(day, value) for day, value in known if value is not None]
        if known:
            days, values = zip(*known, strict=True)
            figures.plot(axes, days, values, colour=colour, label=name)
    axes.set(xlabel="day", ylabel="mean prediction over mean label")
    axes.legend(frameon=False)
