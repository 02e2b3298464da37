"""Where the server's models come from: the registry's aliases, or one artifact's folder."""

import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from features.encoding.encode import RequestInputs
from features.places import Place
from features.schema import Schema
from serving.routing.serving_versions import Champion
from serving.routing.traffic_split import Shares, read_shares
from training.artifact import artifact
from training.artifact.aoti_cache import NativeCode
from training.artifact.artifact import Artifact
from training.artifact.manifest import read_manifest
from training.registry.aliases import CHAMPION

if TYPE_CHECKING:
    from training.registry.mlflow_registry import Registry

_ROWS_PER_THREAD = 50
"""Fewest candidates for which a thread more pays."""

logger = logging.getLogger(__name__)


class Models:
    """Says who is to serve, and opens and verifies artifacts.

    Args:
        schema: Of the requests.
        artifacts: The place of all artifacts.
        tracking: Folder of the MLflow database, which has the aliases.
        model: The place of one artifact, that is then all there is: a pod's model comes with the
            pod and changes with it, so there is no alias to follow.
        compiled: The folder of this machine's native code; the environment says whether the model
            runs as such code. None: it does not.
        num_threads: Of a request that has the server to itself; all others have one.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        artifacts: Place,
        tracking: Path,
        model: Place | None = None,
        compiled: Path | None = None,
        num_threads: int = 1,
    ) -> None:
        self._schema = schema
        self._artifacts = artifacts
        self._tracking = tracking
        self._model = model
        self._num_threads = num_threads
        self._native = NativeCode.from_environment(compiled) if compiled else None

    def champion_version(self) -> str | None:
        """Where the alias points now; None: nowhere."""
        if self._model is not None:
            return read_manifest(self._model).version
        return self._registry.alias(CHAMPION)

    def shares(self) -> Shares:
        """Canary and shadow, as the registry says now."""
        return Shares() if self._model is not None else read_shares(self._registry)

    def load(self, version: str) -> Champion:
        """As ``open`` has it, ready to score."""
        return champion_of(self.open(version), num_threads=self._num_threads)

    def open(self, version: str) -> Artifact:
        """An artifact that has proven itself; ArtifactError says what is wrong with it."""
        # A new thread has the number that was set last, which may be a lone request's.
        torch.set_num_threads(1)
        directory = self._model or self._artifacts / self._schema.name / version
        loaded = artifact.load(directory, self._schema, native=self._native, num_threads=1)
        how = "native code" if loaded.is_native else f"eager, native code {loaded.why_eager}"
        logger.info("%s: %s", version, how)
        return loaded

    @functools.cached_property
    def _registry(self) -> "Registry":
        # A worker, and a pod with its model, read no registry; MLflow is a quarter of their start.
        from training.registry.mlflow_registry import Registry

        # Opening it takes a second of Python, which every load would take from the requests.
        return Registry(self._tracking, self._schema.name)


def champion_of(loaded: Artifact, *, num_threads: int) -> Champion:
    """A loaded artifact that answers.

    Args:
        loaded: The artifact.
        num_threads: Of a request that has the process to itself.
    """

    def score_alone(inputs: RequestInputs) -> npt.NDArray[np.float32]:
        threads = min(num_threads, max(1, len(inputs) // _ROWS_PER_THREAD))
        return loaded.score(inputs, num_threads=threads)

    version = loaded.manifest.version
    return Champion(version=version, score=loaded.score, score_alone=score_alone)
