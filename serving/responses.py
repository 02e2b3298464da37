"""Answers on the wire, as KServe writes them; a whole tensor at a time, and not value by value."""

from typing import Any

import numpy as np
import orjson
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.infer_type import InferOutput, InferResponse, to_grpc_parameters


class RankingResponse(InferResponse):
    """KServe's answer, whose outputs hold arrays; equal to KServe's to the byte."""

    def to_rest(self) -> tuple[bytes | dict[str, Any], int | None]:
        """The content of a JSON body, or a body with binary tensors and how long its JSON is."""
        outputs, contents = [], []
        for asked in self._requested_outputs:
            output = self.get_output_by_name(asked.name)
            described = {
                "name": output.name,
                "shape": output.shape,
                "datatype": output.datatype,
            }
            if asked.binary_data:
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
