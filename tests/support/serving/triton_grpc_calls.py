"""Calls an endpoint with tritonclient over gRPC and prints what came back as JSON.

A process of its own: tritonclient.grpc and kserve both register the protobuf package ``inference``,
so that whichever is imported second fails.
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as async_triton
from tritonclient.utils import InferenceServerException

ADDRESS = sys.argv[1]
MICROSECONDS = int(sys.argv[2])
VALUES = {
    "user_id": ("INT64", np.array([7], dtype=np.int64)),
    "item_id": ("BYTES", np.array(["a", "b", "c"], dtype=np.object_)),
    "position": ("INT64", np.array([1, 2, 3], dtype=np.int64)),
    "price": ("FP64", np.array([9.5], dtype=np.float64)),
    "device": ("BYTES", np.array([b"phone"], dtype=np.object_)),
    "timestamp": ("INT64", np.array([MICROSECONDS], dtype=np.int64)),
}


def made_tensors():
    for name, (datatype, values) in VALUES.items():
        tensor = triton.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values)
        yield tensor


def status(call):
    """The status of a call that fails; empty where it is answered."""
    try:
        call()
    except InferenceServerException as error:
        return error.status()
    return ""


async def infer_together():
    async with async_triton.InferenceServerClient(ADDRESS) as client:
        assert await client.is_server_ready()
        calls = (client.infer("stand-in", tensors) for _ in range(8))
        return [result.as_numpy("score").tolist() for result in await asyncio.gather(*calls)]


tensors = list(made_tensors())
classes = [triton.InferRequestedOutput("score", class_count=2)]
with triton.InferenceServerClient(ADDRESS) as client:
    result = client.infer("stand-in", tensors)
    metadata = client.get_model_metadata("stand-in")
    server = client.get_server_metadata()
    narrow = client.infer("stand-in", tensors, outputs=[triton.InferRequestedOutput("score")])
    answers = {
        "one": {
            "is_ready": [client.is_server_ready(), client.is_model_ready("stand-in")],
            "versions": list(metadata.versions),
            "metadata_outputs": [output.name for output in metadata.outputs],
            "score": result.as_numpy("score").tolist(),
            "user_status": [status.decode() for status in result.as_numpy("user_status")],
            "model_version": result.get_response().model_version,
            "is_degraded": result.get_response().parameters["degraded"].bool_param,
            "narrow_outputs": [output.name for output in narrow.get_response().outputs],
        },
        "server": {
            "name": server.name,
            "version": server.version,
            "extensions": list(server.extensions),
        },
        "is_version_ready": {
            version: client.is_model_ready("stand-in", version)
            for version in (metadata.versions[0], "2020-01-01")
        },
        "refused": {
            "load": status(lambda: client.load_model("stand-in")),
            "load with a configuration": status(lambda: client.load_model("stand-in", config="{}")),
            "load of another model": status(lambda: client.load_model("nobody")),
            "unload": status(lambda: client.unload_model("stand-in")),
            "metadata of another version": status(
                lambda: client.get_model_metadata("stand-in", "2020-01-01")
            ),
            "readiness of another model": status(lambda: client.is_model_ready("nobody")),
            "classes": status(lambda: client.infer("stand-in", tensors, outputs=classes)),
            "repository index": status(client.get_model_repository_index),
        },
        "async": asyncio.run(infer_together()),
    }
sys.stdout.write(json.dumps(answers))
