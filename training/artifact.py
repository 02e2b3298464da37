"""What is served: weights, manifest and a golden request with its answer, in one folder.

Safe to load: safetensors, JSON and Parquet, no pickle. A loaded artifact has proven that its files
are whole, that it fits the schema, and that it still answers its golden request as when written.
"""

import dataclasses
import hashlib
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from features.encoding import ModelInputs
from features.schema import Schema
from training.batch import jagged
from training.config import model_from_dict
from training.dataset import encode_examples
from training.inputs import inputs_of
from training.manifest import MANIFEST, ArtifactError, Manifest, read_manifest
from training.ranker import Ranker

GOLDEN_ROWS = 64
GOLDEN_TOLERANCE = 1e-5
"""Largest difference of a golden probability: float32 sums may be ordered differently elsewhere."""
_WEIGHTS, _GOLDEN = "weights.safetensors", "golden.parquet"
_SCORE = "golden_score"
_ROWS_AT_ONCE = 8_192


class Artifact:
    """A loaded artifact."""

    def __init__(self, manifest: Manifest, ranker: Ranker) -> None:
        """Wrap a ranker that is ready to score."""
        self.manifest = manifest
        self._ranker = ranker.eval()

    def score(self, inputs: ModelInputs) -> npt.NDArray[np.float32]:
        """Probabilities of encoded rows, in their order."""
        parts = []
        for start in range(0, len(inputs), _ROWS_AT_ONCE):
            rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(inputs)))
            part = inputs if len(rows) == len(inputs) else inputs.take(rows)
            with torch.inference_mode():
                logits = self._ranker(torch.from_numpy(part.dense), jagged(part))
                parts.append(torch.sigmoid(logits).numpy())
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def write(root: Path, ranker: Ranker, schema: Schema, golden: pa.Table, **fields: Any) -> Manifest:
    """Write an artifact under ``root/<dataset>/<version>``, whole or not at all.

    The version is the run's day, the role in a trial, and the first digits of the weights' hash:
    writing the same weights again gives the same version.

    Args:
        root: Folder of all artifacts.
        ranker: Unsharded, with its trained weights.
        schema: The data set's schema.
        golden: Examples whose scores are kept as the golden answer.
        fields: The manifest's other fields: day, trained_through, recipe, config, parents, metrics,
            mlflow_run, checkpoint, role, growth.
    """
    staging = root / schema.name / f".writing-{uuid.uuid4().hex[:12]}"
    staging.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in ranker.state_dict().items()}, staging / _WEIGHTS)
    inputs = encode_examples(schema, golden).inputs
    manifest = Manifest(
        version="",
        dataset=schema.name,
        schema_fingerprint=schema.fingerprint(),
        content_sha256={},
        **fields,
    )
    scores = Artifact(manifest, ranker).score(inputs)
    pq.write_table(golden.append_column(_SCORE, pa.array(scores)), staging / _GOLDEN)
    hashes = {name: _sha256(staging / name) for name in (_WEIGHTS, _GOLDEN)}
    version = "-".join(filter(None, (manifest.day, manifest.role, hashes[_WEIGHTS][:8])))
    manifest = dataclasses.replace(manifest, version=version, content_sha256=hashes)
    (staging / MANIFEST).write_text(json.dumps(dataclasses.asdict(manifest), indent=1))
    target = root / schema.name / version
    if target.exists():
        shutil.rmtree(staging)
        return read_manifest(target)
    staging.rename(target)
    return manifest


def load(directory: Path, schema: Schema) -> Artifact:
    """Load an artifact and prove it.

    Raises:
        ArtifactError: A file is missing, changed or cut off; the schema is another one; or the
            golden request is not answered as when the artifact was written.
    """
    manifest = read_manifest(directory)
    for name, expected in manifest.content_sha256.items():
        found = _sha256(directory / name) if (directory / name).exists() else "no file"
        if found != expected:
            raise ArtifactError(f"{directory / name}: sha256 {found}; expected {expected}")
    if manifest.schema_fingerprint != schema.fingerprint():
        raise ArtifactError(
            f"artifact {manifest.version}: schema {manifest.schema_fingerprint}; expected that of "
            f"{schema.name}, {schema.fingerprint()}"
        )
    ranker = Ranker(inputs_of(schema), model_from_dict(manifest.config["model"]))
    ranker.load_state_dict(load_file(directory / _WEIGHTS))
    artifact = Artifact(manifest, ranker)
    _prove(artifact, directory, schema)
    return artifact


def golden_inputs(directory: Path, schema: Schema) -> ModelInputs:
    """The golden request as model inputs, for warming up."""
    return encode_examples(schema, pq.read_table(directory / _GOLDEN)).inputs


def _prove(artifact: Artifact, directory: Path, schema: Schema) -> None:
    expected = pq.read_table(directory / _GOLDEN, columns=[_SCORE]).column(_SCORE).to_numpy()
    scores = artifact.score(golden_inputs(directory, schema))
    worst = float(np.abs(scores - expected).max(initial=0.0))
    if not worst <= GOLDEN_TOLERANCE:
        raise ArtifactError(
            f"artifact {artifact.manifest.version}: golden answer differs by {worst:.3g}; "
            f"at most {GOLDEN_TOLERANCE:g}"
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
