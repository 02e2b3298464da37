"""Processes of the local stack: started, watched, recorded, and ended with their children."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType

import psutil

GRACE_SECONDS = 8.0
"""From asking to forcing."""


class Processes:
    """Processes by name, each with a log file."""

    def __init__(self, *, record: Path, logs: Path) -> None:
        """Args: the file that names them for ``end_recorded``, and the folder of their logs."""
        self.record = record
        self.logs = logs
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path
    ) -> None:
        """Start one in a session of its own: Ctrl-C reaches the stack alone, which ends it."""
        for folder in (self.logs, directory, self.record.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("wb") as log:
            self.running[name] = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        pids = [os.getpid(), *(process.pid for process in self.running.values())]
        self.record.write_text(json.dumps([_identity(pid) for pid in pids]), encoding="utf-8")

    def log(self, name: str) -> Path:
        """Log file of one."""
        return self.logs / f"{name}.log"

    def has_ended(self, name: str) -> bool:
        """Whether one was started and has ended."""
        process = self.running.get(name)
        return process is not None and process.poll() is not None

    def require_alive(self, *, but: Collection[str] = ()) -> None:
        """RuntimeError with the end of its log when one has ended, except those of ``but``."""
        for name, process in self.running.items():
            if name not in but and (code := process.poll()) is not None:
                tail = self.log(name).read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(
                    f"{name}: ended with code {code}; {self.log(name)} ends:\n{tail}"
                )

    def end(self) -> None:
        """End all, and their children."""
        end_trees(process.pid for process in self.running.values())
        for process in self.running.values():
            process.wait()
        self.running.clear()
        self.record.unlink(missing_ok=True)


def end_trees(pids: Iterable[int]) -> int:
    """Ask processes and all their descendants to end, force the rest; returns how many."""
    family: dict[int, psutil.Process] = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            family |= {process.pid: process for process in (root, *root.children(recursive=True))}
    for process in family.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(list(family.values()), timeout=GRACE_SECONDS)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=5)
    return len(family)


def end_recorded(record: Path) -> int:
    """End the processes that a stack recorded; returns how many there were."""
    count = end_trees(_recorded_alive(record))
    record.unlink(missing_ok=True)
    return count


def is_recorded_alive(record: Path) -> bool:
    """Whether a process that a stack recorded still runs."""
    return bool(_recorded_alive(record))


def _recorded_alive(record: Path) -> list[int]:
    if not record.exists():
        return []
    entries: list[dict[str, float]] = json.loads(record.read_text(encoding="utf-8"))
    # A number may belong to another process by now; the start time distinguishes them.
    pids = [int(entry["pid"]) for entry in entries]
    return [pid for pid, entry in zip(pids, entries, strict=True) if _identity(pid) == entry]


def _identity(pid: int) -> dict[str, float] | None:
    try:
        return {"pid": pid, "started": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        return None


def terminate_as_interrupt() -> None:
    """Let SIGTERM unwind like Ctrl-C, so that one path ends everything."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        # A second signal must not cut the ending short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)


def run(command: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
    """Run a command to its end; RuntimeError with the end of what it wrote where it fails."""
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command, env=environment, cwd=directory, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:])}: {(done.stderr or done.stdout)[-2000:]}")
