"""Servers for tests, benches and drills, on free ports of loopback.

Redis, an S3 store, and the ranking endpoint.
"""

import abc
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import pyarrow.fs as pafs

from infra.local.network import answers
from infra.local.settings import HOST

START_SECONDS = 120.0
_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to connections."""
Endpoint = tuple[int, int, "subprocess.Popen[bytes]"]
"""The port of REST, the port of gRPC, and the process."""


def free_ports(number: int) -> list[int]:
    """Ports of loopback on which nothing listens.

    A server may start on one much later, so no connection may have got it meanwhile.
    """
    found: set[int] = set()
    while len(found) < number:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            found.add(port)
    return list(found)


class Server(abc.ABC):
    """A process that serves from ``start`` to ``stop``, or for a block."""

    process: "subprocess.Popen[bytes] | None" = None

    @abc.abstractmethod
    def start(self) -> None:
        """Start it and return when it answers."""

    def stop(self) -> None:
        """End it; SIGTERM lets it write what it has."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    def __enter__(self) -> Self:
        """Started."""
        try:
            self.start()
        except BaseException:  # an interrupt too: nothing is left behind
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ended."""
        self.stop()


class RedisServer(Server):
    """A Redis server; with a folder it keeps there what it has."""

    def __init__(self, folder: Path | None = None) -> None:
        """Nothing is started yet."""
        (self.port,) = free_ports(1)
        self.url = f"redis://{HOST}:{self.port}/0"
        self._command = ["redis-server", "--bind", HOST, "--port", str(self.port), "--save", ""]
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._command += ["--appendonly", "yes", "--dir", str(folder)]

    def start(self) -> None:
        """Start it and return when it answers with all that it had."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait(self._answers, self.process)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class ObjectStore(Server):
    """An S3 server with one bucket: SeaweedFS, one process, its data in a folder.

    It takes conditional puts, as AWS does. ``environment`` is what its clients need.
    """

    BUCKET = "ranking"

    def __init__(self, folder: Path) -> None:
        """Nothing is started yet."""
        self.folder = folder
        names = ("master", "filer", "volume", "s3")
        free = free_ports(2 * len(names))
        ports = dict(zip(names, free[: len(names)], strict=True))
        grpc_ports = dict(zip(names, free[len(names) :], strict=True))
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://{HOST}:{ports['s3']}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            # Without a key and a secret it refuses uploads with checksums.
            "AWS_ACCESS_KEY_ID": f"key-{uuid.uuid4().hex[:12]}",
            "AWS_SECRET_ACCESS_KEY": uuid.uuid4().hex,
        }
        self.uri = f"s3://{self.BUCKET}"
        self._command = [
            str(Path(sys.executable).with_name("weed")),
            "mini",
            f"-dir={folder}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            *(f"-{name}.port={port}" for name, port in ports.items()),
            *(f"-{name}.port.grpc={port}" for name, port in grpc_ports.items()),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"),
            "-master.telemetry=false",
        ]

    def start(self) -> None:
        """Start it and return when its bucket is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "weed.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        wait(self._has_bucket, self.process, log)

    def _has_bucket(self) -> bool:
        files = pafs.S3FileSystem(
            access_key=self.environment["AWS_ACCESS_KEY_ID"],
            secret_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=self.environment["AWS_ENDPOINT_URL"].removeprefix("http://"),
            scheme="http",
            region=self.environment["AWS_REGION"],
            allow_bucket_creation=True,
        )
        try:
            files.create_dir(self.BUCKET)
        except OSError:
            return False
        return True


@contextlib.contextmanager
def running_endpoint(
    *flags: str, log: Path, environment: Mapping[str, str] = {}
) -> Iterator[Endpoint]:
    """The endpoint in a process of its own, from when it can rank until the end of the block."""
    http_port, grpc_port = free_ports(2)
    ports = (f"--http-port={http_port}", f"--grpc-port={grpc_port}")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving", "serve", *flags, *ports],
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )
    try:
        wait(lambda: answers(f"http://{HOST}:{http_port}/v2/health/ready"), process, log)
        yield http_port, grpc_port, process
    finally:
        process.terminate()
        process.wait(30)


def wait(
    is_ready: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path | None = None
) -> None:
    """Return when a server is ready; RuntimeError when it has ended or the time is up."""
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            tail = f"; {log} ends: {log.read_text()[-2000:]}" if log else ""
            raise RuntimeError(f"{process.args!r}: did not start{tail}")
        time.sleep(0.05)
