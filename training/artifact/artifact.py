"""What is served: weights, manifest and a golden request with its answer, in one folder.

The folder counts from when its manifest, put last, is there. Other files may lie in it, such as the
reference (``training.artifact.reference``): a server does not read them.
Safe to load: safetensors, JSON and Parquet, no pickle and no code. A loaded artifact has proven
that its files are whole, that it fits the schema, and that it answers its golden request as when
written, by the very path that will serve: the tables in their precision, the dense part eager or
as native code made here.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from features.encoding.encode import ModelInputs, RequestInputs
from features.places import Place, local_root, put_whole
from features.schema import Schema
from training.artifact.aoti_cache import Compile, NativeCode, native_library
from training.artifact.aoti_runtime import NativeError, sha256
from training.artifact.golden import GOLDEN, SCORE, Golden
from training.artifact.image import Image, model_of
from training.artifact.manifest import MANIFEST, ArtifactError, Manifest, read_manifest
from training.artifact.quantized_tables import TablePrecision, packed
from training.artifact.scorer import Scorer
from training.data.examples import encode_examples
from training.model.inputs import inputs_of
from training.model.ranker import Ranker
from training.resources import num_cores

logger = logging.getLogger(__name__)

GOLDEN_ROWS = 64
_SECONDS_OF_COPY = 86_400.0
"""No load takes so long: an older copy is that of a killed process."""
_WEIGHTS = "weights.safetensors"
_FILES = (_WEIGHTS, GOLDEN)
_TABLE, _ROWS, _DENSE = "embeddings.embedding_bags.", ("weight", "rows"), "interaction."
"""Names in the weights: a table's ``weight`` is float32, its ``rows`` are quantised."""


class Artifact:
    """A loaded artifact."""

    def __init__(self, image: Image, scorer: Scorer) -> None:
        """Wrap a scorer that has been proven."""
        self.image = image
        self.manifest = image.manifest
        self._scorer = scorer

    @property
    def why_eager(self) -> str | None:
        """Why the dense part runs eager; None where it is native code."""
        return self.image.why_eager

    @property
    def is_native(self) -> bool:
        """Whether the dense part runs as native code."""
        return self.why_eager is None

    def score(
        self, inputs: RequestInputs | ModelInputs, *, num_threads: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Probabilities of a request's candidates, or of encoded rows, in their order.

        Args:
            inputs: What to score.
            num_threads: Threads inside this call; None: the number that it was loaded with.
        """
        return self._scorer.score(inputs, num_threads=num_threads)


def write(
    root: Place,
    ranker: Ranker,
    schema: Schema,
    golden: pa.Table,
    *,
    more_files: Mapping[str, bytes] | None = None,
    **fields: Any,
) -> Manifest:
    """Write an artifact under ``root/<dataset>/<version>``, whole or not at all.

    The version is the run's day, the role in a trial, and the first digits of the weights' hash:
    writing the same weights again gives the same version, in another precision another one.

    Args:
        root: Folder of all artifacts.
        ranker: Unsharded, with its trained weights.
        schema: The data set's schema.
        golden: Examples whose scores are kept as the golden answer.
        more_files: Contents of files that no server reads, by name; the manifest has their hashes.
        fields: The manifest's other fields: day, trained_through, recipe, config, parents, metrics,
            mlflow_run, checkpoint, role, growth, tables, table_costs.
    """
    manifest = Manifest(
        version="",
        dataset=schema.name,
        schema_fingerprint=schema.fingerprint(),
        content_sha256={},
        **fields,
    )
    precision = TablePrecision(manifest.tables)
    scores = Scorer.of(ranker.eval(), precision).score(encode_examples(schema, golden).inputs)
    answered = io.BytesIO()
    pq.write_table(golden.append_column(SCORE, pa.array(scores)), answered)
    files = {
        _WEIGHTS: save(_contents(ranker, precision)),
        GOLDEN: answered.getvalue(),
        **(more_files or {}),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    version = "-".join(filter(None, (manifest.day, manifest.role, hashes[_WEIGHTS][:8])))
    manifest = dataclasses.replace(manifest, version=version, content_sha256=hashes)
    target = root / schema.name / version
    if (target / MANIFEST).exists():
        return read_manifest(target)
    for name, content in files.items():
        put_whole(target / name, content)
    put_whole(target / MANIFEST, json.dumps(dataclasses.asdict(manifest), indent=1).encode())
    return manifest


def load(
    directory: Place,
    schema: Schema,
    *,
    native: NativeCode | None = None,
    num_threads: int | None = None,
) -> Artifact:
    """Load an artifact, prove it and warm it up.

    Args:
        directory: Its folder.
        schema: The data set's schema.
        native: Whether and where native code is kept; None: eager.
        num_threads: Threads inside one call of ``score``; None: torch's number at this moment.

    Raises:
        ArtifactError: A file is missing, changed or cut off; the schema is another one; the golden
            request is not answered as when the artifact was written; or native code is required and
            there is none.
    """
    manifest = read_manifest(directory)
    inputs = inputs_of(schema)
    # Native code does not ask torch: in a new thread it would take all cores.
    num_threads = num_threads or min(torch.get_num_threads(), num_cores())
    with _on_disk(directory) as folder:
        _check_files(directory, folder, manifest)
        if manifest.schema_fingerprint != schema.fingerprint():
            raise ArtifactError(
                f"{directory / MANIFEST}: schema {manifest.schema_fingerprint}; expected that of "
                f"{schema.name}, {schema.fingerprint()}"
            )
        try:
            dense, rows = _parts(load_file(folder / _WEIGHTS), TablePrecision(manifest.tables))
            golden = Golden.read(directory, folder, schema)
            image = Image.of(manifest, inputs=inputs, dense=dense, rows=rows, golden=golden)
            scorer = image.scorer(inputs, num_threads=num_threads)
        except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(
                f"{directory / _WEIGHTS}: does not fit the manifest's model: {error}"
            ) from error
    golden.prove(scorer)
    why_eager: str | None = "not asked for"
    if native is not None and native.mode is not Compile.OFF:
        try:
            code = native_library(native, directory, inputs=inputs, config=model_of(manifest))
            native_image = dataclasses.replace(image, library=code)
            native_scorer = native_image.scorer(inputs, num_threads=num_threads)
            golden.prove(native_scorer)
            image, scorer, why_eager = native_image, native_scorer, None
        except (NativeError, ArtifactError) as error:
            if native.mode is Compile.REQUIRED:
                raise ArtifactError(f"{directory}: no native code: {error}") from error
            why_eager = str(error)
            logger.warning("artifact %s: the dense part runs eager: %s", manifest.version, error)
    golden.warm_up(scorer)
    return Artifact(dataclasses.replace(image, why_eager=why_eager), scorer)


def attach(image: Image, schema: Schema, *, num_threads: int) -> Artifact:
    """An artifact that another process has loaded and proven, on the image's own memory.

    Args:
        image: What that process has.
        schema: The data set's schema.
        num_threads: Threads inside one call of ``score``.

    Raises:
        ArtifactError: It does not answer its golden request as when it was written.
        NativeError: Its native code does not load.
    """
    scorer = image.scorer(inputs_of(schema), num_threads=num_threads)
    image.golden.prove(scorer)
    image.golden.warm_up(scorer)
    return Artifact(image, scorer)


def _contents(ranker: Ranker, precision: TablePrecision) -> dict[str, Tensor]:
    """Tensors of the weights' file."""
    state = {name: value.contiguous() for name, value in ranker.state_dict().items()}
    if precision is TablePrecision.FP32:
        return state
    contents = {}
    for name, value in state.items():
        if name.startswith(_TABLE):
            contents[name.removesuffix("weight") + "rows"] = packed(value, precision).contiguous()
        else:
            contents[name] = value
    return contents


def _parts(
    contents: dict[str, Tensor], precision: TablePrecision
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the dense part, and the rows of each table."""
    last = _ROWS[precision is not TablePrecision.FP32]
    dense = {n.removeprefix(_DENSE): v for n, v in contents.items() if n.startswith(_DENSE)}
    rows = {
        name.removeprefix(_TABLE).removesuffix(f".{last}"): value
        for name, value in contents.items()
        if name.startswith(_TABLE)
    }
    return dense, rows


@contextlib.contextmanager
def _on_disk(directory: Place) -> Iterator[Path]:
    """The artifact's folder, or a copy of one in an object store for as long as the block."""
    if isinstance(directory, Path):
        yield directory
        return
    copies = local_root() / "loading"
    copies.mkdir(parents=True, exist_ok=True)
    for left in copies.iterdir():
        # A killed process leaves its copy; those of others that load come and go.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _SECONDS_OF_COPY:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=copies) as folder:
        for name in _FILES:
            with contextlib.suppress(FileNotFoundError):
                directory.fs.get_file((directory / name).path, f"{folder}/{name}")
        yield Path(folder)


def _check_files(directory: Place, folder: Path, manifest: Manifest) -> None:
    """ArtifactError unless both files are in the folder as they were written."""
    for name in _FILES:
        expected = manifest.content_sha256.get(name, "a hash in the manifest")
        found = sha256(folder / name) if (folder / name).exists() else "no file"
        if found != expected:
            raise ArtifactError(f"{directory / name}: sha256 {found}; expected {expected}")
