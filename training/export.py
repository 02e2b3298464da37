"""From a sharded checkpoint to an artifact that a server can load."""

import datetime
from pathlib import Path
from typing import Any

from features.schema import Schema
from training.artifact import GOLDEN_ROWS, write
from training.checkpoint import load_whole
from training.checkpoints import Checkpoint, Checkpoints
from training.config import model_from_dict
from training.dataset import ExampleTable
from training.inputs import inputs_of
from training.manifest import Manifest
from training.ranker import Ranker


def export(schema: Schema, lake: Path, checkpoints: Path, artifacts: Path, name: str) -> Manifest:
    """Write the artifact of a checkpoint; its golden request is its day's newest examples."""
    known = Checkpoints(checkpoints, schema)
    checkpoint = known.named(name)
    manifest = checkpoint.manifest
    day = datetime.date.fromisoformat(manifest.run_day)
    if manifest.schema_fingerprint != schema.fingerprint():
        raise ValueError(
            f"checkpoint {checkpoint.name}: schema {manifest.schema_fingerprint}; expected that of "
            f"{schema.name}, {schema.fingerprint()}"
        )
    ranker = Ranker(inputs_of(schema), model_from_dict(manifest.recipe["model"]))
    load_whole(checkpoint.path, ranker)
    table = ExampleTable(lake, schema)
    days = [d for d in table.days(datetime.date.min, day) if table.num_rows([d])]
    golden = table.read(days[-1:]).table
    return write(
        artifacts,
        ranker,
        schema,
        golden.slice(max(0, golden.num_rows - GOLDEN_ROWS)),
        day=manifest.run_day,
        trained_through=manifest.trained_through,
        recipe=manifest.recipe["name"],
        config=manifest.recipe,
        parents=[*manifest.family],
        metrics=manifest.metrics,
        mlflow_run=manifest.mlflow_run,
        checkpoint=checkpoint.name,
        role=manifest.role,
        growth=_growth(known, checkpoint),
    )


def _growth(known: Checkpoints, checkpoint: Checkpoint) -> dict[str, Any] | None:
    """How a checkpoint grew, or the one that it was trained from."""
    parent = known.find(checkpoint.manifest.parent) if checkpoint.manifest.parent else None
    return checkpoint.manifest.growth or (parent.manifest.growth if parent else None)
