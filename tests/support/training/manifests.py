"""Checkpoints without tensors, for tests of what is decided from their manifests."""

import dataclasses
import json

from training.checkpoint.catalog import MANIFEST, CheckpointManifest, Checkpoints
from training.recipes import recipe_of

SMALL = "wukong-tiny"


def write(known: Checkpoints, name: str, *, through, family=(), recipe=SMALL, **fields) -> None:
    """A checkpoint of a folder's name, with a manifest and nothing else."""
    whole = recipe_of(recipe)
    manifest = CheckpointManifest(
        dataset=known.schema.name,
        schema_fingerprint=known.schema.fingerprint(),
        model_fingerprint=whole.model_fingerprint(),
        recipe=whole.to_dict(),
        run_day=name[:10],
        trained_through=str(through),
        trained_days=1,
        examples=1,
        steps=1,
        ranks=2,
        parent=[None, *family][-1],
        family=list(family),
        partitions={},
        mlflow_run="",
        metrics={},
    )
    manifest = dataclasses.replace(manifest, **fields)
    (known.root / name).mkdir(parents=True)
    (known.root / name / MANIFEST).write_text(json.dumps(dataclasses.asdict(manifest)))
