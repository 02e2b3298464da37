"""Every status that OpenAPI names of an operation occurs: one request for each."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.serving.running_server import running, wait_until

from serving.routing.traffic_split import Share, clear_share, write_share
from serving.transport.operations import OPERATIONS
from training.registry.aliases import CANARY

FIRST, RAISING, BROKEN = "2025-06-01-first", "2025-06-02-raising", "2025-06-03-broken"
LARGE = b" " * 20_001
JSON = {"Content-Type": "application/json"}
GOOD = {
    "infer": {
        "inputs": [
            {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [7]},
            {"name": "item_id", "shape": [3], "datatype": "BYTES", "data": ["a", "b", "c"]},
        ]
    },
    "instances": {"instances": [{"user_id": 7, "item_id": item} for item in "abc"]},
    "index_filter": {"ready": False},
    "load": {},
    "": None,
}
BAD = {
    "infer": {"inputs": []},
    "instances": {"instances": 3},
    "index_filter": {"ready": 3},
    "load": {"parameters": {"config": "{}"}},
}
WITHOUT_A_MODEL = {503, 409}
"""Of a server without a model: a load fails then too."""


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """A server with low limits, no champion yet, and spans on its log."""
    environment = {
        "RANKING_MAX_BODY_BYTES": "20000",
        "RANKING_MAX_SECONDS": "2.5",
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with running(tmp_path_factory, environment) as opened:
        yield opened


def path_of(operation, *, model="stand-in"):
    return operation.path.format(model_name=model, model_version=FIRST)


def ask(server, operation, *, model="stand-in", **content):
    return server.http.request(operation.method, path_of(operation, model=model), **content)


def status_of_a_body_that_does_not_end(server, operation):
    host, _, port = server.url.removeprefix("http://").partition(":")
    head = f"POST {path_of(operation)} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode())
        return int(connection.recv(65536).split(b" ", 2)[1])


def occurred(server, operation, status):
    """The status of a request that should end with this one."""
    good = {} if operation.body == "" else {"json": GOOD[operation.body]}
    if status == 413:
        return ask(server, operation, content=LARGE, headers=JSON).status_code
    if status == 415:
        return ask(
            server, operation, content=b"x", headers={"Content-Type": "text/plain"}
        ).status_code
    if status == 400:
        return ask(server, operation, json=BAD[operation.body]).status_code
    if status == 404:
        is_named = "{model_name}" in operation.path
        assert is_named, operation
        return ask(server, operation, model="nobody", **good).status_code
    return ask(server, operation, **good).status_code


def status_of_a_canary_that_cannot_be_loaded(server):
    write_share(server.registry, CANARY, Share(version=BROKEN, percent=5))
    answer = server.http.post("/v2/repository/models/stand-in/versions")
    clear_share(server.registry, CANARY)
    return answer.status_code


def pairs(statuses):
    """Operations and statuses; the 409 of renewed versions needs a canary, which one test makes."""
    return [
        (o, code)
        for o in OPERATIONS
        for code in o.codes
        if code in statuses and (o.name, code) != ("renew_versions", 409)
    ]


def test_each_occurs(limited):
    """In an order: without a model, with one, with one that fails."""
    found = {}
    for operation, status in pairs(WITHOUT_A_MODEL):
        found[operation.name, status] = occurred(limited, operation, status)
    limited.reload(FIRST).raise_for_status()
    for operation, status in pairs({200, 400, 404, 413, 415, 501}):
        found[operation.name, status] = occurred(limited, operation, status)
    with ThreadPoolExecutor() as pool:
        late = [operation for operation, _ in pairs({408})]
        statuses = pool.map(lambda one: status_of_a_body_that_does_not_end(limited, one), late)
        found |= {
            (operation.name, 408): status for operation, status in zip(late, statuses, strict=True)
        }
    found["renew_versions", 409] = status_of_a_canary_that_cannot_be_loaded(limited)
    limited.reload(RAISING)
    for operation, status in pairs({500}):
        version = RAISING if "model_version" in operation.path else None
        path = path_of(operation).replace(FIRST, version or FIRST)
        answer = limited.http.post(path, json=GOOD[operation.body])
        found[operation.name, status] = answer.status_code
    assert found == {(o.name, code): code for o in OPERATIONS for code in o.codes}


def test_spans_on_the_console_are_lines_of_the_log(limited):
    assert limited.http.post("/v1/models/stand-in:explain", json={}).status_code == 501
    wait_until(lambda: '"name": "POST /v1/models/{model_name}:explain"' in log_of(limited))


def log_of(server):
    return server.log.read_text()
