"""The model ``ranker``: from a request to scores and flags, inside KServe's life cycle."""

import datetime
import functools
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import kserve
from kserve.protocol.infer_type import InferResponse

from features.schema import Schema
from serving.admission import in_thread
from serving.inference.responses import RankingResponse, answer
from serving.inference.scoring import Champion, Job, Ranking, score_batch, score_batch_alone
from serving.lookup.store_breaker import StoreCircuitBreaker
from serving.lookup.transformer import Items, OnlineReader, Transformer
from serving.micro_batcher import MicroBatcher
from serving.observability import request_metrics
from serving.observability.prediction_log import Answered, RequestLog
from serving.protocol.candidates import Candidates
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import InferenceCall
from serving.protocol.ranking_request import RankingRequest, input_types, output_types, parse
from serving.routing import shadow_pairs
from serving.routing.serving_versions import ServingVersions, WeightedModel, key_of
from serving.routing.shadow import Shadow
from serving.settings import Settings
from training.registry.aliases import CHAMPION

NAME = "ranker"
INLINE_VALUES = 2_000
"""Requests of no more values than these are checked on the event loop, in well under a millisecond;
a thread would take as long to begin."""


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
        self._breaker = StoreCircuitBreaker(
            settings.store.max_seconds,
            self.transformer.read_together,
            finish=self.transformer.put_together,
            num_rows=self.transformer.num_reads,
        )
        scored = functools.partial(
            MicroBatcher[Job, Ranking],
            max_rows=settings.scoring.batch_rows,
            too_late=self._too_late,
            on_batch=request_metrics.scored_together,
        )
        self._batches = scored(score_batch, name="score", num_threads=settings.scoring.num_workers)
        self._alone = scored(score_batch_alone, name="score-alone", num_threads=1)
        self._num_inside = 0
        self.log = RequestLog(schema, settings.logging)
        self.shadow = Shadow(self.log)
        self.pairs = shadow_pairs.open_pairs(self.log)
        self.versions: ServingVersions[Champion] = ServingVersions()

    @property
    def version(self) -> str | None:
        """Version of the champion; None before the first load."""
        return self.versions.champion.version if self.versions.champion else None

    def swap(self, champion: Champion) -> None:
        """Let a champion answer every request that starts from now on, without canary or shadow."""
        self.follow(ServingVersions(champion=champion))

    def follow(self, versions: ServingVersions[Champion]) -> None:
        """Let every request that starts from now on be answered by these versions."""
        before, self.versions = self.versions, versions
        if not _is_same(before.shadow, versions.shadow):
            self.shadow.forget()
        if before.champion is not versions.champion or not _is_same(before.canary, versions.canary):
            self.pairs.forget()
        self.ready = versions.champion is not None

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
        """As ``candidates``, without the features of the store."""
        request = parse(self.schema, call, now=datetime.datetime.now(datetime.UTC))
        return self.transformer.transform_without_store(request)

    def champion(self) -> Champion:
        """The champion; RequestError (503) with the reason where none is loaded."""
        if self.versions.champion is None:
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise RequestError(
                "model", NAME, f"not ready: {self.why_not_ready}", status=unavailable
            )
        return self.versions.champion

    def check_version(self, version: str) -> None:
        """RequestError (404) for a version that does not serve; an empty one means any."""
        self.champion()
        if version and self.versions.named(version) is None:
            raise self._not_loaded(version)

    def answering(self, call: InferenceCall) -> tuple[Champion, str]:
        """The model that answers a call, and its role.

        It is the version that the call names, else champion or canary by the user.
        """
        self.champion()
        versions, version = self.versions, call.model_version
        found = versions.named(version) if version else versions.chosen(key_of(self.schema, call))
        if found is None:
            raise self._not_loaded(version)
        return found, versions.role_of(found.version)

    def _not_loaded(self, version: str) -> RequestError:
        loaded = " and ".join(model.version for model in self.versions.answering)
        limit = f"{loaded} is loaded"
        return RequestError("model_version", version, limit, status=HTTPStatus.NOT_FOUND)

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Answer one call, of REST or of gRPC, and count the seconds that it took."""
        self._num_inside += 1
        try:
            with request_metrics.timed():
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
        with request_metrics.stage("features"):
            request = await self._request(payload)
            with request_metrics.charged(champion.version):
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
        with (
            request_metrics.stage("score"),
            request_metrics.scoring(payload.champion.version) as scored,
        ):
            ranking = await batches.run(payload)
            scored.seconds = ranking.seconds
            if time.monotonic() > payload.deadline:
                # The caller has got an error by now: a late answer counts as a failure.
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
        with request_metrics.charged(ranking.version):
            response = self._answer(call, ranking)
        request_metrics.count(ranking.candidates, ranking.version, ranking.scores)
        answered = Answered(
            request_id=call.id,
            answered_at=datetime.datetime.now(datetime.UTC),
            model_version=ranking.version,
            scores=ranking.scores,
            candidates=ranking.candidates,
            role=ranking.role,
        )
        is_mirrored = self.shadow.offer(self.versions.shadow, answered)
        self.log.offer(answered, is_chosen=is_mirrored)
        self.pairs.offer(self.versions.pair_of(ranking.version), answered)
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

    async def warm_up(self, call: InferenceCall) -> None:
        """Run a warm-up request, so that the first caller does not wait longer than others.

        It starts the threads, opens the connections, and has torch start its worker threads. The
        answer is neither logged nor counted; the read and the two batches are counted.
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
        """Add the features read in time; RequestError (503) where a late store is an error."""
        if not self.transformer.must_read:
            return await in_thread(self.transformer.transform, request)
        candidates = await self._breaker.read(request)
        if candidates is not None:
            return candidates
        if self._store.is_strict:
            limit = f"within {self._store.max_seconds:g} seconds; try again"
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise RequestError("store", "no answer", limit, status=unavailable)
        return await in_thread(self.transformer.transform_without_store, request)

    def _too_late(self, job: Job) -> RequestError:
        limit = f"within {self._limits.max_seconds:g} seconds"
        return RequestError("answer", "not there", limit, status=HTTPStatus.SERVICE_UNAVAILABLE)


def _is_same(before: WeightedModel[Champion] | None, now: WeightedModel[Champion] | None) -> bool:
    """Whether the same model stands there, with whatever share."""
    return (before.model if before else None) is (now.model if now else None)
