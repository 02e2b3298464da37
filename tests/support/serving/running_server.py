"""The stand-ins' server in a process of its own: how a test starts it, calls it and reads it."""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import forks
from support.serving import certificates, stand_ins

from infra.local.servers import free_ports

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

    def infer(self, body: Any, *, path: str = "stand-in/infer", **options: Any) -> httpx.Response:
        return self.http.post(f"/v2/models/{path}", json=body, **options)

    def reload(self, version: str | None, **options: Any) -> httpx.Response:
        self.registry.set_alias("champion", version)
        return self.http.post("/v2/repository/models/stand-in/load", **options)

    @contextlib.contextmanager
    def stuck(self, **options: Any) -> Iterator[Callable[[], None]]:
        """A champion that scores nothing until the block ends, or what it gives is called."""
        release = functools.partial(self.registry.set_alias, "released", "yes")
        self.registry.set_alias("released", None)
        self.reload("2025-06-01-stuck", **options).raise_for_status()
        try:
            yield release
        finally:
            release()
            self.reload(FIRST, **options).raise_for_status()


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
    http_port, grpc_port = free_ports(2)
    command = ["-m", "support.serving.stand_in_server", f"--folder={folder}"]
    command += [f"--http-port={http_port}", f"--grpc-port={grpc_port}", *flags]
    # A busy machine is no slow store; tests of a slow one say their own time.
    environment = {**os.environ, "RANKING_STORE_SECONDS": "20", **environment}
    url = f"{scheme}://127.0.0.1:{http_port}"
    with (
        httpx.Client(base_url=url, timeout=20, **options) as http,
        started(command, environment, log=log, http=http) as process,
    ):
        registry = stand_ins.FileRegistry(folder)
        pid = process.pid or 0
        yield Server(http, url, f"127.0.0.1:{grpc_port}", registry, {}, log, pid)


@contextlib.contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], *, log: Path, http: httpx.Client
) -> Iterator[BaseProcess]:
    """A server, from when it is live until it has ended well; its stdout is beside its log."""
    process = forks.start(command, environment, stdout=log.with_suffix(".out"), stderr=log)
    try:
        _wait_until_live(http, process, log)
        yield process
    finally:
        process.terminate()
        process.join(30)
        process.kill()
        process.join()
    assert process.exitcode == 0, log.read_text()[-2000:]


def plain_client(**options: Any) -> httpx.Client:
    """A client of plain HTTP; to read the certificates of the system takes 25 ms at each other."""
    return httpx.Client(verify=False, **options)


def _wait_until_live(http: httpx.Client, process: BaseProcess, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if http.get("/v2/health/live").status_code == 200:
                return
        assert process.exitcode is None, log.read_text()[-3000:]
        time.sleep(0.1)
    raise TimeoutError(log.read_text()[-3000:])


def wait_until(
    is_true: Callable[[], Any], *, seconds: float = 10.0, pause_seconds: float = 0.02
) -> None:
    """Return as soon as something is true; an error when it does not become so."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(pause_seconds)


def metric(server: Server, name: str, **options: Any) -> float:
    """The value of one series of /metrics, by its name with its labels, but for the one model's."""
    lines = (
        server.http.get("/metrics", **options).text.replace('{model="stand-in"}', "").splitlines()
    )
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))
