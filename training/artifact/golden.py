"""The golden request of an artifact and its answer, by which every loaded copy proves itself."""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from features.encoding.encode import ModelInputs, RequestInputs
from features.places import Place, uri
from features.schema import Schema
from training.artifact.manifest import ArtifactError
from training.artifact.scorer import Scorer
from training.data.examples import encode_examples

GOLDEN_TOLERANCE = 1e-5
"""Largest difference of a golden probability: float32 sums may be ordered differently elsewhere."""
WARM_UP_CANDIDATES = (1, 100, 500, 2_000)
GOLDEN, SCORE = "golden.parquet", "golden_score"
"""The file of a golden request, and the column of its answer."""


@dataclasses.dataclass(frozen=True)
class Golden:
    """A golden request with its answer."""

    where: str
    """Its file, for errors."""
    inputs: ModelInputs
    scores: npt.NDArray[np.float32]

    @classmethod
    def read(cls, directory: Place, folder: Path, schema: Schema) -> "Golden":
        """The golden request of an artifact, of which a folder has the files."""
        scores = pq.read_table(folder / GOLDEN, columns=[SCORE]).column(SCORE).to_numpy()
        return cls(uri(directory / GOLDEN), golden_inputs(folder, schema), scores)

    def prove(self, scorer: Scorer) -> None:
        """ArtifactError where a scorer's answer differs.

        Rows that share nothing, and rows with a user each, are answered.
        """
        for request in (self.inputs, _as_one_user_each(self.inputs)):
            worst = float(np.abs(scorer.score(request) - self.scores).max(initial=0.0))
            if not worst <= GOLDEN_TOLERANCE:
                raise ArtifactError(
                    f"{self.where}: golden answer differs by {worst:.3g}; at most "
                    f"{GOLDEN_TOLERANCE:g}"
                )

    def warm_up(self, scorer: Scorer) -> None:
        """Score until all buffers are allocated, so that the first request does not wait for it."""
        if not len(self.inputs):
            return
        for size in WARM_UP_CANDIDATES:
            scorer.score(self.inputs.take(np.arange(size) % len(self.inputs)))


def golden_inputs(directory: Path, schema: Schema) -> ModelInputs:
    """The golden request as model inputs."""
    return encode_examples(schema, pq.read_table(directory / GOLDEN)).inputs


def _as_one_user_each(inputs: ModelInputs) -> RequestInputs:
    """Rows as a request of as many users, all but the last sparse input being theirs."""
    *shared, last = inputs.ids
    return RequestInputs(
        dense=inputs.dense,
        shared={name: inputs.ids[name] for name in shared},
        each={last: inputs.ids[last]},
        user=np.arange(len(inputs)),
    )
