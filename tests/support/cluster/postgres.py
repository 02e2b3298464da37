"""A PostgreSQL server of Debian's package, its data in a folder."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from infra.local.servers import Server, free_ports, wait
from infra.local.settings import HOST

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
_USER, _PASSWORD = "ranking", "a-password-of-the-tests"


def is_installed() -> bool:
    """Whether its programs are there."""
    return bool(_PROGRAMS)


class Postgres(Server):
    """A server for a run, whose data need not outlive the machine.

    It refuses to be root, and is Debian's user ``postgres``.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing is started yet."""
        self.folder = folder
        (self._port,) = free_ports(1)
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]

    def url(self, database: str) -> str:
        """Of one database, as SQLAlchemy has it."""
        return f"postgresql+psycopg://{_USER}:{_PASSWORD}@{HOST}:{self._port}/{database}"

    def start(self) -> None:
        """Make its data, start it, and return when it answers."""
        data, key = self.folder / "data", self.folder / "password"
        data.mkdir(parents=True)
        key.write_text(_PASSWORD)
        for path in (self.folder, data, key):
            shutil.chown(path, "postgres", "postgres")
        login = ["-U", _USER, "-A", "scram-sha-256", "--pwfile", key]
        self._run("initdb", "-D", data, "-E", "UTF8", *login)
        at = ["-D", str(data), "-h", HOST, "-p", str(self._port)]
        without = ["-k", "", "-c", "fsync=off"]  # a socket; care for a machine that fails
        file = self.folder / "postgres.log"
        with file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._as, str(_PROGRAMS[-1].parent / "postgres"), *at, *without],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait(self._answers, self.process, file)

    def create(self, database: str, *, template: str = "template1") -> None:
        """Make a database, a copy of another one to which nobody is connected."""
        self._run("createdb", *self._address(), "-T", template, database)

    def stop(self) -> None:
        """End it, without waiting for clients."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # it cuts their connections
            self.process.wait(30)

    def _address(self) -> list[str]:
        return ["-h", HOST, "-p", str(self._port), "-U", _USER]

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [*self._as, str(_PROGRAMS[-1].parent / program), *map(str, arguments)],
            env={"PATH": os.environ["PATH"], "PGPASSWORD": _PASSWORD},
            cwd="/",
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            socket.create_connection((HOST, self._port), timeout=1).close()
            self._run("psql", *self._address(), "-c", "select 1", "postgres")
            return True
        return False
