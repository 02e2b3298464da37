"""The model ``ranker``: from a request to scores and flags, inside KServe's life cycle."""

import asyncio
import dataclasses
import datetime
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import kserve
import numpy as np
import numpy.typing as npt
from kserve.protocol.infer_type import InferOutput, InferResponse, RequestedOutput

from features.encoding import ModelInputs, RowStatus
from features.schema import Role, Schema
from serving import counters
from serving.calls import InferenceCall
from serving.lineup import Lineup, key_of
from serving.refusal import RefusedError
from serving.request import SCORE, input_types, output_types, parse, status_output
from serving.request_log import Answered, RequestLog
from serving.settings import Settings
from serving.shadow import Shadow
from serving.transformer import Candidates, OnlineReader, Transformer, worst_status

NAME = "ranker"
_STATUS_TEXT = np.array(
    ["ok" if status is RowStatus.USABLE else status.name.lower() for status in RowStatus],
    dtype=np.object_,
)


@dataclasses.dataclass(frozen=True)
class Champion:
    """A verified artifact: its version, and how it scores."""

    version: str
    score: Callable[[ModelInputs], npt.NDArray[np.float32]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """Scores of one request's candidates, in its order, by one version of the model."""

    scores: npt.NDArray[np.float32]
    candidates: Candidates
    version: str


class Ranker(kserve.Model):
    """Answers ranking requests with the champion, which may be swapped at any time.

    A request takes the reference once, so that its scores and its version belong together.
    """

    def __init__(
        self, schema: Schema, *, online: OnlineReader, settings: Settings | None = None
    ) -> None:
        """Args: the schema of requests, the store of features, the limits and the log."""
        super().__init__(NAME)
        self.schema = schema
        self.transformer = Transformer(schema, online=online)
        self.why_not_ready = "no champion has been loaded"
        settings = settings or Settings()
        self._max_candidates = settings.limits.max_candidates
        self.log = RequestLog(schema, settings.logging)
        self.shadow = Shadow(self.log)
        self.lineup: Lineup[Champion] = Lineup()

    @property
    def version(self) -> str | None:
        """Version of the champion; None before the first load."""
        return self.lineup.champion.version if self.lineup.champion else None

    def swap(self, champion: Champion) -> None:
        """Let a champion answer every request that starts from now on, with nobody beside it."""
        self.follow(Lineup(champion=champion))

    def follow(self, lineup: Lineup[Champion]) -> None:
        """Let every request that starts from now on be answered by this lineup."""
        before, now = (one.shadow.model if one.shadow else None for one in (self.lineup, lineup))
        self.lineup = lineup
        if now is not before:
            self.shadow.forget()
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

    def champion(self) -> Champion:
        """What answers; RefusedError (503) with the reason where nothing can."""
        if self.lineup.champion is None:
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise RefusedError(
                "model", NAME, f"not ready: {self.why_not_ready}", status=unavailable
            )
        return self.lineup.champion

    def check_version(self, version: str) -> None:
        """Refuse a request for another version than those that answer; empty asks for any."""
        self.champion()
        if version and self.lineup.named(version) is None:
            raise self._not_loaded(version)

    def answering(self, call: InferenceCall) -> Champion:
        """Who answers a call: the version that it names, else champion or canary by its user."""
        self.champion()
        lineup, version = self.lineup, call.model_version
        found = lineup.named(version) if version else lineup.chosen(key_of(self.schema, call))
        if found is None:
            raise self._not_loaded(version)
        return found

    def _not_loaded(self, version: str) -> RefusedError:
        loaded = " and ".join(model.version for model in self.lineup.answering)
        limit = f"{loaded} is loaded"
        return RefusedError("model_version", version, limit, status=HTTPStatus.NOT_FOUND)

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Answer one call, of REST or of gRPC, and count the seconds that it took."""
        with counters.timed():
            return await super().__call__(*arguments, **options)

    async def preprocess(
        self, payload: InferenceCall, headers: dict[str, str] | None = None
    ) -> tuple[InferenceCall, Candidates, Champion]:
        """Check the call, read and encode its features; in a thread, for the loop must go on."""
        if not isinstance(payload, InferenceCall):
            raise RefusedError("protocol", "v1", f"POST /v2/models/{NAME}/infer")
        self._check_size(payload)
        champion = self.answering(payload)
        with counters.STAGE_SECONDS.labels("features").time():
            candidates = await asyncio.to_thread(self.candidates, payload)
        return payload, candidates, champion

    async def predict(
        self,
        payload: tuple[InferenceCall, Candidates, Champion],
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> tuple[InferenceCall, Ranking]:
        """Score the candidates, in a thread."""
        call, candidates, champion = payload
        timed = counters.STAGE_SECONDS.labels("score").time()
        with timed, counters.scoring(champion.version):
            return call, await asyncio.to_thread(_score, candidates, champion)

    async def postprocess(
        self,
        result: tuple[InferenceCall, Ranking],
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> InferResponse:
        """The answer, with the outputs that the call asked for."""
        call, ranking = result
        counters.count(ranking.candidates, ranking.version, ranking.scores)
        lineup = self.lineup
        answered = Answered(
            request_id=call.id,
            answered_at=datetime.datetime.now(datetime.UTC),
            model_version=ranking.version,
            scores=ranking.scores,
            candidates=ranking.candidates,
            role=lineup.role_of(ranking.version),
        )
        is_mirrored = self.shadow.offer(lineup.shadow, answered)
        self.log.offer(answered, is_chosen=is_mirrored)
        return _response(self.schema, call, ranking)

    def _check_size(self, call: InferenceCall) -> None:
        name = self.schema.item.name
        size = len(call.tensors[name].values) if name in call.tensors else 0
        if size > self._max_candidates:
            raise RefusedError(
                f"{name}.shape", [size], f"[n] with n from 1 to {self._max_candidates}"
            )


def _score(candidates: Candidates, champion: Champion) -> Ranking:
    scores = champion.score(candidates.inputs)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        # A champion that scores its golden request does this only for inputs beyond all reason.
        raise RefusedError(
            f"{SCORE}[{bad[0]}]", float(scores[bad[0]]), "inputs with a finite score"
        )
    return Ranking(scores=scores, candidates=candidates, version=champion.version)


def _response(schema: Schema, call: InferenceCall, ranking: Ranking) -> InferResponse:
    tensors: dict[str, tuple[str, npt.NDArray[Any]]] = {
        SCORE: ("FP32", np.asarray(ranking.scores, dtype=np.float32))
    }
    for role in (Role.ITEM, Role.USER):
        if role in dict(schema.entities()):
            worst = worst_status(schema, role, ranking.candidates.statuses)
            tensors[status_output(role)] = ("BYTES", _STATUS_TEXT[worst])
    asked = {name: call.outputs.get(name) for name in call.outputs or tensors}
    return InferResponse(
        response_id=call.id,
        model_name=NAME,
        model_version=ranking.version,
        parameters=_parameters(ranking.candidates),
        infer_outputs=[
            InferOutput(name=name, shape=[len(values)], datatype=datatype, data=values)
            for name in asked
            for datatype, values in [tensors[name]]
        ],
        requested_outputs=[
            RequestedOutput(
                name, {"binary_data": call.is_binary if is_binary is None else is_binary}
            )
            for name, is_binary in asked.items()
        ],
    )


def _parameters(candidates: Candidates) -> dict[str, str | bool | int]:
    """Flags of the whole request: counts of rows that could not be used, by table and reason."""
    parameters: dict[str, str | bool | int] = {"degraded": candidates.is_degraded}
    for table, rows in candidates.statuses.items():
        for status in RowStatus:
            num_rows = int((rows == status).sum())
            if num_rows and status is not RowStatus.USABLE:
                parameters[f"num_{status.name.lower()}_{table}"] = num_rows
    if candidates.missing_context:
        parameters["missing_context"] = ",".join(candidates.missing_context)
    return parameters
