"""What the monitors said about a day, as they left it among the reports and in the lake."""

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from features.lake.lake import EXAMPLES, ONE_DAY, Lake
from features.parity.results import MAX_UNEXPLAINED
from features.parity.results import path_of as parity_path
from features.places import Place, read_object
from features.push.ages import daily_tables
from features.schema import Schema
from serving.policy.decision import Finding, State, Window
from serving.policy.table import Signal

QUALITY_DAYS = 5
"""Days of final labels that are looked at, up to the newest that can have them: older ones do not
say what is so now."""
MOST_OF_A_CAUSE = 0.05
"""Share of candidates that differ by one known fault, above which the data are at fault."""
_FAULTS = ("store_down", "default", "encoder", "cache", "time_to_live", "correction")
"""Causes that are faults; a late push is the time that a push takes."""
_SOURCES = ("log", "examples")
"""What drift was looked for in; the first that has a result of the day counts."""


def findings_of(
    schema: Schema, day: datetime.date, *, lake: Place, reports: Place
) -> dict[Signal, Finding]:
    """What parity, freshness and drift say about a day.

    Args:
        schema: Of the data set.
        day: A day that is over.
        lake: The folder of all lakes.
        reports: The folder of all reports.
    """
    return {
        "parity": _parity(schema.name, day, reports),
        "freshness": _freshness(schema, day, Lake(lake, schema.name)),
        "drift": _drift(schema.name, day, reports),
    }


def windows_of(schema: Schema, day: datetime.date, *, reports: Place) -> list[Window]:
    """What final labels said of each version, on the days until one."""
    last = QUALITY_DAYS + schema.maturity_days
    days = (day - number * ONE_DAY for number in range(last, -1, -1))
    return [window for one in days for window in _windows(schema.name, one, reports)]


def _windows(dataset: str, day: datetime.date, reports: Place) -> Iterator[Window]:
    if _parity(dataset, day, reports).state is not State.KEPT:
        return  # figures of a day whose inputs were wrong, or may have been, say nothing of a model
    found: Mapping[str, Any] = read_object(
        reports / dataset / "quality" / day.isoformat() / "day.json"
    )
    # A version that was canary and champion on one day is judged by where it answered more.
    by_version: dict[str, Mapping[str, Any]] = {}
    for one in sorted(found.get("versions", ()), key=lambda one: int(one["requests"])):
        if one["is_broken"] is not None and one["role"] != "shadow":
            by_version[one["version"]] = one
    for version, one in by_version.items():
        yield Window(day, version, one["is_broken"], int(one["requests"]), one["reason"])


def _parity(dataset: str, day: datetime.date, reports: Place) -> Finding:
    found: Mapping[str, Any] = read_object(reports / parity_path(dataset, day.isoformat(), "json"))
    if not found.get("compared"):
        return Finding(State.UNKNOWN, "served inputs of the day were not compared")
    share, limit = found["unexplained_share"], found.get("max_unexplained", MAX_UNEXPLAINED)
    causes = {name: float(found.get("causes", {}).get(name, 0.0)) for name in _FAULTS}
    worst = max(causes, key=lambda name: causes[name])
    if causes[worst] > MOST_OF_A_CAUSE:
        most = f"at most {MOST_OF_A_CAUSE:.0%}"
        what = f"{causes[worst]:.1%} of the candidates differ by {worst}; {most}"
        return Finding(State.BROKEN, what)
    what = f"{share:.3%} of the candidates differ without a cause; at most {limit:.3%}"
    return Finding(State.BROKEN if share > limit else State.KEPT, what)


def _freshness(schema: Schema, day: datetime.date, lake: Lake) -> Finding:
    newest = {table: lake.days(table)[-1:] for table in daily_tables(schema) if table != EXAMPLES}
    behind = [
        f"{table} {days[0] if days else 'none'}"
        for table, days in newest.items()
        if not days or days[0] < day
    ]
    if behind:
        return Finding(State.BROKEN, f"newest days: {', '.join(behind)}; {day} is over")
    return Finding(State.KEPT, f"all {len(newest)} tables have the day")


def has_drift(reports: Place, dataset: str, day: datetime.date) -> bool:
    """Whether a day was compared with what was learnt."""
    return any(_drift_of(reports, dataset, source, day).exists() for source in _SOURCES)


def _drift_of(reports: Place, dataset: str, source: str, day: datetime.date) -> Place:
    return reports / dataset / "drift" / source / day.isoformat() / "drift.json"


def _drift(dataset: str, day: datetime.date, reports: Place) -> Finding:
    for source in _SOURCES:
        found: Mapping[str, Any] = read_object(_drift_of(reports, dataset, source, day))
        if not found:
            continue
        if not found["judged"]:
            return Finding(State.UNKNOWN, str(found["why_not_judged"]))
        learnable = [str(one["reason"]) for one in found["drifted"] if _is_of_the_world(one)]
        others = [str(one["reason"]) for one in found["drifted"] if not _is_of_the_world(one)]
        if learnable:
            return Finding(State.BROKEN, "; ".join(learnable[:3]))
        if others:
            what = f"no training would learn what has drifted: {'; '.join(others[:3])}"
            return Finding(State.KEPT, what)
        return Finding(State.KEPT, f"{found['statistics']:,} statistics are as usual")
    return Finding(State.UNKNOWN, "the day was not compared with what was learnt")


def _is_of_the_world(drifted: Mapping[str, Any]) -> bool:
    """Whether a training would learn it: not what is missing, and not another version's scores."""
    statistic = str(drifted["statistic"])
    is_gap = statistic in {"missing", "unknown"} or str(drifted["feature"]).endswith("_missing")
    return not is_gap and drifted["feature"] != "score"
