"""Requests that the stand-ins' server answers, over REST and over gRPC."""

from typing import Any

from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from support.serving import stand_ins

from serving.inference.ranking import RankingResponse
from serving.protocol.inference_request import InferenceCall, Message


def body(**changes: Any) -> dict[str, Any]:
    """A good request for user 7 and three items; changes replace or, with None, drop inputs."""
    inputs = {
        "user_id": {"shape": [1], "datatype": "INT64", "data": [7]},
        "item_id": {"shape": [3], "datatype": "BYTES", "data": ["a", "b", "c"]},
        "position": {"shape": [3], "datatype": "INT64", "data": [1, 2, 3]},
        "price": {"shape": [1], "datatype": "FP64", "data": [9.5]},
        "device": {"shape": [1], "datatype": "BYTES", "data": ["phone"]},
        "timestamp": {"shape": [1], "datatype": "BYTES", "data": [stand_ins.NOON.isoformat()]},
    }
    for name, change in changes.items():
        if change is None:
            del inputs[name]
        else:
            inputs[name] = {**inputs.get(name, {}), **change}
    return {"inputs": [{"name": name, **tensor} for name, tensor in inputs.items()]}


def grpc_request(num_items: int = 3, *, model: str = "stand-in") -> Any:
    """A good gRPC message for user 7 and some items."""
    contents = {"bytes_contents": [b"a"] * num_items}
    inputs = [
        {"name": "user_id", "datatype": "INT64", "shape": [1], "contents": {"int64_contents": [7]}},
        {"name": "item_id", "datatype": "BYTES", "shape": [num_items], "contents": contents},
    ]
    return messages.ModelInferRequest(model_name=model, inputs=inputs)


async def ranked(ranker: Any, call: InferenceCall) -> RankingResponse:
    """The answer to a call that is decoded already, before it is written in any protocol."""

    async def read() -> bytes:
        return b""

    message = Message(read=read, decode=lambda _: call, encode=lambda response: response)
    answer: RankingResponse = await ranker.rank(message)
    return answer


def flags(parameters: Any) -> dict[str, Any]:
    """What an answer's parameters say of the request; each answer has an id of its own."""
    assert len(parameters["answer_id"]) == 36
    return {name: value for name, value in parameters.items() if name != "answer_id"}
