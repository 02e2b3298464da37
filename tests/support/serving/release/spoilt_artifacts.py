"""Ways to spoil an artifact's folder, each of which the loader must find."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.artifact.aoti_runtime import sha256
from training.artifact.manifest import MANIFEST


def rewritten(folder: Path, **changes: Any) -> None:
    """A manifest that fits the files as they are now, and says something else."""
    manifest = json.loads((folder / MANIFEST).read_text())
    hashes = {name: sha256(folder / name) for name in manifest["content_sha256"]}
    changed = {**manifest, "content_sha256": hashes, **changes}
    (folder / MANIFEST).write_text(json.dumps(changed))


def wrong_fingerprint(folder: Path) -> None:
    rewritten(folder, schema_fingerprint="another")


def wrong_golden_answer(folder: Path) -> None:
    table = pq.read_table(folder / "golden.parquet")
    index = table.column_names.index("golden_score")
    other = pa.array(table.column(index).to_numpy() + np.float32(1e-3))
    pq.write_table(table.set_column(index, "golden_score", other), folder / "golden.parquet")
    rewritten(folder)


def truncated_weights(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def truncated_weights_with_a_fitting_hash(folder: Path) -> None:
    truncated_weights(folder)
    rewritten(folder)


def missing_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def missing_folder(folder: Path) -> None:
    shutil.rmtree(folder)
