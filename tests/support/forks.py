"""Commands in processes that a warm one forks: torch and TorchRec are imported once, not for each.

Their import is most of what a short process of a test takes. The ranks of a training are forked
too, instead of started by torchrun, unless a test asks for that: test_failures.py, test_resume.py,
and the whole day do.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.support.preloaded"])
DEADLINE_SECONDS = 540.0


@dataclasses.dataclass(frozen=True)
class Done:
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def run(command: Sequence[str], *, by_torchrun: bool = False) -> Done:
    """A command, as ``python COMMAND`` would run it: ``-m module …`` or ``script …``."""
    (done,) = _run_all(command, [os.environ], prepare=None if by_torchrun else _fork_ranks)
    return done


def run_ranks(command: Sequence[str], ranks: int) -> Done:
    """A command on so many ranks of one thread each, as torchrun starts them; ended together."""
    found = _run_all(command, _environments(ranks))
    code = next((done.returncode for done in found if done.returncode), 0)
    return Done(code, *("".join(getattr(d, name) for d in found) for name in ("stdout", "stderr")))


def _environments(ranks: int) -> list[dict[str, str]]:
    """The environment that torchrun gives each rank."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "OMP_NUM_THREADS": "1"}
    shared |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "GLOO_SOCKET_IFNAME": "lo"}
    return [{**os.environ, **shared, "RANK": str(n), "LOCAL_RANK": str(n)} for n in range(ranks)]


def _run_all(
    command: Sequence[str],
    environments: Sequence[Mapping[str, str]],
    prepare: Callable[[], None] | None = None,
) -> list[Done]:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(len(environments))]
        processes = [
            _FORKS.Process(target=_child, args=(list(command), dict(environment), file, prepare))
            for environment, file in zip(environments, files, strict=True)
        ]
        for process in processes:
            process.start()
        _wait(processes)
        return [
            Done(
                process.exitcode or 0,
                file.with_suffix(".out").read_text(),
                file.with_suffix(".err").read_text(),
            )
            for process, file in zip(processes, files, strict=True)
        ]


def _wait(processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
    """Until all have ended, or one has failed, which the others would wait for."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes) or time.monotonic() > deadline:
            for process in processes:
                process.terminate()
        processes[0].join(0.05)
        time.sleep(0.02)


class _Ranks:
    """Forked ranks, with as much of a ``subprocess.Popen`` as their launcher uses."""

    def __init__(self, file: Path, ranks: int) -> None:
        forks = multiprocessing.get_context("fork")
        command = ["-m", "training.cli.rank_worker", str(file)]
        self.processes = [
            forks.Process(target=_rank, args=(command, environment))
            for environment in _environments(ranks)
        ]
        for process in self.processes:
            process.start()

    def poll(self) -> int | None:
        if any(process.is_alive() for process in self.processes):
            return None
        return next((process.exitcode for process in self.processes if process.exitcode), 0)

    def wait(self, seconds: float = DEADLINE_SECONDS) -> int:
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if any(process.exitcode for process in self.processes):
                self.terminate()  # the others would wait for it
            elif time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("ranks", seconds)
            time.sleep(0.01)
        return code

    def terminate(self) -> None:
        for process in self.processes:
            process.terminate()


def _fork_ranks() -> None:
    """In a forked process: have ``training.cli.torchrun`` fork its ranks."""
    from training.cli import torchrun

    @contextlib.contextmanager
    def forked(file: Path, ranks: int) -> Iterator[_Ranks]:
        started = _Ranks(file, ranks)
        try:
            yield started
        finally:
            started.terminate()
            started.wait()

    torchrun._torchrun = forked


def _child(
    command: list[str],
    environment: dict[str, str],
    file: Path,
    prepare: Callable[[], None] | None,
) -> None:
    for number, suffix in ((1, ".out"), (2, ".err")):
        with file.with_suffix(suffix).open("wb") as written:
            os.dup2(written.fileno(), number)
    if prepare is not None:
        prepare()
    _run(command, environment)


def _rank(command: list[str], environment: dict[str, str]) -> None:
    os.dup2(2, 1)  # stdout is for the one JSON line of the launcher
    _run(command, environment)


def _run(command: list[str], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
    warnings.simplefilter("ignore")
    if threads := environment.get("OMP_NUM_THREADS"):
        import torch

        torch.set_num_threads(int(threads))
    is_module = command[0] == "-m"
    sys.argv = command[1:] if is_module else command
    with contextlib.suppress(ValueError):
        sys.path.remove("")
    sys.path.insert(0, str(Path.cwd() if is_module else Path(command[0]).parent))
    if is_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
