"""A Redis server of the tests' own, on a free port of loopback, with nothing on disk."""

import contextlib
import shutil
import signal
from collections.abc import Iterator

import pytest

from infra.local import servers


class RedisServer(servers.RedisServer):
    """A server that can be killed, stopped in its tracks, and started again."""

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
