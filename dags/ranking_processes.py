"""A job's operating-system process: start it, stream its log, read its last line, end all of it."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

GRACE_SECONDS = 3.0
"""From asking to forcing: less than the 5 s after which Airflow forces the task itself."""
_ERROR = re.compile(r"(python -m [\w ]+: )?error:")
"""How a job, or argparse where it was called wrongly, begins its reason."""
_END_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")
"""Of util-linux: the kernel sends SIGTERM when the task's process dies, however it dies.

Python's own way is ``preexec_fn``: it forks, and the libraries of the task's process may hold
locks or threads that a forked copy does not survive.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """How a job's process ended, and its last output."""

    exit_code: int
    last_line: str
    """Last line of stdout that is not blank."""
    error: str
    """The last line of stderr that begins as an error does, without that beginning."""

    @property
    def summary(self) -> dict[str, object]:
        """The JSON object of the last line; empty where it is none."""
        try:
            value = json.loads(self.last_line)
        except json.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}


class Job:
    """A process in a process group of its own."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
    ) -> None:
        """Start the process.

        Args:
            command: The interpreter and its arguments.
            directory: Working directory; made where it is missing.
            environment: All that the process sees of the environment.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [*_END_WITH_PARENT, *command],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            errors="replace",
        )

    def run(self, *, on_line: Callable[[str], object]) -> Ended:
        """Pass each line of stderr on as it comes, and wait for the end."""
        stdout, stderr = self.process.stdout, self.process.stderr
        assert stdout is not None
        assert stderr is not None
        last: deque[str] = deque(maxlen=1)
        reader = threading.Thread(target=_keep_last, args=(stdout, last), daemon=True)
        reader.start()
        error = ""
        for line in stderr:
            text = line.rstrip()
            on_line(text)
            found = _ERROR.match(text)
            error = text[found.end() :].strip() if found else error
        exit_code = self.process.wait()
        reader.join()
        return Ended(exit_code=exit_code, last_line=last[0] if last else "", error=error)

    def kill(self) -> None:
        """End the process and its descendants: ask, wait a little, force."""
        pid = self.process.pid
        # Read while the process lives: torchrun's ranks are in sessions of their own, and once
        # their parent is gone nothing says whose they were.
        family: list[psutil.Process] = []
        if self.process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(pid).children(recursive=True)
        deadline = time.monotonic() + GRACE_SECONDS
        _signal_group(pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_SECONDS)
        _, left = psutil.wait_procs(family, timeout=max(0, deadline - time.monotonic()))
        _signal_group(pid, signal.SIGKILL)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return  # the group is empty: all have ended


def _keep_last(stream: IO[str], last: "deque[str]") -> None:
    for line in stream:
        if line.strip():
            last.append(line.strip())
