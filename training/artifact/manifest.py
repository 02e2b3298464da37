"""The manifest of a served artifact, without a library that is slow to import."""

import dataclasses
import json
from typing import TYPE_CHECKING

from features.places import Place

if TYPE_CHECKING:
    from training.checkpoint.catalog import Growth

MANIFEST = "manifest.json"


class ArtifactError(ValueError):
    """An artifact that must not serve."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artifact is."""

    version: str
    dataset: str
    schema_fingerprint: str
    day: str
    """Day of the run that made it."""
    trained_through: str
    recipe: str
    config: dict[str, object]
    parents: list[str]
    """Runs whose checkpoints it descends from, the oldest first."""
    metrics: dict[str, float | None]
    mlflow_run: str
    content_sha256: dict[str, str]
    checkpoint: str = ""
    """Folder name of the checkpoint that it was made of."""
    role: str = ""
    """In a trial ``grown`` or ``control``; else empty."""
    growth: "Growth | None" = None
    """How its checkpoint, or the one that it was trained from, grew; None: it did not."""
    tables: str = "fp32"
    """Numbers of the embedding tables: fp32, int8 or int4."""
    table_costs: dict[str, object] | None = None
    """What each precision of the tables costs in bytes and NE, and the days that were scored."""


def read_manifest(directory: Place) -> Manifest:
    """The manifest of an artifact; ArtifactError when there is none or it cannot be read."""
    path = directory / MANIFEST
    try:
        return Manifest(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"artifact {directory}: no readable manifest: {error}") from error
