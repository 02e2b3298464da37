"""Answers as bytes, as KServe writes them; a whole tensor at a time, and not value by value."""

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.infer_type import (
    InferOutput,
    InferResponse,
    RequestedOutput,
    to_grpc_parameters,
)

from features.encoding.encode import RowStatus
from features.schema import Role, Schema
from serving.lookup.transformer import worst_status
from serving.protocol.candidates import Candidates
from serving.protocol.inference_request import InferenceCall
from serving.protocol.ranking_request import SCORE, status_output

_STATUS_TEXT = np.array(
    ["ok" if status is RowStatus.USABLE else status.name.lower() for status in RowStatus],
    dtype=np.object_,
)


class RankingResponse(InferResponse):
    """KServe's answer, whose outputs hold arrays; equal to KServe's to the byte."""

    @property
    def num_bytes(self) -> int:
        """Of the values of all outputs, about."""
        return 4 * sum(len(output.data) for output in self.outputs)

    def to_rest(self) -> tuple[bytes | dict[str, Any], int | None]:
        """The content of a JSON body, or a body with binary tensors and how long its JSON is."""
        outputs, contents = [], []
        for requested in self._requested_outputs:
            output = self.get_output_by_name(requested.name)
            described = {
                "name": output.name,
                "shape": output.shape,
                "datatype": output.datatype,
            }
            if requested.binary_data:
                contents.append(_raw(output))
                described["parameters"] = {"binary_data_size": len(contents[-1])}
            else:
                described["data"] = output.data.tolist()
            outputs.append(described)
        answer = {
            "id": self.id,
            "model_name": self.model_name,
            "model_version": self.model_version,
            "outputs": outputs,
            "parameters": dict(self.parameters),
        }
        if not contents:
            return answer, None
        head = orjson.dumps(answer)
        return b"".join([head, *contents]), len(head)

    def to_grpc(self) -> Any:
        """The gRPC message, all tensors in their raw form."""
        message = messages.ModelInferResponse(
            id=self.id,
            model_name=self.model_name,
            model_version=self.model_version,
            parameters=to_grpc_parameters(self.parameters),
        )
        for output in self.outputs:
            content = _raw(output)
            described = message.outputs.add(
                name=output.name, shape=output.shape, datatype=output.datatype
            )
            described.parameters["binary_data_size"].int64_param = len(content)
            message.raw_output_contents.append(content)
        return message


def answer(
    schema: Schema,
    call: InferenceCall,
    *,
    model: str,
    version: str,
    scores: npt.NDArray[np.float32],
    candidates: Candidates,
) -> RankingResponse:
    """The outputs that a call asks for, in its form, and what is said of the whole request."""
    tensors: dict[str, tuple[str, npt.NDArray[Any]]] = {
        SCORE: ("FP32", np.asarray(scores, dtype=np.float32))
    }
    for role in (Role.ITEM, Role.USER):
        if role in dict(schema.entities()):
            worst = worst_status(schema, role, candidates.statuses)
            request = candidates.request
            if role is Role.USER and request.has_many_users:
                worst = worst[request.user]
            tensors[status_output(role)] = ("BYTES", _STATUS_TEXT[worst])
    requested = {name: call.outputs.get(name) for name in call.outputs or tensors}
    return RankingResponse(
        response_id=call.id,
        model_name=model,
        model_version=version,
        parameters=_parameters(candidates),
        infer_outputs=[
            InferOutput(name=name, shape=[len(values)], datatype=datatype, data=values)
            for name in requested
            for datatype, values in [tensors[name]]
        ],
        requested_outputs=[
            RequestedOutput(
                name, {"binary_data": call.is_binary if is_binary is None else is_binary}
            )
            for name, is_binary in requested.items()
        ],
    )


def _parameters(candidates: Candidates) -> dict[str, str | bool | int]:
    """Flags of the whole request: counts of rows that could not be used, by table and reason."""
    parameters: dict[str, str | bool | int] = {"degraded": candidates.is_degraded}
    for table, rows in candidates.statuses.items():
        for status, num_rows in enumerate(np.bincount(rows).tolist()):
            if num_rows and status != RowStatus.USABLE:
                parameters[f"num_{RowStatus(status).name.lower()}_{table}"] = num_rows
    parameters |= dict.fromkeys(candidates.flags, True)
    if candidates.missing_context:
        parameters["missing_context"] = ",".join(candidates.missing_context)
    return parameters


def _raw(output: InferOutput) -> bytes:
    """Little-endian numbers, or texts each behind its length."""
    if output.datatype != "BYTES":
        content: bytes = np.ascontiguousarray(output.data).tobytes()
        return content
    texts = output.data.tolist()
    prefixed = {}
    for text in set(texts):
        encoded = text.encode()
        prefixed[text] = len(encoded).to_bytes(4, "little") + encoded
    return b"".join([prefixed[text] for text in texts])
