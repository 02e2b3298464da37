"""A data set's model: from a request to its answer, in one place."""

import asyncio
import datetime
import functools
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import kserve

from features.online_store.reader import OnlineRows
from features.schema import Schema
from serving.admission import Admission, Deadline, Place
from serving.inference.ranking import Job, Ranking, RankingResponse, score_batch
from serving.lookup.item_cache import Items
from serving.lookup.store_breaker import StoreCircuitBreaker
from serving.lookup.transformer import Candidates, FeatureRows, Transformer
from serving.micro_batcher import MicroBatcher, Submitted
from serving.observability import metrics, request_metrics, tracing
from serving.observability.answered import ALL, Answered, Arm
from serving.observability.prediction_log import RequestLog
from serving.observability.sampling import inclusion
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import Encoded, InferenceCall, Message
from serving.protocol.ranking_request import RankingRequest, input_types, output_types, parse
from serving.routing.serving_versions import Champion, ServingVersions, WeightedModel, key_of
from serving.routing.shadow import Shadow, open_pairs
from serving.settings import Settings
from training.registry.aliases import CHAMPION

INLINE_BYTES = 16_384
"""Messages of no more than these are read and written on the event loop, in well under a
millisecond; a thread would take as long to begin. Others must not wait so long for larger ones."""
INLINE_VALUES = 2_000
"""So are requests of no more values than these checked."""


class Ranker(kserve.Model):
    """Answers ranking requests with the champion, which may be swapped at any time.

    A request takes the reference once, so that its scores and its version belong together. KServe
    has its life cycle and its metadata; requests come by ``rank``, and not by KServe's own call.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        online: OnlineRows,
        items: Callable[[], Items | None] = lambda: None,
        settings: Settings | None = None,
        admission: Admission | None = None,
    ) -> None:
        """Without a champion every request is answered with the reason.

        Args:
            schema: Of the requests; the model has the name of its data set.
            online: The store of features.
            items: Items in memory, if there are any.
            settings: The settings.
            admission: Of all models of the process; None: there is no other.
        """
        super().__init__(schema.name)
        metrics.begin(schema.name)
        settings = settings or Settings()
        self.schema = schema
        self.transformer = Transformer(schema, online=online, items=items)
        self.admission = admission or Admission(settings.limits, [schema.name])
        self.why_not_ready = "no champion has been loaded"
        self._limits = settings.limits
        self._store = settings.store
        self._breaker = StoreCircuitBreaker(
            settings.store.max_seconds, self.transformer.read, model=schema.name
        )
        scored = functools.partial(
            MicroBatcher[Job, Ranking],
            max_rows=settings.scoring.batch_rows,
            sizes=metrics.BATCH_REQUESTS.labels(schema.name),
        )
        score = functools.partial(score_batch, self.transformer)
        alone = functools.partial(score, is_alone=True)
        self._batches = scored(score, name="score", num_threads=settings.scoring.num_workers)
        self._alone = scored(alone, name="score-alone", num_threads=1)
        self.log = RequestLog(schema, settings.logging, key=settings.log_key)
        self.shadow = Shadow(self.log)
        self.pairs = open_pairs(self.log)
        self.versions = ServingVersions()

    async def rank(self, message: Message[RankingResponse, Encoded]) -> Encoded:
        """Answer a request to infer, of whichever protocol.

        Raises:
            RequestError: Says what is wrong with the request, or why it has no answer.
            ClientDisconnect: No one waits for the answer any more.
        """
        if message.model_version is not None:
            self.check_version(message.model_version)
        admission, model = self.admission, self.name
        with request_metrics.whole(model, message.arrived_at):
            deadline = admission.deadline(message.caller_seconds, arrived_at=message.arrived_at)
            admission.check_room(model)
            body = await self._receive(message.read, deadline)
            async with admission.enter(deadline, message.caller_left, model=model) as place:
                call = await place.run(len(body) > INLINE_BYTES, message.decode, body)
                started = time.perf_counter()
                tracing.describe(request_id=call.id)
                champion, role, arm = self.answering(call)
                with request_metrics.stage(model, "features"):
                    request = await self._parse(call, place)
                    with request_metrics.charged(model, champion.version):
                        rows = await self._look_up(request)
                with request_metrics.charged(model, champion.version):
                    job = Job(request=request, rows=rows, champion=champion)
                    ranking = await self._score(job, place)
                    with request_metrics.stage(model, "respond"):
                        response = RankingResponse.of(self.schema, call, ranking, champion.version)
                        is_large = response.num_bytes > INLINE_BYTES
                        encoded = await place.run(is_large, message.encode, response)
                request_metrics.count(
                    *(model, champion.version),
                    candidates=ranking.candidates,
                    scores=ranking.scores,
                )
                metrics.SECONDS.labels(model).observe(time.perf_counter() - started)
                self._log(call, ranking, response, role=role, arm=arm)
                return encoded

    @property
    def version(self) -> str | None:
        """Version of the champion; None before the first load."""
        return self.versions.champion.version if self.versions.champion else None

    def swap(self, champion: Champion) -> None:
        """Let a champion answer every request that starts from now on, without canary or shadow."""
        self.follow(ServingVersions(champion=champion))

    def follow(self, versions: ServingVersions) -> None:
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

    def get_input_types(self) -> list[dict[str, object]]:
        """The inputs, for the metadata."""
        return input_types(self.schema)

    def get_output_types(self) -> list[dict[str, object]]:
        """The outputs, for the metadata."""
        return output_types(self.schema)

    def candidates_without_store(self, call: InferenceCall) -> Candidates:
        """What a call ranks, without the features of the store."""
        request = parse(self.schema, call, now=_now())
        return self.transformer.put_together(request, self.transformer.without_store())

    def champion(self) -> Champion:
        """The champion; RequestError (503) with the reason where none is loaded."""
        champion = self.versions.champion
        if champion is None:
            limit, unavailable = f"not ready: {self.why_not_ready}", HTTPStatus.SERVICE_UNAVAILABLE
            raise RequestError("model", self.name, limit, status=unavailable)
        return champion

    def check_version(self, version: str) -> None:
        """RequestError (404) for a version that does not serve; an empty one means any."""
        self.champion()
        if version and self.versions.named(version) is None:
            raise self._not_loaded(version)

    def answering(self, call: InferenceCall) -> tuple[Champion, str, Arm]:
        """The model that answers a call, its role, and the side of the split that has the call.

        It is the version that the call names, else champion or canary by the user.
        """
        champion, versions, version = self.champion(), self.versions, call.model_version
        if versions.canary is None and not version:
            return champion, CHAMPION, ALL
        arm = versions.arm_of(key_of(self.schema, call))
        found = versions.named(version) if version else versions.model_of(arm)
        if found is None:
            raise self._not_loaded(version)
        return found, versions.role_of(found.version), arm

    def _not_loaded(self, version: str) -> RequestError:
        loaded = " and ".join(model.version for model in self.versions.answering)
        limit = f"{loaded} is loaded"
        return RequestError("model_version", version, limit, status=HTTPStatus.NOT_FOUND)

    async def _receive(
        self, read: Callable[[], Awaitable[bytes]] | bytes, deadline: Deadline
    ) -> bytes:
        if isinstance(read, bytes):
            return read
        with request_metrics.stage(self.name, "receive"):
            return await self.admission.receive(read, deadline)

    async def _parse(self, call: InferenceCall, place: Place) -> RankingRequest:
        name, most = self.schema.item.name, self._limits.max_candidates
        size = len(call.tensors[name].values) if name in call.tensors else 0
        if size > most:
            raise RequestError(f"{name}.shape", [size], f"[n] with n from 1 to {most}")
        num_values = sum(len(tensor.values) for tensor in call.tensors.values())
        return await place.run(num_values > INLINE_VALUES, parse, self.schema, call, now=_now())

    async def _look_up(self, request: RankingRequest) -> FeatureRows:
        """The rows that are there in time; RequestError (503) where a late store is an error."""
        num_rows = self.transformer.num_reads(request)
        if not num_rows:
            return self.transformer.without_store(is_unavailable=False)
        rows = await self._breaker.read(request, num_rows=num_rows)
        if rows is None and self._store.is_strict:
            limit = f"within {self._store.max_seconds:g} seconds; try again"
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise RequestError("store", "no answer", limit, status=unavailable)
        return rows or self.transformer.without_store()

    async def _score(self, job: Job, place: Place) -> Ranking:
        """Its scores, together with those of requests that wait at the same time."""
        batches = self._alone if self.admission.num_inside == 1 else self._batches
        started, seconds = time.perf_counter(), None
        try:
            with request_metrics.stage(self.name, "score"):
                ranking = await place.wait_for(_submit(batches, job))
            seconds = ranking.seconds
        finally:
            # Versions share the wait for a thread, which would hide the slower one. What was never
            # scored counts with all of its time.
            took = time.perf_counter() - started if seconds is None else seconds
            metrics.VERSION_SECONDS.labels(self.name, job.champion.version).observe(took)
        return ranking

    def _log(
        self,
        call: InferenceCall,
        ranking: Ranking,
        response: RankingResponse,
        *,
        role: str,
        arm: Arm,
    ) -> None:
        """Offer the answer to whoever keeps a sample, or scores one again."""
        versions, shadow = self.versions, self.versions.shadow
        if shadow is None and versions.canary is None and not self.log.share:
            return
        included = inclusion(
            response.answer_id,
            share=self.log.share,
            role=role,
            is_degraded=ranking.candidates.is_degraded,
            mirrored=shadow.share.percent / 100 if shadow else 0.0,
        )
        if shadow is None and versions.canary is None and included is None:
            return
        answered = Answered(
            answer_id=response.answer_id,
            request_id=call.id,
            answered_at=_now(),
            model_version=response.model_version,
            scores=ranking.scores,
            candidates=ranking.candidates,
            role=role,
            arm=arm,
            inclusion=included,
        )
        self.shadow.offer(shadow, answered)
        self.log.offer(answered)
        self.pairs.offer(versions.pair_of(response.model_version), answered)

    async def warm_up(self, call: InferenceCall) -> None:
        """Run a warm-up request, so that the first caller does not wait longer than others.

        It starts the threads, opens the connections, and has torch start its worker threads. The
        answer is neither logged nor counted; the read and the two batches are counted.
        """
        champion, request = self.champion(), parse(self.schema, call, now=_now())
        job = Job(request=request, rows=await self._look_up(request), champion=champion)
        for batches in (self._alone, self._batches):
            ranking = await asyncio.wrap_future(_submit(batches, job))
            RankingResponse.of(self.schema, call, ranking, champion.version).to_grpc()


def _submit(batches: MicroBatcher[Job, Ranking], job: Job) -> Submitted[Job, Ranking]:
    return batches.submit(job, num_rows=len(job.request), group=job.champion)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _is_same(before: WeightedModel | None, now: WeightedModel | None) -> bool:
    """Whether the same model stands there, with whatever share."""
    return (before.model if before else None) is (now.model if now else None)
