"""One real server for all tests of serving, with stand-ins behind it."""

import datetime
import functools
from collections.abc import Iterator
from typing import Any

import pytest
from support.serving import certificates, good_requests, stand_ins
from support.serving.running_server import FIRST, Guarded, Server, running

from infra.local import servers


@pytest.fixture
def body() -> Any:
    return good_requests.body


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory, {}) as plain:
        paths = ("health/live", "health/ready", "models/stand-in", "repository/index")
        before = {path: plain.http.get(f"/v2/{path}") for path in paths}
        before["infer"] = plain.http.post("/v2/models/stand-in/infer", json=good_requests.body())
        before["load"] = plain.http.post("/v2/repository/models/stand-in/load")
        plain.before_load.update(before)
        plain.reload(FIRST).raise_for_status()
        yield plain


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Token, client certificates, low limits, and a log of every answer."""
    made = certificates.make(tmp_path_factory.mktemp("certificates"))
    records = tmp_path_factory.mktemp("records")
    token = "a-token-of-the-tests"
    environment = {
        "RANKING_TOKEN": token,
        "RANKING_TLS_CERTIFICATE": str(made.server),
        "RANKING_TLS_KEY": str(made.server_key),
        "RANKING_TLS_CLIENT_AUTHORITY": str(made.authority),
        "RANKING_MAX_BODY_BYTES": "20000",
        "RANKING_MAX_CANDIDATES": "5",
        "RANKING_MAX_SECONDS": "0.8",
        "RANKING_MAX_CONCURRENT": "2",
        "RANKING_LOG_SHARE": "1",
        "RANKING_LOG_FOLDER": str(records),
        "RANKING_LOG_SECONDS": "0.2",
    }
    context = made.client_context()
    with running(tmp_path_factory, environment, "https", verify=context) as secured:
        secured.registry.set_alias("champion", FIRST)
        headers = {"Authorization": f"Bearer {token}"}
        load = secured.http.post("/v2/repository/models/stand-in/load", headers=headers)
        load.raise_for_status()
        yield Guarded(secured, made, token, records)
        # An idle TLS connection that does not read delays the server's end by its grace.
        secured.http.close()


@pytest.fixture(autouse=True)
def first_champion(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that moved the champion leaves the first one behind."""
    yield
    if "server" in request.fixturenames:
        running = request.getfixturevalue("server")
        if running.registry.alias("champion") != FIRST:
            running.reload(FIRST).raise_for_status()


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server of the test's own, in a block: environment and flags."""
    return functools.partial(running, tmp_path_factory)


@pytest.fixture
def free_ports() -> list[int]:
    return servers.free_ports(2)


@pytest.fixture
def noon() -> datetime.datetime:
    return stand_ins.NOON
