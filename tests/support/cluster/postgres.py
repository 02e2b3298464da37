"""A PostgreSQL server of Debian's package, its data in a folder."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from infra.local.servers import Server, free_ports, wait
from infra.local.settings import HOST

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_USER, _PASSWORD = "ranking", "a-password-of-the-tests"


def is_installed() -> bool:
    """Whether there are its programs and the user that it runs as."""
    return bool(_PROGRAMS) and shutil.which("setpriv") is not None


class Postgres(Server):
    """A server with some databases; it refuses to run as root, and runs as Debian's user."""

    def __init__(self, folder: Path, databases: Sequence[str]) -> None:
        """Nothing is started yet."""
        self.folder = folder
        self._databases = databases
        (self._port,) = free_ports(1)
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        if os.geteuid():
            self._as = []

    def url(self, database: str) -> str:
        """Of one database, as SQLAlchemy has it."""
        return f"postgresql+psycopg://{_USER}:{_PASSWORD}@{HOST}:{self._port}/{database}"

    def start(self) -> None:
        """Make its data, start it, and return when it has the databases."""
        data, key = self.folder / "data", self.folder / "password"
        data.mkdir(parents=True)
        key.write_text(_PASSWORD)
        if self._as:
            for path in (self.folder, data, key):
                shutil.chown(path, "postgres", "postgres")
        self._run("initdb", "-D", data, "-U", _USER, "-A", "scram-sha-256", "--pwfile", key)
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._as, _PROGRAMS[-1] / "postgres", "-D", data, "-h", HOST]
                + ["-p", str(self._port), "-k", "", "-c", "fsync=off"],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait(self._answers, self.process)
        for name in self._databases:
            self._run("createdb", "-h", HOST, "-p", str(self._port), "-U", _USER, name)

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [*self._as, _PROGRAMS[-1] / program, *map(str, arguments)],
            env={"PATH": os.environ["PATH"], "PGPASSWORD": _PASSWORD},
            cwd="/",
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            socket.create_connection((HOST, self._port), timeout=1).close()
            self._run("pg_isready", "-h", HOST, "-p", str(self._port), "-q")
            return True
        return False
