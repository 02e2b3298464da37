"""What a client of a running server says of each kind of answer, and what it leaves behind."""

import contextlib
import socket
import threading

import pytest

from serving.release.endpoint_client import Endpoint, EndpointError, NoEndpointError

MODEL = "/v2/models/stand-in"


@contextlib.contextmanager
def answering(*answers):
    """A server that gives its connections one answer each; yields its address and what it got.

    What it got are pairs: a request's head, and whether the caller then closed its connection.
    """
    got = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(5)
                    head = connection.recv(65_536).decode()
                    connection.sendall(answer.encode())
                    if not answer:
                        connection.shutdown(socket.SHUT_WR)
                    got.append((head, connection.recv(1) == b""))

        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield url, got
        thread.join(timeout=10)


def answer_of(body, *, status="200 OK", headers=""):
    # Its length, and not the connection's end, says that it is whole.
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}"


def test_an_answer_is_read_with_the_token_and_no_connection_stays_open():
    with answering(answer_of("metric 1")) as (url, got):
        assert Endpoint(f"{url}/", "stand-in", token="a-token-of-the-tests").metrics() == "metric 1"
    ((head, is_closed),) = got
    assert head.startswith("GET /metrics HTTP/1.1\r\n")
    assert "authorization: bearer a-token-of-the-tests\r\n" in head.lower()
    assert is_closed


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (answer_of("no champion", status="409 Conflict"), "409; no champion"),
        (answer_of("<html>"), f"no JSON from {MODEL}"),
        ("", f"disconnected.*; no answer to GET {MODEL}"),
        ("nonsense\r\n\r\n", f"; no answer to GET {MODEL}"),
    ],
)
def test_an_answer_that_is_none_is_reported_with_its_address_and_reason(answer, says):
    with answering(answer) as (url, _), pytest.raises(EndpointError, match=f"{url}: .*{says}"):
        Endpoint(url, "stand-in").version()


def test_a_silent_server_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr("serving.release.endpoint_client.ANSWER_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(EndpointError, match=f"{url}: timed out; no answer to GET {MODEL}"):
            Endpoint(url, "stand-in").version()


def test_where_nothing_listens_there_may_be_no_server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(NoEndpointError, match=f"{url}: .*Connection refused"):
        Endpoint(url, "stand-in").version()


def test_a_redirect_is_reported_and_the_token_goes_to_the_named_address_alone():
    moved = answer_of("away", status="307 Moved", headers="Location: http://127.0.0.1:9/\r\n")
    with answering(moved) as (url, _), pytest.raises(EndpointError, match=f"{url}: 307; away"):
        Endpoint(url, "stand-in", token="a-token-of-the-tests").version()


@pytest.mark.parametrize("url", ["localhost", "ftp://localhost", "http://localhost:port"])
def test_an_address_that_is_none_is_reported(url):
    with pytest.raises(EndpointError, match=f"endpoint {url}: .*; no answer to GET {MODEL}"):
        Endpoint(url, "stand-in", is_required=True).version()
