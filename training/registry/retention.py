"""Which checkpoints and artifacts may go: old ones that nothing uses."""

import shutil
from pathlib import Path

from features.schema import Schema
from training.artifact.manifest import read_manifest
from training.checkpoint.catalog import Checkpoints
from training.registry import champions
from training.registry.aliases import ANCHOR_DAYS, CANARY, CHALLENGER, CHAMPION, PREVIOUS, SHADOW
from training.registry.mlflow_registry import Registry


def prune(
    schema: Schema,
    checkpoints: Path,
    artifacts: Path,
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
    if keep < 1:
        raise ValueError(f"keep: {keep}; at least 1")
    registry = Registry(tracking, schema.name)
    aliases = (CHAMPION, CHALLENGER, CANARY, SHADOW)
    in_use = {version for alias in aliases if (version := registry.alias(alias))}
    champion = registry.alias(CHAMPION)
    if champion and (previous := registry.tag(champion, PREVIOUS)):
        in_use.add(previous)
    root = artifacts / schema.name
    versions = sorted(path.parent for path in root.glob("[0-9]*/manifest.json"))
    line = champions.line_of_champions(registry)
    anchors = {found.version for found in champions.coming_anchors(line, days=anchor_days)}
    removed = [path for path in versions[:-keep] if path.name not in in_use | anchors]
    kept = [read_manifest(root / version) for version in in_use if (root / version).exists()]
    made_of = {manifest.checkpoint or manifest.day for manifest in kept}
    for path in removed:
        shutil.rmtree(path)
    gone = Checkpoints(checkpoints, schema).prune(keep=keep, in_use=made_of)
    return {"removed": {"artifacts": [path.name for path in removed], "checkpoints": gone}}
