"""A day's drift as a page: what drifted and why, over the last weeks, and every feature."""

import datetime
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from features.pages import figures
from features.pages.content import (
    Block,
    Bullets,
    Cell,
    Chart,
    Charts,
    Facts,
    Heading,
    Link,
    Notice,
    Page,
    Prose,
    Table,
    Tone,
    Value,
)
from training.data.profile import Key
from training.data.sketches import Numbers
from training.data.slices import ALL
from training.monitoring.drift_job import Compared, Row, feature_of
from training.monitoring.drift_judge import FALSE_ALERTS_A_WEEK

_MOST_CHARTS = 6
_SIZE = (4.6, 2.8)
_SHARES = np.linspace(0.005, 0.995, 100)
_DISTANCES = ("psi", "ks", "total_variation", "mann_whitney", "missing", "unknown", "rate")


def drift_page(
    title: str, compared: Compared, found: Mapping[str, object], *, links: Sequence[str] = ()
) -> Page:
    """The page of a day.

    Args:
        title: Data set and day.
        compared: The day and the weeks before it.
        found: What ``drift_job.summary`` says of it.
        links: Other pages in the same folder.
    """
    drifted = compared.drifted
    shown = drifted or sorted(
        (row for row in compared.rows if row.p is not None), key=lambda row: row.p or 0.0
    )
    verdict, tone = ("drift", Tone.BAD) if drifted else ("no drift", Tone.GOOD)
    if not found["judged"]:
        verdict, tone = "too few days", Tone.UNSURE
    charts = [chart for row in shown[:_MOST_CHARTS] for chart in _charts(compared, row)]
    return Page(
        title,
        [
            *_notices(compared, found),
            _facts(compared, found),
            *([Heading("What drifted" if drifted else "What is nearest to drift")] * bool(charts)),
            *([Charts(charts)] if charts else []),
            Heading("All features, all rows"),
            _features(compared),
            *_in_slices(drifted, compared),
            *(Link(f"The same day in {name}", name) for name in links),
        ],
        verdict=verdict,
        tone=tone,
    )


def page_path(dataset: str, source: str, day: datetime.date) -> str:
    """Below the reports."""
    return f"{dataset}/drift/{source}/{day}/index.html"


def _notices(compared: Compared, found: Mapping[str, object]) -> list[Block]:
    if not found["judged"]:
        why = f"Nothing is judged yet: {found['why_not_judged']}. Distances are shown."
        return [Notice(why, Tone.UNSURE)]
    if not compared.drifted:
        return [Prose("No feature, score, label or slice is beyond its noise from day to day.")]
    return [Bullets([row.reason() for row in compared.drifted])]


def _facts(compared: Compared, found: Mapping[str, object]) -> Facts:
    about = compared.reference.about
    values: list[tuple[str, Value]] = [
        ("compared", f"{found['rows']:,} rows of the {found['source']}"),
        ("reference", Cell(f"{about.get('version')}", note=_learnt(about))),
        ("labels", f"of {found['label_day']}"),
        ("days that tell the noise", int(str(found["days_before"]))),
        ("statistics", len(compared.rows)),
        ("false alerts expected", f"{FALSE_ALERTS_A_WEEK:g} a week, over all statistics"),
    ]
    return Facts(values)


def _learnt(about: Mapping[str, object]) -> str:
    days, scored = about.get("days"), about.get("scored_days")
    if not isinstance(days, list) or not isinstance(scored, list):
        return ""
    return f"inputs of {days[0]} to {days[1]}; scores and labels of {scored[0]} to {scored[1]}"


def _features(compared: Compared) -> Table:
    """A line for each feature in all rows, the least probable first."""
    of_all: dict[str, list[Row]] = {}
    for row in compared.rows:
        if row.slice == ALL:
            of_all.setdefault(row.feature, []).append(row)
    names = sorted(of_all, key=lambda name: min(_p(row) for row in of_all[name]))
    rows: list[Sequence[Value]] = []
    for name in names:
        by_name = {row.statistic: row.value for row in of_all[name]}
        is_drift = any(row.alert for row in of_all[name])
        smallest = min(_p(row) for row in of_all[name])
        verdict = Cell("drift", tone=Tone.BAD) if is_drift else Cell("")
        shares = (by_name.get(one) for one in _DISTANCES)
        rows.append((name, *shares, smallest if smallest <= 1 else None, verdict))
    columns = ("feature", *(one.replace("_", " ") for one in _DISTANCES), "smallest p", "")
    return Table(columns, rows)


def _p(row: Row) -> float:
    return 2.0 if row.p is None else row.p


def _in_slices(drifted: Sequence[Row], compared: Compared) -> list[Block]:
    names = {feature_of(row) for row in drifted}
    rows: list[Sequence[Value]] = [
        (feature_of(row), row.slice, row.statistic, row.value, row.expected, row.high, row.p)
        for row in sorted(compared.rows, key=_p)
        if row.alert and feature_of(row) in names
    ]
    if not rows:
        return []
    columns = ("feature", "slice", "statistic", "value", "expected", "upper bound", "p")
    return [Heading("Where"), Table(columns, rows)]


def _charts(compared: Compared, row: Row) -> list[Chart]:
    place = "" if row.slice == ALL else f", {row.slice}"
    name = f"{feature_of(row)}{place}"
    title = f"{name}: {row.statistic.replace('_', ' ')}"
    charts = [figures.chart(title, lambda axes: _over_days(axes, compared, row), size=_SIZE)]
    key = Key(row.slice, row.feature)
    was, now = compared.reference.sketches[key], compared.profile.sketches[key]
    if isinstance(was, Numbers) and isinstance(now, Numbers) and was.total and now.total:
        title = f"{name}: distribution"
        charts.append(figures.chart(title, lambda axes: _distribution(axes, was, now), size=_SIZE))
    return charts


def _over_days(axes: Axes, compared: Compared, row: Row) -> None:
    """The statistic of each day, and what a day may be."""
    key = (Key(row.slice, row.feature), row.statistic)
    values = compared.values[:, compared.keys.index(key)]
    moments = [one.toordinal() - datetime.date(1970, 1, 1).toordinal() for one in compared.days]
    for bound in (row.low, row.expected, row.high):
        if bound is not None:
            axes.axhline(bound, color=figures.LINE, linewidth=0.8)
    figures.plot(axes, moments, [float(one) for one in values], colour=figures.SERIES[0])
    locator = AutoDateLocator(maxticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set(ylabel=row.statistic.replace("_", " "))


def _distribution(axes: Axes, was: Numbers, now: Numbers) -> None:
    """The shares of rows up to each value."""
    for sketch, colour, label in (
        (was, figures.SERIES[0], "reference"),
        (now, figures.ACCENT, "the day"),
    ):
        values = [float(one) for one in sketch.quantiles(_SHARES)]
        figures.plot(axes, values, [float(one) for one in _SHARES], colour=colour, label=label)
    axes.set(xlabel="value", ylabel="share of rows up to it")
    axes.legend(frameon=False)
