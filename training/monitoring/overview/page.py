"""The page: what is so today, how it came, and where to look further."""

import datetime
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from features.pages.content import (
    Block,
    Cell,
    Charts,
    Heading,
    Link,
    Page,
    Prose,
    Table,
    Tone,
    Value,
)
from features.parity.results import MAX_UNEXPLAINED
from training.evaluation.family_page import family_blocks
from training.monitoring.overview.days import ONE_DAY, Day, Result
from training.monitoring.quality.charts import Series, over_places
from training.monitoring.quality.figures import Figure
from training.registry.family_tree import Member

_HEAT_DAYS, _MOST_FEATURES = 14, 25
"""Days of a table, and rows of a heat map."""
_FULL_HEAT = 0.05
"""Share of differing values that has the strongest colour."""
_MOST_AGE = datetime.timedelta(hours=36)
_STATES = {"kept": Tone.GOOD, "broken": Tone.BAD, "unknown": Tone.QUIET}
_DECISIONS = {"promote": Tone.GOOD, "hold": Tone.UNSURE, "refuse": Tone.BAD}


class Freshness(NamedTuple):
    """The newest day of a table of the lake."""

    table: str
    newest: datetime.date | None
    is_old: bool

    @classmethod
    def of(
        cls,
        table: str,
        newest: datetime.date | None,
        now: datetime.datetime,
        *,
        final_after_days: int = 0,
    ) -> "Freshness":
        """Old, as the objective `lake-old` has it: its newest day is over for more than 36 h.

        Args:
            table: Its name.
            newest: Its newest day; None: it has none.
            now: The moment of which this is said.
            final_after_days: Of examples, days until the labels of a day are final.
        """
        if newest is None:
            return cls(table, None, True)
        end = datetime.datetime.combine(newest, datetime.time(), datetime.UTC) + ONE_DAY
        return cls(table, newest, now - end - final_after_days * ONE_DAY > _MOST_AGE)


def overview_path(dataset: str) -> str:
    """Where the page lies below the reports."""
    return f"{dataset}/overview.html"


def overview_page(
    dataset: str,
    days: Sequence[Day],
    *,
    tables: Sequence[Freshness],
    members: Sequence[Member],
    alerts: Sequence[Result],
) -> Page:
    """What all monitors found; links are relative to the data set's folder of reports.

    Args:
        dataset: Its name.
        days: The oldest first.
        tables: Of the lake.
        members: The family of its rankers.
        alerts: The newest first.
    """
    return Page(
        f"{dataset}: how it is",
        [
            _now(days, tables),
            Heading("Quality of what was served, and what was decided"),
            *_trends(days),
            _decisions(days),
            Heading("Served inputs that differ from the lake, by feature and day"),
            *_parity(days),
            Heading("Drift, by feature and day"),
            *_drift(days),
            Heading("Newest day of each table"),
            _freshness(tables),
            Heading("Newest alerts"),
            *_alerts(alerts),
            Heading("Family"),
            *family_blocks(members),
            Link("all reports", "./"),
        ],
    )


def _now(days: Sequence[Day], tables: Sequence[Freshness]) -> Table:
    """The newest that each monitor said."""
    rows: list[Sequence[Value]] = []
    if found := _newest(day for day in days if day.parity.get("compared")):
        share, limit = found.parity["unexplained_share"], found.parity.get("max_unexplained")
        is_broken = share > (MAX_UNEXPLAINED if limit is None else limit)
        what = f"{share:.3%} of the candidates differ without a cause"
        rows.append(_state("parity", found.date, is_broken, what, f"parity/{found.date}.html"))
    measured = [day for day in days if day.quality and day.quality["state"] == "measured"]
    if found := _newest(iter(measured)):
        assert found.quality
        for one in found.quality["versions"]:
            if one["role"] != "shadow":
                what = f"{one['version']} ({one['role']}): {one['reason']}"
                link = f"quality/{found.date}/index.html"
                rows.append(_state("quality", found.date, one["is_broken"], what, link))
    if found := _newest(day for day in days if day.drift):
        drifted = found.drift["drifted"]
        what = "; ".join(str(one["reason"]) for one in drifted[:3]) or "as usual"
        is_known = found.drift["judged"]
        link = f"drift/{found.drift_source}/{found.date}/index.html"
        what = what if is_known else str(found.drift["why_not_judged"])
        rows.append(_state("drift", found.date, bool(drifted) if is_known else None, what, link))
    if found := _newest(day for day in days if day.policy):
        acted = found.policy["action"]
        tone = Tone.GOOD if acted == "nothing" else Tone.UNSURE
        cell = Cell(str(acted), tone=tone, link="policy/index.html")
        rows.append(["what followed", str(found.date), cell, str(found.policy["why"])])
    old = [one.table for one in tables if one.is_old]
    what = f"over for more than 36 h: {', '.join(old)}" if old else "all tables are new"
    rows.append(_state("freshness", days[-1].date, bool(old), what, ""))
    return Table(("signal", "day", "state", "what was found"), rows)


def _state(
    signal: str, day: datetime.date, is_broken: bool | None, what: str, link: str
) -> Sequence[Value]:
    state = {True: "broken", False: "kept", None: "unknown"}[is_broken]
    return [signal, str(day), Cell(state, tone=_STATES[state], link=link), what]


def _newest(days: Iterator[Day]) -> Day | None:
    found = list(days)
    return found[-1] if found else None


def _trends(days: Sequence[Day]) -> list[Block]:
    charts = [
        chart
        for title, name, level in (("NE", "ne", None), ("calibration", "calibration", 1.0))
        for chart in over_places(title, _series(days, name), level=level, axis="day")
    ]
    none = Prose("No day with final labels yet: `python -m training quality`.", Tone.QUIET)
    return [Charts(charts)] if charts else [none]


def _series(days: Sequence[Day], figure: str) -> Series:
    """A figure of the champion over the days, and of the canary where there was one."""
    found: dict[str, list[tuple[str, Figure]]] = {}
    for day in days:
        for one in day.quality["versions"] if day.quality else ():
            measured = one["measured"]
            if measured and one["role"] != "shadow":
                found.setdefault(one["role"], []).append((str(day.date), measured[figure]))
    return found


def _decisions(days: Sequence[Day]) -> Table:
    rows: list[Sequence[Value]] = []
    for day in reversed(days[-_HEAT_DAYS:]):
        if not (day.gate or day.policy):
            continue
        decision, action = day.gate.get("decision"), day.policy.get("action")
        link = f"gate/{day.date}/index.html"
        gate = (
            Cell(decision, tone=_DECISIONS.get(decision, Tone.PLAIN), link=link)
            if decision
            else None
        )
        why = str(day.policy.get("why", "")) if action not in {None, "nothing"} else ""
        rows.append([str(day.date), gate, action, why])
    return Table(("day", "gate", "what followed", "why"), rows)


def _parity(days: Sequence[Day]) -> list[Block]:
    compared = [day for day in days if day.parity.get("compared")][-_HEAT_DAYS:]
    shares = {
        day.date: {
            str(one["feature"]): float(one["share"])
            for one in day.parity["features"]
            if one["share"] is not None
        }
        for day in compared
    }
    if not shares:
        none = "Nothing was compared yet: the log of answers, RANKING_LOG_FOLDER, is needed."
        return [Prose(none, Tone.QUIET)]
    differing = {name for row in shares.values() for name, share in row.items() if share}
    if not differing:
        return [Prose("No value differs.", Tone.GOOD)]
    cells = {
        name: {
            day: Cell(
                f"{row[name]:.2%}" if row[name] else "0",
                link=f"parity/{day}.html",
                heat=min(1.0, row[name] / _FULL_HEAT),
                is_number=True,
            )
            for day, row in shares.items()
            if name in row
        }
        for name in _worst(shares, differing)
    }
    return [_heat_map(cells, list(shares))]


def _worst(shares: Mapping[datetime.date, Mapping[str, float]], names: Set[str]) -> list[str]:
    """The features that differ most, the worst first."""
    most = {name: max(row.get(name, 0.0) for row in shares.values()) for name in names}
    return sorted(most, key=lambda name: (-most[name], name))[:_MOST_FEATURES]


def _drift(days: Sequence[Day]) -> list[Block]:
    looked = [day for day in days if day.drift][-_HEAT_DAYS:]
    if not looked:
        return [Prose("No day was compared with what was learnt yet.", Tone.QUIET)]
    cells: dict[str, dict[datetime.date, Cell]] = {}
    for day in looked:
        for one in day.drift["drifted"]:
            link = f"drift/{day.drift_source}/{day.date}/index.html"
            shown = Cell(str(one["statistic"]), note=str(one["slice"]), link=link, heat=1.0)
            cells.setdefault(str(one["feature"]), {})[day.date] = shown
    if not cells:
        return [Prose("No drift on the days that were looked at.", Tone.GOOD)]
    return [_heat_map(cells, [day.date for day in looked])]


def _heat_map(
    cells: Mapping[str, Mapping[datetime.date, Cell]], days: Sequence[datetime.date]
) -> Table:
    names = [f"{day:%m-%d}" for day in days]
    rows = [[name, *(of_day.get(day) for day in days)] for name, of_day in cells.items()]
    return Table(("feature", *names), rows)


def _freshness(tables: Sequence[Freshness]) -> Table:
    rows: list[Sequence[Value]] = [
        [
            one.table,
            Cell(
                str(one.newest or "none"),
                tone=Tone.BAD if one.is_old else Tone.GOOD,
            ),
        ]
        for one in tables
    ]
    return Table(("table", "newest day"), rows)


def _alerts(alerts: Sequence[Result]) -> list[Block]:
    if not alerts:
        return [Prose("None was written.", Tone.GOOD)]
    rows: list[Sequence[Value]] = [
        [
            Cell(str(one.get("alert", "")), link=f"alerts/{one['file']}"),
            str(one.get("run", "")),
            str(one.get("what") or one.get("error") or ""),
        ]
        for one in alerts
    ]
    return [Table(("alert", "run", "what"), rows)]
