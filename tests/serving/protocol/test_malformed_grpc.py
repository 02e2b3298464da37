"""No gRPC message makes the endpoint fail: each error has a code and names field and limit."""

import grpc
import numpy as np
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service

pytestmark = pytest.mark.usefixtures("log_before")


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield service.GRPCInferenceServiceStub(channel)


def grpc_request(**changes):
    """A good gRPC request with typed contents; changes replace fields of one input."""
    tensors = {
        "user_id": {"datatype": "INT64", "shape": [1], "contents": {"int64_contents": [7]}},
        "item_id": {
            "datatype": "BYTES",
            "shape": [2],
            "contents": {"bytes_contents": [b"a", b"b"]},
        },
        "price": {"datatype": "FP64", "shape": [1], "contents": {"fp64_contents": [9.5]}},
    }
    for name, change in changes.items():
        tensors[name] = {**tensors.get(name, {}), **change}
    return messages.ModelInferRequest(
        model_name="stand-in", inputs=[{"name": name, **tensor} for name, tensor in tensors.items()]
    )


GRPC = [
    ({"user_id": {"contents": {}}}, "user_id: '0 values'; 1"),
    ({"user_id": {"contents": {"bytes_contents": [b"7"]}}}, "user_id"),
    (
        {"user_id": {"datatype": "BYTES", "contents": {"bytes_contents": [b"7"]}}},
        "user_id.datatype",
    ),
    ({"user_id": {"datatype": ""}}, "user_id.datatype"),
    ({"user_id": {"datatype": "FP16"}}, "user_id.datatype"),
    ({"user_id": {"shape": [-1]}}, "user_id.shape"),
    ({"user_id": {"shape": [2**62, 2**62]}}, "user_id.shape"),
    ({"user_id": {"shape": []}}, "user_id.shape"),
    (
        {"user_id": {"datatype": "INT8", "contents": {"int_contents": [300]}}},
        "user_id: 300; INT8 from -128 to 127",
    ),
    ({"item_id": {"contents": {"bytes_contents": [b"a", b"\xff"]}}}, "item_id[1]"),
    ({"item_id": {"shape": [10_001]}}, "item_id.shape"),
    ({"price": {"contents": {"fp64_contents": [float("inf")]}}}, "price[0]: inf; a finite number"),
    ({"price": {"contents": {"fp64_contents": [float("nan")]}}}, "price[0]: nan"),
    (
        {"colour": {"datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"r"]}}},
        "colour",
    ),
]


class TestGrpc:
    def assert_invalid(self, call, *, says, code=grpc.StatusCode.INVALID_ARGUMENT):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert (caught.value.code(), says in caught.value.details()) == (code, True), caught.value

    def test_the_good_request_is_answered(self, stub):
        answer = stub.ModelInfer(grpc_request())
        scores = np.frombuffer(answer.raw_output_contents[0], dtype=np.float32)
        assert len(scores) == 2

    @pytest.mark.parametrize(("changes", "says"), GRPC)
    def test_a_bad_input_is_an_invalid_argument(self, stub, changes, says):
        self.assert_invalid(lambda: stub.ModelInfer(grpc_request(**changes)), says=says)

    def test_raw_contents_must_match_the_inputs(self, stub):
        request = grpc_request()
        request.raw_input_contents.append(b"1234")
        self.assert_invalid(lambda: stub.ModelInfer(request), says="raw_input_contents: 1")

    def test_raw_contents_exclude_typed_ones(self, stub):
        request = grpc_request()
        request.raw_input_contents.extend([b"12345678"] * 3)
        self.assert_invalid(lambda: stub.ModelInfer(request), says="user_id.contents: 'present'")

    def test_a_name_given_twice_is_an_invalid_argument(self, stub):
        request = grpc_request()
        request.inputs.append(request.inputs[0])
        self.assert_invalid(lambda: stub.ModelInfer(request), says="each name once")

    def test_an_unknown_output_is_an_invalid_argument(self, stub):
        request = grpc_request()
        request.outputs.add(name="colour")
        self.assert_invalid(lambda: stub.ModelInfer(request), says="outputs: 'colour'")

    def test_bytes_that_are_no_message_are_an_invalid_argument(self, server):
        with grpc.insecure_channel(server.grpc_address) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            self.assert_invalid(lambda: call(b"\xff\xff\xff"), says="message")

    def test_text_that_is_no_utf_8_is_an_invalid_argument(self, server):
        with grpc.insecure_channel(server.grpc_address) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            self.assert_invalid(lambda: call(b"\x0a\x02\xff\xfe"), says="message")

    def test_a_message_beyond_the_limit_exhausts_resources(self, stub):
        request = grpc_request(item_id={"contents": {"bytes_contents": [b"x" * 2**24]}})
        self.assert_invalid(
            lambda: stub.ModelInfer(request), says="", code=grpc.StatusCode.RESOURCE_EXHAUSTED
        )

    def test_an_unknown_model_is_not_found(self, stub):
        request = grpc_request()
        request.model_name = "nobody"
        self.assert_invalid(
            lambda: stub.ModelInfer(request), says="nobody", code=grpc.StatusCode.NOT_FOUND
        )

    def test_another_version_is_not_found(self, stub):
        request = grpc_request()
        request.model_version = "2020-01-01"
        self.assert_invalid(
            lambda: stub.ModelInfer(request), says="model_version", code=grpc.StatusCode.NOT_FOUND
        )

    def test_unloading_the_only_model_is_a_failed_precondition(self, stub):
        request = messages.RepositoryModelUnloadRequest(model_name="stand-in")
        self.assert_invalid(
            lambda: stub.RepositoryModelUnload(request),
            says="a model stays loaded for as long as its server runs",
            code=grpc.StatusCode.FAILED_PRECONDITION,
        )


def test_nothing_failed_inside_the_server(server, log_before):
    """Comes last in this file: an error is one line of the log, and never a traceback."""
    text = server.log.read_text()[log_before:]
    unexpected = [line for line in text.splitlines() if "failed; its log says why" in line]
    assert unexpected == []
