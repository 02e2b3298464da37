"""Over real HTTPS and gRPC: the token, client certificates, limits, and names that are paths."""

import http.client
import ssl
import time

import grpc
import httpx
import orjson
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service
from support import forks
from support.serving.good_requests import grpc_request
from support.serving.running_server import metric, wait_until

from serving.release.endpoint_client import Endpoint, EndpointError
from serving.settings import Tls

FIRST = "2025-06-01-first"
WRONG = [
    {},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer a-token-of-the-test"},
    {"Authorization": "Bearer a-token-of-the-tests-and-more"},
    {"Authorization": "Basic a-token-of-the-tests"},
    {"Authorization": "a-token-of-the-tests"},
    {"Authorization": b"Bearer \xff\xfe"},
]


def grpc_credentials(guarded, name="client"):
    folder = guarded.certificates.folder
    pair = (folder / f"{name}.key", folder / f"{name}.crt") if name else (None, None)
    key, certificate = (path.read_bytes() if path else None for path in pair)
    return grpc.ssl_channel_credentials(
        guarded.certificates.authority.read_bytes(), key, certificate
    )


@pytest.fixture
def stub(guarded):
    address = guarded.server.grpc_address
    with grpc.secure_channel(address, grpc_credentials(guarded)) as channel:
        yield service.GRPCInferenceServiceStub(channel)


def metadata(guarded):
    return [("authorization", f"Bearer {guarded.token}")]


def failure(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


class TestToken:
    @pytest.mark.parametrize("headers", WRONG)
    def test_without_the_exact_token_rest_answers_401_and_repeats_nothing(
        self, guarded, body, headers
    ):
        answer = guarded.server.infer(body(), headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "'Bearer ' and the server's token" in answer.json()["error"]
        assert "a-token" not in answer.text

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v2/models/stand-in"),
            ("POST", "/v2/repository/models/stand-in/load"),
            ("GET", "/metrics"),
            ("GET", "/openapi.json"),
            ("GET", "/v2/health/live/"),
            ("GET", "/v2/health/../models/stand-in"),
            ("GET", "/"),
        ],
    )
    def test_every_other_path_asks_for_the_token_too(self, guarded, method, path):
        answer = guarded.server.http.request(method, path)
        assert answer.status_code == 401

    def test_with_the_token_a_request_is_ranked(self, guarded, body):
        assert guarded.infer(body()).status_code == 200

    def test_health_is_open(self, guarded):
        for path in ("live", "ready"):
            assert guarded.server.http.get(f"/v2/health/{path}").status_code == 200

    def test_grpc_asks_for_the_token_except_for_health(self, guarded, stub):
        load = messages.RepositoryModelLoadRequest(model_name="stand-in")
        for wrong in (None, [("authorization", "Bearer no")]):
            code, detail = failure(
                lambda given=wrong: stub.ModelInfer(grpc_request(2), None, given)
            )
            assert (code, "authorization" in detail) == (grpc.StatusCode.UNAUTHENTICATED, True)
            code, _ = failure(lambda given=wrong: stub.RepositoryModelLoad(load, None, given))
            assert code is grpc.StatusCode.UNAUTHENTICATED
        assert stub.ServerLive(messages.ServerLiveRequest()).live
        assert stub.ServerReady(messages.ServerReadyRequest()).ready
        answer = stub.ModelInfer(grpc_request(2), metadata=metadata(guarded))
        assert answer.model_version == FIRST

    def test_a_promotion_shows_token_and_certificate(self, guarded):
        files = guarded.certificates.folder
        tls = Tls(
            certificate=files / "client.crt",
            key=files / "client.key",
            authority=guarded.certificates.authority,
        )
        assert (
            Endpoint(guarded.server.url, "stand-in", token=guarded.token, tls=tls).version()
            == FIRST
        )
        with pytest.raises(EndpointError, match="401"):
            Endpoint(guarded.server.url, "stand-in", tls=tls).version()


class TestCertificates:
    @pytest.mark.parametrize("name", [None, "stranger"])
    def test_rest_refuses_a_caller_whose_certificate_it_does_not_know(self, guarded, name):
        context = guarded.certificates.client_context(name)
        # With TLS 1.3 the server's error comes with the first read.
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            httpx.get(f"{guarded.server.url}/v2/health/live", verify=context)

    @pytest.mark.parametrize("name", [None, "stranger"])
    def test_grpc_refuses_a_caller_whose_certificate_it_does_not_know(self, guarded, name):
        credentials = grpc_credentials(guarded, name)
        with grpc.secure_channel(guarded.server.grpc_address, credentials) as channel:
            live = service.GRPCInferenceServiceStub(channel).ServerLive
            code, _ = failure(lambda: live(messages.ServerLiveRequest(), timeout=5))
        assert code is grpc.StatusCode.UNAVAILABLE

    def test_neither_side_talks_in_the_clear(self, guarded):
        with pytest.raises(httpx.TransportError):
            httpx.get(guarded.server.url.replace("https", "http") + "/v2/health/live")
        with grpc.insecure_channel(guarded.server.grpc_address) as channel:
            live = service.GRPCInferenceServiceStub(channel).ServerLive
            code, _ = failure(lambda: live(messages.ServerLiveRequest(), timeout=5))
        assert code is grpc.StatusCode.UNAVAILABLE


class TestLimits:
    def test_more_bytes_than_the_limit_are_413(self, guarded):
        answer = guarded.server.http.post(
            "/v2/models/stand-in/infer", content=b" " * 20_001, headers=guarded.headers
        )
        assert answer.status_code == 413
        assert answer.json() == {"error": "body: '20001 bytes'; at most 20000"}

    def test_more_candidates_than_the_limit_are_400(self, guarded, body, stub):
        items = {"shape": [6], "data": list("abcdef")}
        answer = guarded.infer(body(item_id=items, position=None))
        says = "item_id.shape: [6]; [n] with n from 1 to 5"
        assert (answer.status_code, answer.json()) == (400, {"error": says})
        request = grpc_request(num_items=6)
        answered = failure(lambda: stub.ModelInfer(request, metadata=metadata(guarded)))
        assert answered == (grpc.StatusCode.INVALID_ARGUMENT, says)

    def test_a_body_that_does_not_arrive_in_time_is_408(self, guarded, body):
        def slowly():
            content = orjson.dumps(body())
            yield content[:10]
            time.sleep(1.5)
            yield content[10:]

        answer = guarded.server.http.post(
            "/v2/models/stand-in/infer", content=slowly(), headers=guarded.headers
        )
        assert answer.status_code == 408
        assert answer.json() == {"error": "body: 'not there'; within 0.8 seconds"}

    def test_slow_answers_are_503_and_keep_their_places_until_they_end(self, guarded, body, stub):
        says = "requests: 2; fewer than 2 at one time; try again"
        with guarded.server.stuck(headers=guarded.headers):
            late = requests_until_two_are_at_work(guarded, body)
            # Their callers have their answers; the threads go on.
            turned_away = [guarded.infer(body()) for _ in range(2)]
            full = failure(lambda: stub.ModelInfer(grpc_request(2), metadata=metadata(guarded)))
        assert {answer.status_code for answer in late + turned_away} == {503}
        assert {answer.json()["error"] for answer in late} == {
            "answer: 'not there'; within 0.8 seconds"
        }
        assert {answer.json()["error"] for answer in turned_away} == {says}
        assert turned_away[0].headers["retry-after"] == "1"
        assert full == (grpc.StatusCode.UNAVAILABLE, says)
        wait_until(lambda: guarded.infer(body()).status_code == 200, seconds=60)


def requests_until_two_are_at_work(guarded, body):
    """Answers to requests that are late; on a busy machine some have not begun to be scored."""
    answers = []

    def are_two():
        inside = metric(guarded.server, "ranking_requests_in_flight", headers=guarded.headers)
        if inside < 2:
            answers.append(guarded.infer(body()))
        return inside == 2

    wait_until(are_two, seconds=60)
    return answers


NAMES = [
    "../lure", "..%2f..%2flure", "%2e%2e%2flure", "..%252flure", "%2ftmp%2flure",
    "....//lure", "..%5clure", "lure%00.json", "%c0%ae%2flure", "file:%2f%2f%2flure",
]  # fmt: skip


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    def test_no_name_in_a_path_reaches_the_file_system(self, server, body, name):
        host = server.url.removeprefix("http://")
        content = orjson.dumps(body())
        for method, path in [
            ("POST", f"/v2/models/{name}/infer"),
            ("POST", f"/v2/models/stand-in/versions/{name}/infer"),
            ("GET", f"/v2/models/{name}"),
            ("GET", f"/v2/models/stand-in/versions/{name}"),
            ("GET", f"/v2/models/{name}/ready"),
            ("POST", f"/v2/repository/models/{name}/load"),
            ("POST", f"/v2/repository/models/{name}/unload"),
            ("POST", f"/v1/models/{name}:predict"),
        ]:
            # http.client sends the path as it is.
            connection = http.client.HTTPConnection(host, timeout=10)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert (answer.status, list(orjson.loads(answer.read()))) == (404, ["error"]), path
            connection.close()
        assert "FILE SYSTEM" not in server.log.read_text()

    @pytest.mark.parametrize("name", ["../lure", "/tmp/lure", "..%2flure"])
    def test_no_name_in_a_message_reaches_the_file_system(self, server, name):
        with grpc.insecure_channel(server.grpc_address) as channel:
            rpc = service.GRPCInferenceServiceStub(channel)
            versioned = grpc_request(2)
            versioned.model_version = name
            for call in (
                lambda: rpc.ModelInfer(grpc_request(2, model=name)),
                lambda: rpc.ModelInfer(versioned),
                lambda: rpc.ModelMetadata(messages.ModelMetadataRequest(name=name)),
                lambda: rpc.ModelReady(messages.ModelReadyRequest(name=name)),
                lambda: rpc.RepositoryModelLoad(
                    messages.RepositoryModelLoadRequest(model_name=name)
                ),
            ):
                assert failure(call)[0] is grpc.StatusCode.NOT_FOUND
        assert "FILE SYSTEM" not in server.log.read_text()

    @pytest.mark.process
    def test_the_watch_on_the_file_system_sees_a_path(self, tmp_path):
        script = tmp_path / "watched.py"
        script.write_text(
            "import sys, contextlib\n"
            "from support.serving.stand_in_server import report_lures\n"
            "sys.addaudithook(report_lures)\n"
            "with contextlib.suppress(OSError): open('/nowhere/lure')"
        )
        done = forks.run([str(script)])
        assert done.returncode == 0
        assert "FILE SYSTEM: open" in done.stderr
