"""Spans reach an OTLP receiver over HTTP: one a request, below its caller, with its stages."""

import contextlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service
from support.serving import running_server
from support.serving.otlp_receiver import receiver

from serving.observability import tracing
from serving.settings import Tracing

FIRST = "2025-06-01-first"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
STAGES = {"receive", "features", "features.user", "features.item", "score", "respond"}


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A server that sends its spans to a receiver."""
    with receiver() as kept:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{kept.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with running_server.running(tmp_path_factory, environment) as running:
            running.reload(FIRST).raise_for_status()
            yield running, kept


def test_a_request_is_a_span_below_its_caller_with_a_span_for_each_stage(traced, body):
    running, kept = traced
    running.infer({**body(), "id": "one"}, headers={"traceparent": TRACEPARENT})
    span, below = kept.of(request_id="one")
    assert (span.trace, span.parent) == (TRACE, CALLER)
    assert span.name == "POST /v2/models/{model_name}/infer"
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/v2/models/{model_name}/infer",
        "http.response.status_code": 200,
        "ranking.request_id": "one",
        "ranking.model": "stand-in",
        "ranking.model_version": FIRST,
        "ranking.candidates": 3,
        "ranking.degraded": False,
    }
    assert set(below) == {span.name, *STAGES}
    parents = {name: below[name].parent for name in STAGES}
    features = below["features"].id
    assert parents == {
        **dict.fromkeys(("receive", "features", "score", "respond"), span.id),
        **dict.fromkeys(("features.user", "features.item"), features),
    }
    assert 0 < below["score"].seconds < span.seconds < 5
    assert (span.service, kept.paths) == ("ranking-endpoint", {"/v1/traces"})


def test_so_is_one_over_grpc(traced):
    running, kept = traced
    request = messages.ModelInferRequest(model_name="stand-in", id="two")
    request.inputs.add(name="user_id", datatype="INT64", shape=[1]).contents.int64_contents[:] = [7]
    item = request.inputs.add(name="item_id", datatype="BYTES", shape=[2])
    item.contents.bytes_contents[:] = [b"a", b"nobody-knows"]
    with grpc.insecure_channel(running.grpc_address) as channel:
        stub = service.GRPCInferenceServiceStub(channel)
        stub.ModelInfer(request, metadata=[("traceparent", TRACEPARENT.replace("0e0e", "0e0f"))])
    span, below = kept.of(request_id="two")
    assert (span.trace, span.parent) == (TRACE.replace("0e0e", "0e0f"), CALLER)
    assert span.name == "inference.GRPCInferenceService/ModelInfer"
    assert span.attributes["rpc.grpc.status_code"] == 0
    assert span.attributes["ranking.degraded"] is True
    assert set(below) == {span.name, *STAGES}


def test_a_rejection_is_recorded_and_is_no_error_of_the_server(traced, body):
    running, kept = traced
    running.infer({**body(user_id={"data": ["x"]}), "id": "three"})
    running.http.post("/v1/models/stand-in:predict", json={})
    reason = "user_id.data[0]: 'x'; a value of type INT64"
    span, below = kept.of(error=reason)
    assert (span.attributes["http.response.status_code"], span.is_error) == (400, False)
    assert set(below) == {span.name, "receive"}
    span, _ = kept.of(error="instances: None; a JSON array")
    assert span.name == "POST /v1/models/{model_name}:predict"


def test_a_fault_of_the_server_is_an_error_with_its_exception(traced, body):
    running, kept = traced
    running.reload("2025-06-03-raising")
    answer = running.infer({**body(), "id": "fault"})
    running.reload(FIRST)
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    span, below = kept.of(request_id="fault")
    assert (span.attributes["http.response.status_code"], span.is_error) == (500, True)
    assert span.events == ["exception"]
    assert set(below) == {span.name, *STAGES} - {"respond"}


def test_what_is_not_implemented_is_an_error_with_its_reason(traced):
    running, kept = traced
    running.http.post("/v1/models/stand-in:explain", json={})
    span, _ = kept.of(error="command: 'explain'; scores are not explained")
    assert (span.attributes["http.response.status_code"], span.is_error) == (501, True)


def test_over_grpc_a_rejection_has_its_code(traced):
    running, kept = traced
    with grpc.insecure_channel(running.grpc_address) as channel:
        stub = service.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name="stand-in"))
    span, _ = kept.of(
        error="model: 'stand-in'; a model stays loaded for as long as its server runs"
    )
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert span.is_error is False


def test_requests_at_one_time_keep_their_spans_apart(traced, body):
    running, kept = traced
    with ThreadPoolExecutor(8) as pool:
        names = [f"many-{number}" for number in range(24)]
        list(pool.map(lambda name: running.infer({**body(), "id": name}), names))
    for name in names:
        span, below = kept.of(request_id=name)
        assert set(below) == {span.name, *STAGES}
        assert len([s for s in kept.spans if s.trace == span.trace]) == len(STAGES) + 1


def test_what_the_caller_does_not_sample_and_what_is_only_asked_makes_no_span(traced, body):
    running, kept = traced
    unsampled = f"00-{'a' * 32}-{CALLER}-00"
    running.infer({**body(), "id": "four"}, headers={"traceparent": unsampled})
    for path in ("/v2/health/ready", "/metrics", "/v2/models/stand-in", "/nowhere"):
        running.http.get(path)
    running.infer({**body(), "id": "five"}, headers={"traceparent": "not one"})
    kept.of(request_id="five")
    assert not [span for span in kept.spans if span.trace == "a" * 32]
    assert {span.name.split()[0] for span in kept.spans if span.kind == 2} == {
        "POST",
        "inference.GRPCInferenceService/ModelInfer",
        "inference.GRPCInferenceService/RepositoryModelUnload",
    }


@pytest.mark.process
def test_the_end_of_the_server_sends_what_waits(tmp_path_factory, body):
    with receiver() as kept:
        environment = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{kept.port}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "600000",
            "OTEL_SERVICE_NAME": "mine",
        }
        with running_server.running(tmp_path_factory, environment) as running:
            running.reload(FIRST)
            running.infer({**body(), "id": "last"})
            assert kept.spans == []
        span, _ = kept.of(request_id="last")
        assert span.service == "mine"


@pytest.mark.process
def test_a_collector_that_is_gone_delays_no_answer_and_no_end(tmp_path_factory, body, free_ports):
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_ports[0]}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with running_server.running(tmp_path_factory, environment) as running:
        running.reload(FIRST)
        started = time.monotonic()
        for _ in range(20):
            assert running.infer(body()).status_code == 200
        assert time.monotonic() - started < 5
        ended = time.monotonic()
    assert time.monotonic() - ended < 3 + 4


@pytest.mark.process
def test_nothing_is_imported_and_nothing_made_while_it_is_off():
    script = "import sys, serving.server; print('opentelemetry.sdk' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.check_output([sys.executable, "-c", script], env=environment, timeout=120)
    assert done.split() == [b"False"]
    assert tracing.span("score") is tracing.span("receive")
    assert isinstance(tracing.span("score"), contextlib.nullcontext)


SETTINGS = [
    ({}, ""),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, "otlp"),
    ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, "otlp"),
    ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
    ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ""),
    ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ""),
]


@pytest.mark.parametrize(("environment", "exporter"), SETTINGS)
def test_the_environment_decides(environment, exporter):
    assert Tracing.from_environment(environment).exporter == exporter


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_what_it_cannot_do_stops_the_start(environment):
    with pytest.raises(ValueError, match=r"^OTEL_\w+: "):
        Tracing.from_environment(environment)
