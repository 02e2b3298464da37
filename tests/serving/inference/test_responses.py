"""Our way of writing an answer gives what KServe's gives."""

import numpy as np
import orjson
import pytest
from kserve.protocol.infer_type import InferOutput, InferResponse, RequestedOutput

from serving.inference.responses import RankingResponse


def answer(kind, *, binary):
    arrays = {
        "score": ("FP32", np.array([0.1, 0.25, 1e-7], dtype=np.float32)),
        "item_status": ("BYTES", np.array(["ok", "unknown", "ok"], dtype=np.object_)),
        "user_status": ("BYTES", np.array(["expired"], dtype=np.object_)),
    }
    return kind(
        response_id="mine",
        model_name="ranker",
        model_version="v",
        parameters={"degraded": True, "num_unknown_item_daily": 1, "missing_context": "a,b"},
        infer_outputs=[
            InferOutput(name=name, shape=[len(values)], datatype=datatype, data=values)
            for name, (datatype, values) in arrays.items()
        ],
        requested_outputs=[
            RequestedOutput(name, {"binary_data": flag})
            for name, flag in zip(arrays, binary, strict=True)
        ],
    )


@pytest.mark.parametrize("binary", [(True, True, True), (False, False, False), (True, False, True)])
def test_answers_over_rest_are_kserves(binary):
    ours, theirs = (answer(k, binary=binary).to_rest() for k in (RankingResponse, InferResponse))
    if any(binary):
        (content, length), (expected, expected_length) = ours, theirs
        assert orjson.loads(content[:length]) == orjson.loads(expected[:expected_length])
        assert content[length:] == expected[expected_length:]
    else:
        assert ours == theirs


def test_answers_over_grpc_are_kserves():
    ours, theirs = (
        answer(k, binary=(True,) * 3).to_grpc() for k in (RankingResponse, InferResponse)
    )
    assert ours == theirs
