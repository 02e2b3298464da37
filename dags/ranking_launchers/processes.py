"""A job as a process here: start it, stream its log, read its last line, end all of it."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil
import ranking_assets as assets

from ranking_launchers.job import Ended, JobSpec, error_in

GRACE_SECONDS = 3.0
"""From asking to forcing: less than the 5 s after which Airflow forces the task itself."""
_END_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")
"""Of util-linux: the kernel sends SIGTERM when the task's process dies, however it dies.

Python's own way is ``preexec_fn``: it forks, and the libraries of the task's process may hold
locks or threads that a forked copy does not survive.
"""


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
            error = error_in(text) or error
        exit_code = self.process.wait()
        reader.join()
        stdout.close()
        stderr.close()
        return Ended(
            exit_code=exit_code,
            output=last[0] if last else "",
            source="last line of stdout",
            error=error,
        )

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


class ProcessLauncher:
    """Runs a job here, and waits for it."""

    def __init__(self, spec: JobSpec, *, on_line: Callable[[str], object]) -> None:
        """Args: the job, and who gets each line of its log."""
        self.spec = spec
        self.on_line = on_line
        self.job: Job | None = None

    def start(self) -> Ended:
        """Run the process to its end."""
        command = self.spec.command_line(assets.PYTHON)
        self.on_line(f"Starting {' '.join(command)}")
        environment = {**assets.job_environment(), **self.spec.environment}
        self.job = Job(command, directory=assets.VAR, environment=environment)
        try:
            return self.job.run(on_line=self.on_line)
        finally:
            self.job.kill()

    def kill(self) -> None:
        """End the process and all that it started."""
        if self.job is not None:
            self.job.kill()


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return  # the group is empty: all have ended


def _keep_last(stream: IO[str], last: "deque[str]") -> None:
    for line in stream:
        if line.strip():
            last.append(line.strip())
