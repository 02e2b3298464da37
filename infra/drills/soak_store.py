"""The online store of a soak, and how it restarts."""

import contextlib
import dataclasses
import importlib.util
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from infra.local.settings import HOST

START_SECONDS = 10.0


class Store(Protocol):
    """A store that can go away and come back."""

    @property
    def name(self) -> str:
        """Of its kind."""
        ...

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which the product uses it."""
        ...

    def restart(self) -> None:
        """Go away for a moment; returns when it is back."""
        ...


@dataclasses.dataclass
class SqliteStore:
    """The file next to Feast's registry. It cannot restart; it is locked instead.

    The moment is short: whoever reads waits for the lock.
    """

    folder: Path
    away_seconds: float = 0.3
    name = "sqlite"

    @property
    def environment(self) -> dict[str, str]:
        """Nothing: it is the default."""
        return {}

    def restart(self) -> None:
        """Keep every reader out for a moment."""
        (path,) = (self.folder / "world" / "store").glob("*/online.db")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            time.sleep(self.away_seconds)
            holder.execute("ROLLBACK")


@dataclasses.dataclass
class RedisStore:
    """A Redis server of our own, on loopback, that keeps what it has in a file."""

    folder: Path
    port: int
    away_seconds: float = 1.0
    name = "redis"
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def environment(self) -> dict[str, str]:
        """The variable that names it."""
        return {"RANKING_ONLINE": f"redis://{HOST}:{self.port}"}

    def start(self) -> None:
        """Start it and return when it answers with all that it had."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["redis-server", "--bind", HOST, "--port", str(self.port), "--save", ""]
        command += ["--appendonly", "yes", "--dir", str(self.folder)]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"redis-server: no answer; see {self.folder / 'redis.log'}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it; SIGTERM lets it write what it has."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)

    def restart(self) -> None:
        """Stop, stay away, start."""
        self.stop()
        time.sleep(self.away_seconds)
        self.start()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """Redis where this version reads it and the machine has it, else SQLite; until the end."""
    if importlib.util.find_spec("features.online_store.config") is None or not shutil.which(
        "redis-server"
    ):
        yield SqliteStore(folder)
        return
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    redis = RedisStore(folder / "redis", port)
    redis.start()
    try:
        yield redis
    finally:
        redis.stop()
