"""A data set's model: from a request to its answer, in one place."""

import asyncio
import dataclasses
import datetime
import functools
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import kserve

from features.online_store.reader import OnlineRows
from features.schema import Schema
from serving.admission import Admission, Deadline, Place
from serving.inference.ranking import Job, Ranking, RankingResponse, score_batch, with_rows
from serving.lookup.item_cache import Items
from serving.lookup.store_breaker import SMALL_ROWS, StoreCircuitBreaker
from serving.lookup.transformer import FeatureRows, Transformer
from serving.micro_batcher import MicroBatcher, Submitted
from serving.observability import metrics, request_metrics, tracing
from serving.observability.answered import ALL, Arm
from serving.observability.prediction_log import RequestLog
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import Encoded, InferenceCall, Message
from serving.protocol.ranking_request import RankingRequest, input_types, output_types, parse
from serving.routing.offers import Offers
from serving.routing.serving_versions import Champion, ServingVersions, key_of
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
        self._limits, self._store = settings.limits, settings.store
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
        self._has_team = settings.scoring.num_threads > 1
        self._at_once = scored(
            score,
            name="read-score",
            num_threads=settings.scoring.num_workers,
            prepare=functools.partial(
                with_rows, self.transformer, metrics.READ_REQUESTS.labels(schema.name)
            ),
        )
        self.offers = Offers(RequestLog(schema, settings.logging, key=settings.log_key))
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
                with request_metrics.stage(model, "features") as features:
                    job = Job(request=await self._parse(call, place), champion=champion)
                    with request_metrics.charged(model, champion.version):
                        read = await self._read(job, place, features)
                with request_metrics.charged(model, champion.version):
                    ranking = await self._score(read, place) if isinstance(read, Job) else read
                    with request_metrics.stage(model, "respond"):
                        response = RankingResponse.of(self.schema, call, ranking, champion.version)
                        is_large = response.num_bytes > INLINE_BYTES
                        encoded = await place.run(is_large, message.encode, response)
                request_metrics.count(model, champion.version, ranking.candidates, ranking.scores)
                metrics.series(metrics.SECONDS, model).observe(time.perf_counter() - started)
                versions = self.versions
                if versions.shadow or versions.canary or self.offers.log.share:
                    self.offers.offer(versions, response, ranking, role=role, arm=arm)
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
        self.offers.forget(before, versions)
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

    async def _read(self, job: Job, place: Place, stage: request_metrics.Stage) -> Ranking | Job:
        """Its ranking or, where another thread is to score it, the job with its rows."""
        if not self._is_one_step(job.request):
            return dataclasses.replace(job, rows=await self._look_up(job.request))
        ranking = await self._read_and_score(job, place, stage)
        return ranking or dataclasses.replace(job, rows=self._without_store())

    def _is_one_step(self, request: RankingRequest) -> bool:
        """Whether the thread that reads goes on to score, as is cheapest.

        A large read must not hold up others, a lone request is scored by a thread with a team, and
        spans belong to the request's own task.
        """
        is_small = 0 < self.transformer.num_reads(request) <= SMALL_ROWS
        is_lone = self._has_team and self.admission.num_inside == 1
        return is_small and not is_lone and not tracing.is_on()

    async def _read_and_score(
        self, job: Job, place: Place, stage: request_metrics.Stage
    ) -> Ranking | None:
        """Its scores; None where its rows, with which ``stage`` ends, are not there in time."""
        if not self._breaker.may_ask():
            return None
        started, read = time.perf_counter(), _submit(self._at_once, job)
        ranking, is_late = None, False
        try:
            with place.keeping(read):
                ranking = await self._breaker.answer(read, self._at_once)
            is_late = ranking is None
        finally:
            if read.prepared is not None and not is_late:
                stage.end(read.prepared)
                request_metrics.has_taken(self.name, "score", time.perf_counter() - read.prepared)
            if not is_late:
                self._count_seconds(job, read.prepared or started, ranking)
        return ranking

    async def _look_up(self, request: RankingRequest) -> FeatureRows:
        """The rows that are there in time; RequestError (503) where a late store is an error."""
        num_rows = self.transformer.num_reads(request)
        if not num_rows:
            return self.transformer.without_store(is_unavailable=False)
        return await self._breaker.read(request, num_rows=num_rows) or self._without_store()

    def _without_store(self) -> FeatureRows:
        """What there is where a read is late; RequestError (503) where that is an error."""
        if self._store.is_strict:
            limit = f"within {self._store.max_seconds:g} seconds; try again"
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise RequestError("store", "no answer", limit, status=unavailable)
        return self.transformer.without_store()

    async def _score(self, job: Job, place: Place) -> Ranking:
        """Its scores, together with those of requests that wait at the same time."""
        batches = self._alone if self.admission.num_inside == 1 else self._batches
        started, ranking = time.perf_counter(), None
        try:
            with request_metrics.stage(self.name, "score"):
                ranking = await place.wait_for(_submit(batches, job))
        finally:
            self._count_seconds(job, started, ranking)
        return ranking

    def _count_seconds(self, job: Job, since: float, ranking: Ranking | None) -> None:
        """Count a scoring against its version: its batch's, or what was never scored all its time.

        Versions share the wait for a thread, which would hide the slower one.
        """
        took = time.perf_counter() - since if ranking is None else ranking.seconds
        metrics.series(metrics.VERSION_SECONDS, self.name, job.champion.version).observe(took)

    async def warm_up(self, call: InferenceCall) -> None:
        """Run a warm-up request, so that the first caller does not wait longer than others.

        It starts the threads, opens the connections, and has torch start its worker threads. The
        answer is neither logged nor counted; the reads and the batches are counted.
        """
        champion, request = self.champion(), parse(self.schema, call, now=_now())
        job = Job(request=request, champion=champion)
        if self._breaker.may_ask():
            await self._breaker.answer(_submit(self._at_once, job), self._at_once)
        job = dataclasses.replace(job, rows=await self._look_up(request))
        for batches in (self._alone, self._batches):
            ranking = await asyncio.wrap_future(_submit(batches, job))
            RankingResponse.of(self.schema, call, ranking, champion.version).to_grpc()


def _submit(batches: MicroBatcher[Job, Ranking], job: Job) -> Submitted[Job, Ranking]:
    return batches.submit(job, num_rows=len(job.request), group=job.champion)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
