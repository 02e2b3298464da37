"""Scores of candidates and the answer that they become.

Requests are scored together. An answer is written to the byte as KServe writes one; a whole tensor
at a time, and not value by value.
"""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.infer_type import to_grpc_parameters
from prometheus_client import Histogram

from features.encoding.encode import RequestInputs, RowStatus
from features.encoding.encoded_table import Statuses
from features.schema import Role, Schema
from serving.lookup.transformer import Candidates, FeatureRows, Transformer
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import InferenceCall
from serving.protocol.ranking_request import SCORE, RankingRequest, status_output
from serving.routing.serving_versions import Champion, Scores

_REASONS = tuple("" if status is RowStatus.USABLE else status.name.lower() for status in RowStatus)
_STATUS_TEXT = np.array([reason or "ok" for reason in _REASONS], dtype=np.object_)
_BY_SEVERITY = (RowStatus.USABLE, RowStatus.FUTURE, RowStatus.EXPIRED, RowStatus.UNKNOWN)
"""From harmless to worst: an entity of several tables shows its worst status."""
_STATUS = np.array(_BY_SEVERITY, dtype=np.int8)
_SEVERITY = np.argsort(_STATUS)
_VERSION_7, _VARIANT = 7 << 76, 2 << 62
_RANDOM_A, _RANDOM_B = (1 << 12) - 1, (1 << 62) - 1
"""Where a UUID says of which kind it is, and how many random bits are around that."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A request to be scored by the version that it began with."""

    request: RankingRequest
    rows: FeatureRows | None = None
    """None: they are still to be read."""
    champion: Champion

    @property
    def read(self) -> FeatureRows:
        """The rows, which must be there."""
        assert self.rows is not None
        return self.rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """Scores of one request's candidates, in its order."""

    scores: Scores
    candidates: Candidates
    seconds: float
    """The scoring of its batch, without the wait for a thread."""


def with_rows(transformer: Transformer, sizes: Histogram, jobs: Sequence[Job]) -> list[Job]:
    """The same requests with what the store has for them, in one read, which ``sizes`` counts."""
    sizes.observe(len(jobs))
    rows = transformer.read([job.request for job in jobs])
    return [dataclasses.replace(job, rows=own) for job, own in zip(jobs, rows, strict=True)]


def score_batch(
    transformer: Transformer, jobs: Sequence[Job], *, is_alone: bool = False
) -> list[Ranking | BaseException]:
    """Rankings of requests of one version; a request whose scores are not finite fails alone.

    Args:
        transformer: What puts their inputs together.
        jobs: The requests.
        is_alone: Whether to score on all cores, where the champion can.
    """
    champion = jobs[0].champion
    candidates = [transformer.put_together(job.request, job.read) for job in jobs]
    inputs = RequestInputs.joined([one.inputs for one in candidates])
    score = (champion.score_alone if is_alone else None) or champion.score
    started = time.perf_counter()
    scores = score(inputs)
    seconds = time.perf_counter() - started
    ends = np.cumsum([len(one.inputs) for one in candidates])
    return [
        _not_finite(part, champion.version) or Ranking(scores=part, candidates=one, seconds=seconds)
        for one, part in zip(candidates, np.split(scores, ends[:-1]), strict=True)
    ]


def _not_finite(scores: Scores, version: str) -> RequestError | None:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """One tensor of an answer."""

    name: str
    datatype: str
    data: npt.NDArray[Any]
    is_binary: bool
    """Whether REST has it behind the JSON."""

    @property
    def raw(self) -> bytes:
        """Little-endian numbers, or texts each behind its length."""
        if self.datatype != "BYTES":
            return np.ascontiguousarray(self.data).tobytes()
        texts = self.data.tolist()
        if texts.count(texts[0]) == len(texts):
            return _prefixed(texts[0]) * len(texts)
        prefixed = {text: _prefixed(text) for text in set(texts)}
        return b"".join([prefixed[text] for text in texts])


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankingResponse:
    """The outputs that a call asks for, in its form, and what is said of the whole request."""

    id: str
    model_name: str
    model_version: str
    parameters: dict[str, str | bool | int]
    outputs: list[Output]

    @classmethod
    def of(
        cls, schema: Schema, call: InferenceCall, ranking: Ranking, version: str
    ) -> "RankingResponse":
        """The answer to a call, by a version of the model; it gets an id."""
        candidates = ranking.candidates
        tensors: dict[str, tuple[str, npt.NDArray[Any]]] = {
            SCORE: ("FP32", np.asarray(ranking.scores, dtype=np.float32))
        }
        unusable = {
            name: part.status
            for name, part in candidates.parts.items()
            if candidates.num_rows[name][RowStatus.USABLE] < len(part.status)
        }
        sides = (Role.ITEM,) if schema.user is None else (Role.ITEM, Role.USER)
        for role in sides:
            size = candidates.inputs.num_users if role is Role.USER else len(candidates.inputs)
            worst = worst_status(schema, role, unusable, size=size)
            if role is Role.USER and candidates.request.has_many_users:
                worst = worst[candidates.request.user]
            tensors[status_output(role)] = ("BYTES", _STATUS_TEXT[worst])
        outputs = []
        for name in call.outputs or tensors:
            datatype, data = tensors[name]
            is_binary = call.outputs.get(name)
            is_binary = call.is_binary if is_binary is None else is_binary
            outputs.append(Output(name=name, datatype=datatype, data=data, is_binary=is_binary))
        return cls(
            id=call.id,
            model_name=schema.name,
            model_version=version,
            parameters={**_parameters(candidates), "answer_id": new_answer_id()},
            outputs=outputs,
        )

    @property
    def answer_id(self) -> str:
        """Names the answer; callers write it into their impressions."""
        return str(self.parameters["answer_id"])

    @property
    def num_bytes(self) -> int:
        """Of the values of all outputs, about."""
        return 4 * sum(len(output.data) for output in self.outputs)

    def to_rest(self) -> tuple[bytes, int | None]:
        """A body of protocol V2, and where it has binary tensors, how long its JSON is."""
        outputs, contents = [], []
        for output in self.outputs:
            described: dict[str, Any] = {
                "name": output.name,
                "shape": [len(output.data)],
                "datatype": output.datatype,
            }
            if output.is_binary:
                contents.append(output.raw)
                described["parameters"] = {"binary_data_size": len(contents[-1])}
            else:
                described["data"] = output.data.tolist()
            outputs.append(described)
        head = orjson.dumps(
            {
                "id": self.id,
                "model_name": self.model_name,
                "model_version": self.model_version,
                "outputs": outputs,
                "parameters": self.parameters,
            }
        )
        return b"".join([head, *contents]), len(head) if contents else None

    def to_v1(self) -> bytes:
        """A body of protocol V1: a score for each instance, in order, and the flags of them all."""
        (scores,) = [output.data for output in self.outputs if output.name == SCORE]
        return orjson.dumps(
            {
                "predictions": scores.tolist(),
                "model_name": self.model_name,
                "model_version": self.model_version,
                "parameters": self.parameters,
            }
        )

    def to_grpc(self) -> bytes:
        """The gRPC message, all tensors in their raw form."""
        message = messages.ModelInferResponse(
            id=self.id,
            model_name=self.model_name,
            model_version=self.model_version,
            parameters=to_grpc_parameters(self.parameters),
        )
        for output in self.outputs:
            content = output.raw
            described = message.outputs.add(
                name=output.name, shape=[len(output.data)], datatype=output.datatype
            )
            described.parameters["binary_data_size"].int64_param = len(content)
            message.raw_output_contents.append(content)
        serialized: bytes = message.SerializeToString()
        return serialized


def _prefixed(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "little") + encoded


def new_answer_id() -> str:
    """A UUID of version 7 (RFC 9562): milliseconds since 1970, then 74 random bits."""
    number = int.from_bytes(os.urandom(10), "big")
    random = (number >> 62 & _RANDOM_A) << 64 | number & _RANDOM_B
    milliseconds = time.time_ns() // 1_000_000
    # As uuid.UUID writes it, in half the time: every answer gets one.
    text = f"{milliseconds << 80 | _VERSION_7 | _VARIANT | random:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def worst_status(
    schema: Schema, role: Role, statuses: Mapping[str, Statuses], *, size: int
) -> Statuses:
    """For each of ``size`` entities of one side, the worst status among its tables.

    A table that ``statuses`` has nothing of is usable in every row, as is usual.
    """
    names = (table.name for table in schema.tables if table.role is role)
    tables = [statuses[name] for name in names if name in statuses]
    if not tables:
        return np.full(size, RowStatus.USABLE, dtype=np.int8)
    worst: Statuses = _STATUS[np.maximum.reduce([_SEVERITY[status] for status in tables])]
    return worst


def _parameters(candidates: Candidates) -> dict[str, str | bool | int]:
    """Flags of the whole request: counts of rows that could not be used, by table and reason."""
    parameters: dict[str, str | bool | int] = {"degraded": candidates.is_degraded}
    for table, numbers in candidates.num_rows.items():
        for reason, num_rows in zip(_REASONS, numbers, strict=True):
            if num_rows and reason:
                parameters[f"num_{reason}_{table}"] = num_rows
    parameters |= dict.fromkeys(candidates.flags, True)
    if candidates.missing_context:
        parameters["missing_context"] = ",".join(candidates.missing_context)
    return parameters
