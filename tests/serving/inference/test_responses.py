"""Our way of writing an answer gives what KServe's gives."""

import numpy as np
import orjson
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferResponse
from kserve.protocol.infer_type import InferOutput, InferResponse, RequestedOutput

from serving.inference.ranking import Output, RankingResponse

TENSORS = {
    "score": ("FP32", np.array([0.1, 0.25, 1e-7], dtype=np.float32)),
    "item_status": ("BYTES", np.array(["ok", "unknown", "ok"], dtype=np.object_)),
    "user_status": ("BYTES", np.array(["expired"], dtype=np.object_)),
}
PARAMETERS = {"degraded": True, "num_unknown_item_daily": 1, "missing_context": "a,b"}


def ours(*, binary):
    return RankingResponse(
        id="mine",
        model_name="stand-in",
        model_version="v",
        parameters=PARAMETERS,
        outputs=[
            Output(name=name, datatype=datatype, data=values, is_binary=is_binary)
            for (name, (datatype, values)), is_binary in zip(TENSORS.items(), binary, strict=True)
        ],
    )


def theirs(*, binary):
    return InferResponse(
        response_id="mine",
        model_name="stand-in",
        model_version="v",
        parameters=PARAMETERS,
        infer_outputs=[
            InferOutput(name=name, shape=[len(values)], datatype=datatype, data=values)
            for name, (datatype, values) in TENSORS.items()
        ],
        requested_outputs=[
            RequestedOutput(name, {"binary_data": flag})
            for name, flag in zip(TENSORS, binary, strict=True)
        ],
    )


@pytest.mark.parametrize("binary", [(True, True, True), (False, False, False), (True, False, True)])
def test_answers_over_rest_are_kserves(binary):
    content, length = ours(binary=binary).to_rest()
    expected, expected_length = theirs(binary=binary).to_rest()
    if any(binary):
        assert orjson.loads(content[:length]) == orjson.loads(expected[:expected_length])
        assert content[length:] == expected[expected_length:]
    else:
        assert (content, length) == (orjson.dumps(expected), expected_length)


def test_answers_over_grpc_are_kserves():
    expected = theirs(binary=(True,) * 3).to_grpc()
    assert ModelInferResponse.FromString(ours(binary=(True,) * 3).to_grpc()) == expected
