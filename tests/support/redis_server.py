"""A Redis server of the tests' own, on a free port of loopback, with nothing on disk."""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest


class RedisServer:
    """A server that can be killed, stopped in its tracks, and started again."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise TimeoutError(f"redis-server on port {self.port}")

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(5)


@contextlib.contextmanager
def running_redis() -> Iterator[RedisServer]:
    """One that runs until the end of the block; skips where there is none on this machine."""
    pytest.importorskip("redis", reason="no redis client; it comes with feast[redis]")
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server; on Debian: apt-get install redis-server")
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.kill()
