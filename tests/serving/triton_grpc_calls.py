"""Calls an endpoint with tritonclient over gRPC and prints what came back as JSON.

A process of its own: tritonclient.grpc and kserve both register the protobuf package ``inference``,
so that whichever is imported second fails.
"""

import json
import sys

import numpy as np
import tritonclient.grpc as triton

MICROSECONDS = int(sys.argv[2])
VALUES = {
    "user_id": ("INT64", np.array([7], dtype=np.int64)),
    "item_id": ("BYTES", np.array(["a", "b", "c"], dtype=np.object_)),
    "position": ("INT64", np.array([1, 2, 3], dtype=np.int64)),
    "price": ("FP64", np.array([9.5], dtype=np.float64)),
    "device": ("BYTES", np.array([b"phone"], dtype=np.object_)),
    "timestamp": ("INT64", np.array([MICROSECONDS], dtype=np.int64)),
}

tensors = []
for name, (datatype, values) in VALUES.items():
    tensor = triton.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    tensors.append(tensor)
with triton.InferenceServerClient(sys.argv[1]) as client:
    result = client.infer("ranker", tensors)
    metadata = client.get_model_metadata("ranker")
    requested = [triton.InferRequestedOutput("score")]
    narrow = client.infer("ranker", tensors, outputs=requested)
    answers = {
        "is_ready": [client.is_server_ready(), client.is_model_ready("ranker")],
        "versions": list(metadata.versions),
        "metadata_outputs": [output.name for output in metadata.outputs],
        "score": result.as_numpy("score").tolist(),
        "user_status": [status.decode() for status in result.as_numpy("user_status")],
        "model_version": result.get_response().model_version,
        "is_degraded": result.get_response().parameters["degraded"].bool_param,
        "narrow_outputs": [output.name for output in narrow.get_response().outputs],
    }
sys.stdout.write(json.dumps(answers))
