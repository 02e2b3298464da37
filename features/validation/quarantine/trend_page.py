"""The share of rows in quarantine by rule over some days: a chart, and a table with its colours."""

import datetime
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from features.pages import figures, site
from features.pages.content import Chart, Charts, Heading, Page, Prose, Tone
from features.places import Place
from features.schema import Schema
from features.validation.quarantine.trend_table import Shares, trend_table

_MOST_LINES = len(figures.SERIES)


def write_trend_page(
    reports: Place,
    schema: Schema,
    table: str,
    days: Sequence[datetime.date],
    shares: Shares,
) -> tuple[str, str]:
    """Write the page of one table; returns its path below ``reports``, and it as text."""
    page = trend_page(schema, table, days, shares)
    path = f"{schema.name}/quality/quarantine-{table}.html"
    return site.write(page, reports, path), site.text(page)


def trend_page(schema: Schema, table: str, days: Sequence[datetime.date], shares: Shares) -> Page:
    """The page: shares by rule, the largest first."""
    limit = schema.limits.max_quarantined_share
    title = f"{schema.name}: quarantine of {table}, {days[0]} to {days[-1]}"
    if not shares:
        return Page(title, [Prose("No row was held.")], "none held", Tone.GOOD)
    shown = sorted(shares, key=lambda rule: -max(shares[rule].values()))[:_MOST_LINES]
    left_out = len(shares) - len(shown)
    notes = [Prose(f"The chart leaves out {left_out} rules.")] if left_out else []
    drawn = figures.svg(lambda: _draw(shares, shown, limit), label="Share of rows held by rule")
    return Page(
        title,
        [
            Prose(f"Above {limit:.0%} of its rows, over all rules, a day stops."),
            Charts([Chart(drawn, "Share of a day's rows by rule")]),
            *notes,
            Heading("By rule and day"),
            trend_table(days, shares, limit=limit),
        ],
    )


def _draw(shares: Shares, rules: Sequence[str], limit: float) -> Figure:
    figure = Figure(figsize=(7, 2.8))
    axes = figure.subplots()
    for rule, colour in zip(rules, figures.SERIES, strict=False):
        of_day: Mapping[datetime.date, float] = shares[rule]
        numbers = [day.toordinal() for day in of_day]
        figures.plot(axes, numbers, list(of_day.values()), colour=colour, label=rule)
    axes.axhline(limit, color=figures.QUIET, linestyle=":", label="limit of a day")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(lambda number, _: _as_day(number))
    axes.legend(frameon=False, fontsize=8)
    return figure


def _as_day(number: float) -> str:
    return str(datetime.date.fromordinal(round(number)))[5:] if number >= 1 else ""
