"""Programs in processes that are forked where their libraries are loaded, not started anew.

Importing torch, TorchRec and KServe is most of what a short process of a test takes. When pytest
has imported all tests and run none, ``serve`` forks a server from it, and that one a process for
each program. A training that such a program starts is forked from it in turn, and so are torchrun
and the ranks. Other programs are started anew: they could not use what their parent has opened.
"""

import dataclasses
import functools
import gc
import importlib.util
import logging
import multiprocessing
import os
import signal
import site
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 540.0
_FORKS = multiprocessing.get_context("forkserver")
_HANDLER = "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler"
"""With it torchrun starts its ranks."""
_OF_TRAININGS = ("training", "torch", "infra.bench.training")
"""Packages whose programs are forked from the one that starts them."""


def serve(preload: Sequence[str] = ()) -> None:
    """Fork the server from this process, and not from a new one as multiprocessing does.

    Args:
        preload: Modules that the server is to import, where this process has not.
    """
    # From a stack without pytest's frames: torchrun reads the source of every frame, many times.
    thread = threading.Thread(target=_fork_server, args=(preload,))
    thread.start()
    thread.join()


def _fork_server(preload: Sequence[str]) -> None:
    server, (alive, our_end) = forkserver._forkserver, os.pipe()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # an abstract address of the system's choice
        listener.listen()
        pid = os.fork()
        if not pid:
            try:
                _let_go_of_files(listener.fileno(), alive)
                for name in preload:
                    importlib.import_module(name)
                gc.freeze()
                forkserver.main(listener.detach(), alive, [])
            finally:
                os._exit(0)
        server._forkserver_address = listener.getsockname()
    os.close(alive)
    server._forkserver_alive_fd, server._forkserver_pid = our_end, pid


@dataclasses.dataclass(frozen=True)
class Done:
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def start(
    command: Sequence[str], environment: Mapping[str, str], *, stdout: Path, stderr: Path
) -> ForkServerProcess:
    """A command, as ``python COMMAND`` would run it: ``-m module …`` or ``script …``."""
    arguments = (list(command), dict(environment), stdout, stderr)
    process = _FORKS.Process(target=_child, args=arguments)
    process.start()
    return process


def run(command: Sequence[str], environment: Mapping[str, str] = os.environ) -> Done:
    """A command, to its end."""
    (done,) = _run_all(command, [environment])
    return done


def run_ranks(command: Sequence[str], ranks: int) -> Done:
    """A command on so many ranks of one thread each, as torchrun starts them; ended together."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "OMP_NUM_THREADS": "1"}
    shared |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "GLOO_SOCKET_IFNAME": "lo"}
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    found = _run_all(command, [{**os.environ, **shared, **one} for one in own])
    code = next((done.returncode for done in found if done.returncode), 0)
    return Done(code, *("".join(getattr(d, name) for d in found) for name in ("stdout", "stderr")))


def _run_all(command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> list[Done]:
    with tempfile.TemporaryDirectory() as folder:
        files = [
            {name: Path(folder) / f"{number}.{name}" for name in ("stdout", "stderr")}
            for number in range(len(environments))
        ]
        processes = [
            start(command, environment, **written)
            for environment, written in zip(environments, files, strict=True)
        ]
        _wait(processes)
        return [
            Done(process.exitcode or 0, **{name: f.read_text() for name, f in written.items()})
            for process, written in zip(processes, files, strict=True)
        ]


def _wait(processes: Sequence[ForkServerProcess]) -> None:
    """Until all have ended, or one has failed, which the others would wait for."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes) or time.monotonic() > deadline:
            for process in processes:
                process.terminate()
        processes[0].join(0.05)
        time.sleep(0.02)


class _Popen(subprocess.Popen):
    """In a forked process: a training that it starts is forked from it."""

    def __init__(self, args: Any, *more: Any, **options: Any) -> None:
        words = [] if isinstance(args, str) else list(map(str, args))
        command = words[2:] if words[1:2] == ["-u"] else words[1:]
        is_module = words[:1] == [sys.executable] and command[:1] == ["-m"]
        if is_module and f"{command[1]}.".startswith(tuple(f"{one}." for one in _OF_TRAININGS)):
            environment = dict(options.get("env") or os.environ)
            options["preexec_fn"] = functools.partial(_instead_of_exec, command, environment)
        super().__init__(args, *more, **options)


def _instead_of_exec(command: list[str], environment: dict[str, str]) -> None:
    """Run to its end in the process that would have become another program."""
    _let_go_of_files()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as an interpreter does when it starts
    gc.enable()  # subprocess has turned it off
    process = multiprocessing.Process(target=_run, args=(command, environment))
    os._exit(process._bootstrap())


def _let_go_of_files(*but: int) -> None:
    """Open nothing that the parent has open, except its standard files and some others.

    Objects that were copied close their files by number: no other file may get one of these.
    """
    numbers = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    null = os.open(os.devnull, os.O_RDWR)
    for number in numbers - {0, 1, 2, null, *but}:
        os.dup2(null, number, inheritable=False)


def _child(command: list[str], environment: dict[str, str], stdout: Path, stderr: Path) -> None:
    for number, file in ((1, stdout), (2, stderr)):
        with file.open("ab") as written:
            os.dup2(written.fileno(), number)
    subprocess.Popen = _Popen
    if handler := sys.modules.get(_HANDLER):
        handler.Popen = _Popen
    _run(command, environment)


def _run(command: list[str], environment: dict[str, str]) -> None:
    """Be the process that ``python COMMAND`` would have started."""
    os.environ.clear()
    os.environ.update(environment)
    sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
    warnings.simplefilter("ignore")
    logging.getLogger().handlers.clear()  # set by pytest and by libraries
    if (threads := environment.get("OMP_NUM_THREADS")) and (torch := sys.modules.get("torch")):
        torch.set_num_threads(int(threads))
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    first = Path.cwd() if command[0] == "-m" else Path(command[0]).parent
    sys.path[:] = [str(first), *filter(None, paths), *filter(None, sys.path)]
    sys.modules.pop("sitecustomize", None)
    site.execsitecustomize()
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    # Not by runpy: torchrun looks for the source of each frame, and finds none of its frames.
    exec(_code(command, main), main.__dict__)


def _code(command: list[str], main: types.ModuleType) -> types.CodeType:
    """What is to run; gives the module its file, its package and the program's arguments."""
    if command[0] != "-m":
        sys.argv, main.__file__ = command, command[0]
        return compile(Path(command[0]).read_bytes(), command[0], "exec")
    spec = importlib.util.find_spec(command[1])
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{command[1]}.__main__")
    if spec is None:
        raise ModuleNotFoundError(command[1])
    main.__spec__, main.__package__, main.__file__ = spec, spec.parent, spec.origin
    sys.argv = [str(spec.origin), *command[2:]]
    return spec.loader.get_code(spec.name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
