"""A process that has the large libraries loaded and forks a process for each job of the stack.

Importing torch, TorchRec, MLflow, Great Expectations and Feast takes a core 2 to 7 s: the larger
part of most jobs of a small day. ``write_interpreter`` makes the program that RANKING_PYTHON names
in the stack: called as an interpreter with ``-m PACKAGE COMMAND …`` it hands its arguments,
environment, folder and open files to this server, and ends as the job ends (job_call.py). When the
caller is ended, so are the job and all that it started.

    python job_server.py SOCKET [MODULE …]

Only libraries are loaded beforehand: a job runs the product's code as it is on disk.
"""

import contextlib
import ctypes
import dataclasses
import gc
import importlib
import json
import logging
import os
import runpy
import selectors
import shlex
import signal
import socket
import sys
import time
import warnings
from pathlib import Path
from typing import TypedDict

import psutil
import setproctitle

PRELOADED = (
    "pyspark.sql.connect.session",
    "great_expectations.expectations",
    "feast",
    "torchrec",
    "torchrec.metrics.calibration",
    "torch.distributed.optim",
    "mlflow",
    "openlineage.client",
)
"""In the order in which a first day needs them."""
GRACE_SECONDS = 2.0
"""For a job whose caller has ended, from asking to forcing."""
_CALL_SECONDS = 10.0
_MOST_FILES = 64
_PR_SET_PDEATHSIG = 1


class Call(TypedDict):
    """What ``job_call.py`` sends."""

    directory: str
    arguments: list[str]
    environment: dict[str, str]


def write_interpreter(file: Path, path: Path) -> None:
    """Write the program that has jobs run by the server at a socket."""
    file.parent.mkdir(parents=True, exist_ok=True)
    caller = Path(__file__).with_name("job_call.py")
    command = f'"{sys.executable}" -I -S "{caller}" "{path}" "{sys.executable}"'
    file.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    file.chmod(0o700)


class Server:
    """Forks a process for each call, and answers with its exit status."""

    def __init__(self, path: str, preloaded: list[str]) -> None:
        """Listen at a path; callers wait while libraries are loading."""
        self.preloaded = preloaded
        self.selector = selectors.DefaultSelector()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        Path(path).chmod(0o600)
        self.listener.listen()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.jobs: list[_Job] = []

    def serve(self) -> Call:
        """Serve for ever; returns in a forked process alone, with the call that it is to run."""
        while True:
            waits_seconds = 0 if self.preloaded else 0.2
            for key, _ in self.selector.select(waits_seconds):
                if key.data is not None:
                    key.data()
                elif call := self._accept():
                    return call
            if self.preloaded:
                self._load(self.preloaded.pop(0))
            for job in [job for job in self.jobs if job.is_over()]:
                self.jobs.remove(job)

    def _load(self, name: str) -> None:
        started = time.monotonic()
        gc.disable()
        importlib.import_module(name)
        gc.enable()
        gc.freeze()  # untouched by collections, the pages stay shared with the forks
        sys.stderr.write(f"loaded {name} in {time.monotonic() - started:.1f} s\n")
        sys.stderr.flush()

    def _accept(self) -> Call | None:
        """The call in the forked process; None in the server."""
        connection, _ = self.listener.accept()
        connection.settimeout(_CALL_SECONDS)
        try:
            call, files = _receive(connection)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"a call was given up: {error}\n")
            connection.close()
            return None
        pid = os.fork()
        if pid:
            for number in files:
                os.close(number)
            self.jobs.append(_Job(pid, connection, self.selector))
            return None
        for one in (self.selector, self.listener, connection):
            one.close()
        for job in self.jobs:
            job.let_go()
        for number, file in enumerate(files[:3]):
            os.dup2(file, number)
            os.close(file)
        return call


@dataclasses.dataclass
class _Job:
    """A forked process, as the server sees it."""

    pid: int
    connection: socket.socket
    selector: selectors.BaseSelector
    family: list[psutil.Process] = dataclasses.field(default_factory=list)
    """What is to end, once the caller has ended."""
    deadline: float = 0.0
    has_ended: bool = False

    def __post_init__(self) -> None:
        self.end = os.pidfd_open(self.pid)
        self.selector.register(self.end, selectors.EVENT_READ, self._ended)
        self.selector.register(self.connection, selectors.EVENT_READ, self._called_off)

    def let_go(self) -> None:
        """Close its files in another forked process."""
        os.close(self.end)
        self.connection.close()

    def is_over(self) -> bool:
        """Whether it has ended; if its caller ended first, end all that it started."""
        if self.family and time.monotonic() > self.deadline:
            self._each("kill")
            self.family = []
        return self.has_ended and not any(one.is_running() for one in self.family)

    def _ended(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):  # the caller has ended
            self.connection.sendall(code.to_bytes(8, "big", signed=True))
        with contextlib.suppress(KeyError):  # it is not registered any more
            self.selector.unregister(self.connection)
        self.selector.unregister(self.end)
        self.let_go()
        self.has_ended = True

    def _called_off(self) -> None:
        """End the job: its caller, which sends nothing after its call, has ended."""
        if self.has_ended:
            return
        self.selector.unregister(self.connection)
        root = psutil.Process(self.pid)
        # Ranks of a training are in sessions of their own; only now are they known as its children.
        self.family = [root, *root.children(recursive=True)]
        self.deadline = time.monotonic() + GRACE_SECONDS
        self._each("terminate")

    def _each(self, action: str) -> None:
        for process in self.family:
            with contextlib.suppress(psutil.NoSuchProcess):
                getattr(process, action)()


def _receive(connection: socket.socket) -> tuple[Call, list[int]]:
    head, files, _, _ = socket.recv_fds(connection, 8, _MOST_FILES)
    size, content = int.from_bytes(head, "big"), b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            break
        content += part
    if not content or len(content) < size:
        for number in files:
            os.close(number)
        raise ValueError(f"{len(content)} of {size} bytes came")
    return json.loads(content), files


def become(call: Call) -> None:
    """Be the process that ``python -m …`` would have started."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.chdir(call["directory"])
    os.environ.clear()
    os.environ.update(call["environment"])
    # Set by a library before the job could set its own.
    logging.getLogger().handlers.clear()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    # OpenMP and the interpreter read these when they start, which was for another job.
    if (torch := sys.modules.get("torch")) and (threads := os.environ.get("OMP_NUM_THREADS")):
        torch.set_num_threads(int(threads))
    if os.environ.get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what -u asks for
    sys.argv = call["arguments"]
    setproctitle.setproctitle(shlex.join(["python", "-m", *sys.argv]))
    sys.path[0] = str(Path.cwd())
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def main(path: str, *preloaded: str) -> None:
    """Serve at a socket's path; a forked process leaves this function as its job ends."""
    become(Server(path, list(preloaded or PRELOADED)).serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
