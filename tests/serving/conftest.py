"""One real server for all tests of serving, with stand-ins behind it."""

import contextlib
import dataclasses
import datetime
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

# The stand-ins are shared by the tests here and by the server's process; tests are no package.
sys.path.insert(0, str(Path(__file__).parent))

from support.serving import certificates, stand_ins

FIRST = "2025-06-01-first"


@dataclasses.dataclass
class Server:
    """A running endpoint and what steers it."""

    http: httpx.Client
    url: str
    grpc_address: str
    registry: stand_ins.FileRegistry
    before_load: dict[str, httpx.Response]
    """What it answered while no champion was set."""
    log: Path
    pid: int

    def infer(self, body: Any, *, path: str = "ranker/infer", **options: Any) -> httpx.Response:
        return self.http.post(f"/v2/models/{path}", json=body, **options)

    def reload(self, version: str | None) -> httpx.Response:
        self.registry.set_alias("champion", version)
        return self.http.post("/v2/repository/models/ranker/load")


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


@pytest.fixture(name="body")
def body_fixture() -> Any:
    return body


@contextlib.contextmanager
def running(
    tmp_path_factory: pytest.TempPathFactory,
    environment: Mapping[str, str],
    scheme: str = "http",
    flags: Sequence[str] = (),
    **options: Any,
) -> Iterator[Server]:
    """The stand-ins' server in a process of its own, until it has ended well."""
    folder = tmp_path_factory.mktemp("registry")
    log = tmp_path_factory.mktemp("log") / "server.log"
    http_port, grpc_port = _free_ports(2)
    command = [sys.executable, str(Path(stand_ins.__file__)), f"--folder={folder}"]
    command += [f"--http-port={http_port}", f"--grpc-port={grpc_port}", *flags]
    # A busy machine is no slow store; tests of a slow one say their own time.
    environment = {"RANKING_STORE_SECONDS": "20", **environment}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, stderr=stderr, stdout=stderr, env={**os.environ, **environment}
        ) as process,
    ):
        url = f"{scheme}://127.0.0.1:{http_port}"
        with httpx.Client(base_url=url, timeout=20, **options) as http:
            try:
                _wait_until_live(http, process, log)
                registry = stand_ins.FileRegistry(folder)
                yield Server(http, url, f"127.0.0.1:{grpc_port}", registry, {}, log, process.pid)
            finally:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)
                process.kill()
    assert process.returncode == 0, log.read_text()[-2000:]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory, {}) as plain:
        paths = ("health/live", "health/ready", "models/ranker", "repository/index")
        before = {path: plain.http.get(f"/v2/{path}") for path in paths}
        before["infer"] = plain.http.post("/v2/models/ranker/infer", json=body())
        before["load"] = plain.http.post("/v2/repository/models/ranker/load")
        plain.before_load.update(before)
        plain.reload(FIRST).raise_for_status()
        yield plain


@dataclasses.dataclass
class Guarded:
    """A server with everything turned on, and what its callers need."""

    server: Server
    certificates: certificates.Certificates
    token: str
    records: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def infer(self, body: Any, **options: Any) -> httpx.Response:
        return self.server.infer(body, headers=self.headers, **options)


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
        load = secured.http.post("/v2/repository/models/ranker/load", headers=headers)
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
    return _free_ports(2)


@pytest.fixture
def noon() -> datetime.datetime:
    return stand_ins.NOON


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _wait_until_live(http: httpx.Client, process: Any, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if http.get("/v2/health/live").status_code == 200:
                return
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.1)
    raise TimeoutError(log.read_text()[-3000:])


def wait_for(is_true: Any, *, seconds: float = 10) -> None:
    """Return as soon as something is true; an error when it does not become so."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.05)
