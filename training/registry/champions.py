"""Who was champion when, by the days of the log, and what may go: old rankers that nothing uses.

A version has the day of its run and the name of the champion before it, so the line goes back from
today's champion to the first one. The days are those of the log: a replay of old days finds the
same anchors as the original runs.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path

from features.places import Place
from features.provenance.learnt import all_learnt, remove_learnt
from features.schema import Schema
from training.artifact.manifest import MANIFEST, read_manifest
from training.checkpoint import catalog
from training.checkpoint.catalog import IMMATURE, Checkpoints
from training.checkpoint.learnt_days import complete_records
from training.data.pinned import LONGEST_TRAINING, unpin
from training.registry.aliases import ANCHOR_DAYS, CANARY, CHALLENGER, CHAMPION, PREVIOUS, SHADOW
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
    return anchors(line, line[0].day, days=days) if line else []


def prune(
    schema: Schema,
    checkpoints: Place,
    artifacts: Place,
    tracking: Path,
    *,
    keep: int,
    anchor_days: int = ANCHOR_DAYS,
) -> dict[str, object]:
    """Keep the newest ``keep`` of each, those in use, and their checkpoints.

    In use is what has an alias, and the champion before this one: the way back must be open. Of the
    champions of the last ``anchor_days`` days, and the one before these, the artifacts stay, since
    the gate will compare with them.
    """
    registry = Registry(tracking, schema.name)
    aliases = (CHAMPION, CHALLENGER, CANARY, SHADOW)
    in_use = {version for alias in aliases if (version := registry.alias(alias))}
    champion = registry.alias(CHAMPION)
    if champion and (previous := registry.tag(champion, PREVIOUS)):
        in_use.add(previous)
    root = artifacts / schema.name
    kept = [read_manifest(root / one) for one in in_use if (root / one / MANIFEST).exists()]
    made_of = {manifest.checkpoint or manifest.day for manifest in kept}
    # What grows, or goes on, is the ranker below the immature rows.
    made_of |= {name for one in kept if one.role == IMMATURE for name in one.parents[-1:]}
    line = line_of_champions(registry)
    kept_for_gate = {found.version for found in coming_anchors(line, days=anchor_days)}
    removed = {
        "artifacts": catalog.prune(root, keep=keep, in_use=in_use | kept_for_gate),
        "checkpoints": catalog.prune(checkpoints / schema.name, keep=keep, in_use=made_of),
    }
    return {"removed": removed}


def release_pins(
    schema: Schema,
    checkpoints: Place,
    artifacts: Place,
    lake: Place,
    *,
    grace: datetime.timedelta = LONGEST_TRAINING,
) -> list[str]:
    """Remove the pins of examples on which nothing that is left was trained; raises as ``unpin``.

    Args:
        schema: The data set.
        checkpoints: Those that are left.
        artifacts: Those that are left.
        lake: Where the pins are.
        grace: Younger pins stay: their training may still run.
    """
    read = [one.manifest.table_versions for one in Checkpoints(checkpoints, schema).all()]
    read += [read_manifest(path).table_versions for path in _finished(artifacts / schema.name)]
    needed = {pair for versions in read for pair in versions.items()}
    return unpin(lake, schema, needed, grace=grace)


def release_records(schema: Schema, checkpoints: Place, artifacts: Place, lake: Place) -> list[str]:
    """Remove the records of what was learnt by rankers of which nothing is left.

    Checkpoints that have none get one.

    Args:
        schema: The data set.
        checkpoints: Those that are left.
        artifacts: Those that are left.
        lake: Where the records are.

    Returns:
        Names of the records that went.

    Raises:
        ValueError: A record cannot be read.
    """
    known, root = Checkpoints(checkpoints, schema), lake / schema.name
    # Before the checkpoints are listed: one that is done meanwhile keeps its record.
    recorded = {one.checkpoint for one in all_learnt(root)}
    left = {one.name for one in known.all()}
    made = [read_manifest(path) for path in _finished(artifacts / schema.name)]
    left |= {one.checkpoint or one.day for one in made}
    complete_records(root, known)
    gone = sorted(recorded - left)
    for name in gone:
        remove_learnt(root, name)
    return gone


def _finished(folder: Place) -> list[Place]:
    """Folders of artifacts with a manifest, the oldest first."""
    return sorted(path.parent for path in folder.glob(f"[0-9]*/{MANIFEST}"))
