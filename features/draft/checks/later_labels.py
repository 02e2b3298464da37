"""Labels that come later: events that fit no impression, come too late, or have not landed."""

import dataclasses
import datetime
import itertools
import math
from collections.abc import Iterator

from features.datasets.schema_files.values import span_text
from features.draft.checks.days import other_days
from features.draft.checks.events import MICROSECOND, ONE_DAY, Events, window_days
from features.draft.checks.findings import Finding, Level
from features.draft.checks.rules import broken_rules
from features.draft.log.sample import quoted
from features.schema import REQUEST_TIME
from features.spark.row_rules import event_rules

_MOST = 0.05
"""Share of the events from which on a fault is no accident."""
_HALF = 0.5
_SHOWN = 5
_CAUGHT = 0.9
"""Share of the late events that a longer window is proposed for."""
_HOUR_US = 3_600_000_000
_MOST_HOURS = 14
"""Zones are at most so far from UTC."""


def check_events(events: Events) -> Iterator[Finding]:
    """All findings about the events of one label."""
    yield from events.refused
    checks = (missing_days, young_labels, broken_events, repeated_events, *_OF_KNOWN)
    yield from itertools.chain(*(check(events) for check in checks))


def missing_days(events: Events) -> Iterator[Finding]:
    """Days of the windows that have no file of events, though later ones have landed."""
    days = events.missing
    if days:
        shown = ", ".join(map(str, days[:_SHOWN])) + (" and more" if len(days) > _SHOWN else "")
        yield Finding(
            Level.ERROR,
            _key(events, "source"),
            "missing-day",
            f"the events of {len(days)} days have not landed: {shown}; the schedule waits for "
            f"each. A day without events has a file without rows, such as {events.example}",
        )


def young_labels(events: Events) -> Iterator[Finding]:
    """No checked day is so old that its labels are final."""
    if not events.final and not events.missing and not events.refused:
        last = events.landed.all_days[-1]
        older = last - window_days(events.label) * ONE_DAY
        yield Finding(
            Level.INFO,
            _key(events),
            "young-label",
            f"the label of no day that was read is final: the window is "
            f"{span_text(events.label.window)}, and events have landed until {last}. For its rate "
            f"check {older} or an earlier day (--days)",
        )


def broken_events(events: Events) -> Iterator[Finding]:
    """Events without a moment or a key, with a value out of its limits, or on another day."""
    rules = event_rules(events.landed.schema, events.label)
    for one in broken_rules(events.landed, rules):
        key, said = _key(events, "source"), f"events, {one.key}: {one.said}"
        yield dataclasses.replace(one, key=key, said=said)
    for one in other_days(events.landed):
        yield dataclasses.replace(one, key=_key(events, one.key), said=f"events: {one.said}")


def repeated_events(events: Events) -> Iterator[Finding]:
    """Events that are there twice, with the same moment."""
    columns = ", ".join(quoted(name) for name in (REQUEST_TIME.name, *events.label.join))
    table = events.landed.table
    rows, different = events.landed.row(
        f"SELECT count(*), count(DISTINCT ({columns})) FROM {table}"
    )
    if repeated := rows - different:
        share = repeated / rows
        yield Finding(
            Level.WARNING if share > _MOST else Level.INFO,
            _key(events, "source"),
            "repeated-event",
            f"{repeated:,.0f} of {rows:,.0f} events ({share:.2%}) repeat another with the same "
            f"{', '.join(events.label.join)} and moment: no label changes by them; was a file "
            "exported twice, or does an event land on two days?",
        )


def unknown_keys(events: Events) -> Iterator[Finding]:
    """Events whose join columns no impression has."""
    is_unknown = "_before IS NULL AND _after IS NULL"
    rows, found = _counted(events, is_unknown)
    if not found:
        return
    join, share = events.label.join, found / rows
    listed = ", ".join(map(quoted, join))
    example = events.landed.row(
        f"SELECT {listed} FROM {events.known} WHERE {is_unknown} ORDER BY _at, {listed} LIMIT 1"
    )
    level = Level.ERROR if share > _HALF else Level.WARNING if share > _MOST else Level.INFO
    shown = ", ".join(f"{name} {value!r}" for name, value in zip(join, example, strict=True))
    yield Finding(
        level,
        _key(events, "join"),
        "unknown-key",
        f"{found:,.0f} of {rows:,.0f} events ({share:.2%}) have a key that no impression has, such "
        f"as {shown}: they make nothing positive. Do both files write the ids in the same way, and "
        "are all impressions in the log?",
    )


def several_impressions(events: Events) -> Iterator[Finding]:
    """Events that come within the window of several impressions."""
    rows, found = _counted(events, "_fitting > 1")
    if found:
        share = found / rows
        yield Finding(
            Level.WARNING if share > _MOST else Level.INFO,
            _key(events, "join"),
            "several-impressions",
            f"{found:,.0f} of {rows:,.0f} events ({share:.2%}) fit several impressions within "
            f"{span_text(events.label.window)}; the newest has each. If the events know their "
            "request, add its id to join",
        )


def early_events(events: Events) -> Iterator[Finding]:
    """Events before each impression of their key."""
    is_early = "_before IS NULL AND _after IS NOT NULL"
    rows, found = _counted(events, is_early)
    if not found:
        return
    (most,) = events.landed.row(f"SELECT max(_after - _at) FROM {events.known} WHERE {is_early}")
    share = found / rows
    yield Finding(
        Level.WARNING if share > _MOST else Level.INFO,
        _key(events, "source.time"),
        "early-event",
        f"{found:,.0f} of {rows:,.0f} events ({share:.2%}) are before the impression with their "
        f"key, up to {most / _HOUR_US:.1f} hours: they make nothing positive. Do the clocks of both"
        " logs differ, or is the moment of an impression that of its upload?",
    )


def late_events(events: Events) -> Iterator[Finding]:
    """Events that come after the window, and a window that would catch most of them."""
    window = events.label.window
    is_late = f"_at - _before > {window // MICROSECOND}"
    rows, found = _counted(events, is_late)
    if not found:
        return
    share = found / rows
    (age,) = events.landed.row(
        f"SELECT quantile_disc(_at - _before, {_CAUGHT}) FROM {events.known} WHERE {is_late}"
    )
    longer = longer_window(window, int(age) * MICROSECOND)
    caught = _counted(events, f"{is_late} AND _at - _before <= {longer // MICROSECOND}")[1] / rows
    yield Finding(
        Level.WARNING if share > _MOST else Level.INFO,
        _key(events, "window"),
        "short-window",
        f"{found:,.0f} of {rows:,.0f} events ({share:.2%}) come later than {span_text(window)} "
        f"after their impression and are lost; a window of {span_text(longer)} would catch "
        f"{caught:.2%} more of the events, and every label would be final that much later",
    )


def longer_window(window: datetime.timedelta, age: datetime.timedelta) -> datetime.timedelta:
    """The shortest window that has an age, in whole units of the window's own text."""
    unit = {
        "d": datetime.timedelta(days=1),
        "h": datetime.timedelta(hours=1),
        "m": datetime.timedelta(minutes=1),
        "s": datetime.timedelta(seconds=1),
    }[span_text(window)[-1]]
    return math.ceil(age / unit) * unit


def shifted_events(events: Events) -> Iterator[Finding]:
    """Most events come just after a whole number of hours, as if in another time zone."""
    offset = "_at - coalesce(_before, _after)"
    found = events.landed.row(
        f"SELECT hours, n, total FROM (SELECT (({offset}) // {_HOUR_US})::INT - "
        f"(({offset}) < 0 AND ({offset}) % {_HOUR_US} <> 0)::INT AS hours, "
        f"(({offset}) % {_HOUR_US} + {_HOUR_US}) % {_HOUR_US} < {_HOUR_US // 2} AS is_just_after, "
        f"count(*) AS n, sum(count(*)) OVER () AS total FROM {events.known} WHERE "
        f"coalesce(_before, _after) IS NOT NULL GROUP BY ALL) WHERE is_just_after AND "
        f"hours <> 0 AND abs(hours) <= {_MOST_HOURS} ORDER BY n DESC, hours LIMIT 1"
    )
    if not found or found[1] <= _HALF * found[2]:
        return
    hours, n, total = found
    side = "after" if hours > 0 else "before"
    yield Finding(
        Level.WARNING,
        _key(events, "source.time"),
        "time-zone",
        f"{n:,.0f} of {total:,.0f} events ({n / total:.2%}) are {abs(hours):.0f} hours {side} "
        "their impression, give or take half an hour: is one of the two files in local time? Write "
        "moments with their offset, or in UTC",
    )


_OF_KNOWN = (unknown_keys, several_impressions, early_events, late_events, shifted_events)


def _counted(events: Events, condition: str) -> tuple[float, float]:
    """How many events there are, and how many of them fulfil a condition."""
    rows, found = events.landed.row(
        f"SELECT count(*), count(*) FILTER ({condition}) FROM {events.known}"
    )
    return rows, found


def _key(events: Events, field: str = "") -> str:
    return ".".join(filter(None, ("labels", events.label.name, field)))
