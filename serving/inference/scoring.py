"""Scoring: what a champion is, and how it scores a batch of requests."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

import numpy as np
import numpy.typing as npt

from features.encoding.encode import RequestInputs
from serving.protocol.candidates import Candidates
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import InferenceCall
from serving.protocol.ranking_request import SCORE

Score = Callable[[RequestInputs], npt.NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class Champion:
    """A verified artifact: its version, and how it scores."""

    version: str
    score: Score
    score_alone: Score | None = None
    """The same on more threads, for a request that has the server to itself; called from one thread
    only, for each thread that calls it has a team of its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """Scores of one request's candidates, in its order, by one version of the model."""

    scores: npt.NDArray[np.float32]
    candidates: Candidates
    version: str
    role: str
    """Of the version when it was chosen; the version may have another role by now."""
    seconds: float
    """The scoring of its batch, without the wait for a thread."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A request that is ready to be scored by the version that it began with."""

    call: InferenceCall
    candidates: Candidates
    champion: Champion
    role: str
    deadline: float

    @property
    def num_rows(self) -> int:
        """Candidates."""
        return len(self.candidates.inputs)

    @property
    def group(self) -> object:
        """The champion that scores it."""
        return self.champion


def score_batch(jobs: Sequence[Job]) -> Sequence[Ranking | RequestError]:
    """Scores of requests of one version; a request whose scores are not finite fails alone."""
    return _scored(jobs, jobs[0].champion.score)


def score_batch_alone(jobs: Sequence[Job]) -> Sequence[Ranking | RequestError]:
    """As ``score_batch``, on all cores where the champion can."""
    champion = jobs[0].champion
    return _scored(jobs, champion.score_alone or champion.score)


def _scored(jobs: Sequence[Job], score: Score) -> Sequence[Ranking | RequestError]:
    champion = jobs[0].champion
    candidates = [job.candidates for job in jobs]
    inputs = RequestInputs.joined([one.inputs for one in candidates])
    started = time.perf_counter()
    scores = score(inputs)
    seconds = time.perf_counter() - started
    ends = np.cumsum([len(one.inputs) for one in candidates])
    parts = np.split(scores, ends[:-1])
    return [
        _not_finite(part, champion.version)
        or Ranking(
            scores=part,
            candidates=job.candidates,
            version=champion.version,
            role=job.role,
            seconds=seconds,
        )
        for job, part in zip(jobs, parts, strict=True)
    ]


def _not_finite(scores: npt.NDArray[np.float32], version: str) -> RequestError | None:
    bad = np.flatnonzero(~np.isfinite(scores))
    if not len(bad):
        return None
    # The inputs have passed every check: what cannot score them is at fault, not their sender.
    return RequestError(
        f"{SCORE}[{bad[0]}]",
        float(scores[bad[0]]),
        f"a finite number from {version}",
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
    )
