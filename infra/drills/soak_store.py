"""The online store of a soak, and how it restarts."""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from infra.local.servers import RedisServer


class SqliteStore:
    """The file next to Feast's registry. It cannot restart; it is locked instead.

    The moment is short: whoever reads waits for the lock.
    """

    name = "sqlite"
    away_seconds = 0.3

    def __init__(self, folder: Path) -> None:
        """Args: the soak's folder."""
        self.url = self.name
        self._folder = folder

    def restart(self) -> None:
        """Keep every reader out for a moment."""
        (path,) = (self._folder / "world" / "store").glob("*/online.db")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            time.sleep(self.away_seconds)
            holder.execute("ROLLBACK")


class RedisStore(RedisServer):
    """A Redis server of our own."""

    name = "redis"
    away_seconds = 1.0

    def restart(self) -> None:
        """Stop, stay away, start."""
        self.stop()
        time.sleep(self.away_seconds)
        self.start()


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[SqliteStore | RedisStore]:
    """Redis where the machine has it, else SQLite; until the end."""
    if not shutil.which("redis-server"):
        yield SqliteStore(folder)
        return
    with RedisStore(folder / "redis") as redis:
        yield redis
