"""Who was champion when, by the days of the log, from the versions' tags.

A version has the day of its run and the name of the champion before it, so the line goes back from
today's champion to the first one. The days are those of the log: a replay of old days finds the
same anchors as the original runs.
"""

import datetime
from collections.abc import Sequence

from training.registry.aliases import CHAMPION
from training.registry.mlflow_registry import Registry, Version


def line_of_champions(registry: Registry) -> list[Version]:
    """The champion and those before it, the newest first; empty without one."""
    known = {version.version: version for version in registry.all()}
    line: list[Version] = []
    found = known.get(registry.alias(CHAMPION) or "")
    while found is not None and found not in line:
        line.append(found)
        found = known.get(found.previous)
    return line


def anchors(line: Sequence[Version], day: datetime.date, *, days: int) -> list[Version]:
    """Who may be the anchor of a day, in the order in which to ask; the champion is none.

    First who was champion ``days`` days before, the first champion where the line is younger. Then,
    for when that one cannot be scored any more, those after it.
    """
    if days < 0:
        raise ValueError(f"anchor_days: {days}; at least 0")
    younger = [version for version in line if (day - version.day).days < days]
    return [*line[len(younger) : len(younger) + 1], *reversed(younger)][:-1] if line else []


def coming_anchors(line: Sequence[Version], *, days: int) -> list[Version]:
    """Who may be the anchor of a day after the champion's: what retention has to keep."""
    return [*anchors(line, line[0].day, days=days)] if line else []
