"""The model ``ranker``: from a request to scores and flags, inside KServe's life cycle."""

import dataclasses
import datetime
import functools
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import kserve
import numpy as np
import numpy.typing as npt
from kserve.protocol.infer_type import InferResponse

from features.encoding.encode import RequestInputs
from features.schema import Schema
from serving.admission import in_thread
from serving.inference.responses import RankingResponse, answer
from serving.lookup.store_breaker import StoreCircuitBreaker
from serving.lookup.transformer import (
    Candidates,
    Items,
    OnlineReader,
    Transformer,
)
from serving.micro_batcher import MicroBatcher
from serving.observability import metrics
from serving.observability.prediction_log import Answered, RequestLog
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import InferenceCall
from serving.protocol.ranking_request import (
    SCORE,
    RankingRequest,
    input_types,
    output_types,
    parse,
)
from serving.routing import shadow_pairs
from serving.routing.serving_versions import ServingVersions, WeightedModel, key_of
from serving.routing.shadow import Shadow
from serving.settings import Settings
from training.registry.aliases import CHAMPION

NAME = "ranker"
INLINE_VALUES = 2_000
"""Requests of no more values than these are checked on the event loop, in well under a millisecond;
a thread would take as long to begin."""

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
    """In which it was chosen: the lineup may have changed since."""
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
        """Who scores it."""
        return self.champion


class Ranker(kserve.Model):
    """Answers ranking requests with the champion, which may be swapped at any time.

    A request takes the reference once, so that its scores and its version belong together.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        online: OnlineReader,
        items: Callable[[], Items | None] = lambda: None,
        settings: Settings | None = None,
    ) -> None:
        """Args: the schema of requests, the store of features, items in memory, the settings."""
        super().__init__(NAME)
        self.schema = schema
        self.transformer = Transformer(schema, online=online, items=items)
        self.why_not_ready = "no champion has been loaded"
        settings = settings or Settings()
        self._limits = settings.limits
        self._store = settings.store
        self._patience = StoreCircuitBreaker(
            settings.store.max_seconds,
            self.transformer.read_together,
            finish=self.transformer.put_together,
            num_rows=self.transformer.num_reads,
        )
        scored = functools.partial(
            MicroBatcher[Job, Ranking],
            max_rows=settings.scoring.batch_rows,
            too_late=self._too_late,
            tell=metrics.scored_together,
        )
        self._batches = scored(self._score, name="score", num_threads=settings.scoring.num_workers)
        self._alone = scored(self._score_alone, name="score-alone", num_threads=1)
        self._num_inside = 0
        self.log = RequestLog(schema, settings.logging)
        self.shadow = Shadow(self.log)
        self.pairs = shadow_pairs.open_pairs(self.log)
        self.lineup: ServingVersions[Champion] = ServingVersions()

    @property
    def version(self) -> str | None:
        """Version of the champion; None before the first load."""
        return self.lineup.champion.version if self.lineup.champion else None

    def swap(self, champion: Champion) -> None:
        """Let a champion answer every request that starts from now on, with nobody beside it."""
        self.follow(ServingVersions(champion=champion))

    def follow(self, lineup: ServingVersions[Champion]) -> None:
        """Let every request that starts from now on be answered by this lineup."""
        before, self.lineup = self.lineup, lineup
        if not _is_same(before.shadow, lineup.shadow):
            self.shadow.forget()
        if before.champion is not lineup.champion or not _is_same(before.canary, lineup.canary):
            self.pairs.forget()
        self.ready = lineup.champion is not None

    def load(self) -> bool:
        """Whether there is a model; KServe calls this before a request, the repository loads."""
        return bool(self.ready)

    def get_input_types(self) -> list[dict[str, Any]]:
        """The inputs, for the metadata."""
        return input_types(self.schema)

    def get_output_types(self) -> list[dict[str, Any]]:
        """The outputs, for the metadata."""
        return output_types(self.schema)

    def candidates(self, call: InferenceCall) -> Candidates:
        """Check a call, read and encode: the path of every request and of any comparison."""
        request = parse(self.schema, call, now=datetime.datetime.now(datetime.UTC))
        return self.transformer.transform(request)

    def candidates_without_store(self, call: InferenceCall) -> Candidates:
        """As ``candidates`` where the store gives nothing."""
        request = parse(self.schema, call, now=datetime.datetime.now(datetime.UTC))
        return self.transformer.transform_without_store(request)

    def champion(self) -> Champion:
        """What answers; RequestError (503) with the reason where nothing can."""
        if self.lineup.champion is None:
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise RequestError(
                "model", NAME, f"not ready: {self.why_not_ready}", status=unavailable
            )
        return self.lineup.champion

    def check_version(self, version: str) -> None:
        """Refuse a request for another version than those that answer; empty asks for any."""
        self.champion()
        if version and self.lineup.named(version) is None:
            raise self._not_loaded(version)

    def answering(self, call: InferenceCall) -> tuple[Champion, str]:
        """Who answers a call, and in which role.

        The version that it names does, else champion or canary by its user.
        """
        self.champion()
        lineup, version = self.lineup, call.model_version
        found = lineup.named(version) if version else lineup.chosen(key_of(self.schema, call))
        if found is None:
            raise self._not_loaded(version)
        return found, lineup.role_of(found.version)

    def _not_loaded(self, version: str) -> RequestError:
        loaded = " and ".join(model.version for model in self.lineup.answering)
        limit = f"{loaded} is loaded"
        return RequestError("model_version", version, limit, status=HTTPStatus.NOT_FOUND)

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Answer one call, of REST or of gRPC, and count the seconds that it took."""
        self._num_inside += 1
        try:
            with metrics.timed():
                return await super().__call__(*arguments, **options)
        finally:
            self._num_inside -= 1

    async def preprocess(
        self, payload: InferenceCall, headers: dict[str, str] | None = None
    ) -> Job:
        """Check the call and read its features; what may take long in threads."""
        if not isinstance(payload, InferenceCall):
            raise RequestError("protocol", "v1", f"POST /v2/models/{NAME}/infer")
        self._check_size(payload)
        champion, role = self.answering(payload)
        deadline = min(payload.deadline, time.monotonic() + self._limits.max_seconds)
        with metrics.stage("features"):
            request = await self._request(payload)
            with metrics.charged(champion.version):
                candidates = await self._candidates(request)
        return Job(
            call=payload, candidates=candidates, champion=champion, role=role, deadline=deadline
        )

    async def predict(
        self,
        payload: Job,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> tuple[InferenceCall, Ranking]:
        """Score the candidates, together with those of requests that wait at the same time."""
        batches = self._alone if self._num_inside == 1 else self._batches
        with metrics.stage("score"), metrics.scoring(payload.champion.version) as scored:
            ranking = await batches.run(payload)
            scored.seconds = ranking.seconds
            if time.monotonic() > payload.deadline:
                # Nobody waits for it any more: to its caller it is a failure.
                raise self._too_late(payload)
            return payload.call, ranking

    async def postprocess(
        self,
        result: tuple[InferenceCall, Ranking],
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> InferResponse:
        """The answer, with the outputs that the call asked for."""
        call, ranking = result
        with metrics.charged(ranking.version):
            response = self._answer(call, ranking)
        metrics.count(ranking.candidates, ranking.version, ranking.scores)
        answered = Answered(
            request_id=call.id,
            answered_at=datetime.datetime.now(datetime.UTC),
            model_version=ranking.version,
            scores=ranking.scores,
            candidates=ranking.candidates,
            role=ranking.role,
        )
        is_mirrored = self.shadow.offer(self.lineup.shadow, answered)
        self.log.offer(answered, is_chosen=is_mirrored)
        self.pairs.offer(self.lineup.pair_of(ranking.version), answered)
        return response

    def _answer(self, call: InferenceCall, ranking: Ranking) -> RankingResponse:
        return answer(
            self.schema,
            call,
            model=NAME,
            version=ranking.version,
            scores=ranking.scores,
            candidates=ranking.candidates,
        )

    async def rehearse(self, call: InferenceCall) -> None:
        """Answer a call for nobody: what answers is at work when the first caller comes.

        Threads begin, connections open, and torch makes the one team of threads. The answer is
        neither logged nor counted; the read and the two batches are.
        """
        candidates = await self._candidates(await self._request(call))
        deadline = time.monotonic() + self._limits.max_seconds
        job = Job(
            call=call,
            candidates=candidates,
            champion=self.champion(),
            role=CHAMPION,
            deadline=deadline,
        )
        for batches in (self._alone, self._batches):
            ranking = await batches.submit(job)
            self._answer(call, ranking).to_grpc()

    def _check_size(self, call: InferenceCall) -> None:
        name = self.schema.item.name
        size = len(call.tensors[name].values) if name in call.tensors else 0
        if size > self._limits.max_candidates:
            raise RequestError(
                f"{name}.shape", [size], f"[n] with n from 1 to {self._limits.max_candidates}"
            )

    async def _request(self, call: InferenceCall) -> RankingRequest:
        now = datetime.datetime.now(datetime.UTC)
        size = sum(len(tensor.values) for tensor in call.tensors.values())
        if size <= INLINE_VALUES:
            return parse(self.schema, call, now=now)
        return await in_thread(parse, self.schema, call, now=now)

    async def _candidates(self, request: RankingRequest) -> Candidates:
        """With what was read in time; RequestError (503) where that is not all, and must be."""
        if not self.transformer.must_read:
            return await in_thread(self.transformer.transform, request)
        candidates = await self._patience.read(request)
        if candidates is not None:
            return candidates
        if self._store.is_strict:
            limit = f"within {self._store.max_seconds:g} seconds; try again"
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise RequestError("store", "no answer", limit, status=unavailable)
        return await in_thread(self.transformer.transform_without_store, request)

    def _score_alone(self, jobs: Sequence[Job]) -> Sequence[Ranking | RequestError]:
        """As ``_score``, on all cores where the champion can."""
        champion = jobs[0].champion
        return self._scored(jobs, champion.score_alone or champion.score)

    def _score(self, jobs: Sequence[Job]) -> Sequence[Ranking | RequestError]:
        """Answers to requests of one version; one whose scores are not finite is refused alone."""
        return self._scored(jobs, jobs[0].champion.score)

    def _scored(self, jobs: Sequence[Job], score: Score) -> Sequence[Ranking | RequestError]:
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

    def _too_late(self, job: Job) -> RequestError:
        limit = f"within {self._limits.max_seconds:g} seconds"
        return RequestError("answer", "not there", limit, status=HTTPStatus.SERVICE_UNAVAILABLE)


def _is_same(before: WeightedModel[Champion] | None, now: WeightedModel[Champion] | None) -> bool:
    """Whether the same model stands there, with whatever share."""
    return (before.model if before else None) is (now.model if now else None)


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
