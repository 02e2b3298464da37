"""A stand-in for a node: the pods of a Kubernetes API become processes.

Each pod's command runs with its environment and nothing else, as a user of its own, in name spaces
of its own (``sandbox``). Its lines are the pod's log, its end is the container's. A pod that is
deleted is killed. What a node has and this has not: images, limits and addresses.
"""

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.cluster import sandbox
from support.dags.job_cluster import JobCluster

from infra.local.settings import REPOSITORY

_FIRST_USER = 3001
_POLL_SECONDS = 0.1
_SIGNALLED = 128
_SAID_CHARACTERS = 4_096
"""Of a log's end, in the container's state, as nodes keep it."""
Pod = dict[str, Any]


@dataclasses.dataclass
class _Run:
    process: "subprocess.Popen[bytes]"
    output: Path
    container: str
    has_ended: bool = False


class Kubelet:
    """Runs the pods of an API."""

    def __init__(
        self, api: JobCluster, *, folder: Path, hidden: Sequence[Path], secrets: Mapping[str, str]
    ) -> None:
        """Nothing runs yet.

        Args:
            api: Where pods are posted.
            folder: Of their logs.
            hidden: Folders that no pod may see.
            secrets: Values by ``name-of-the-Secret/key``.
        """
        self.api, self.folder = api, folder
        self.hidden, self.secrets = hidden, secrets
        self.runs: dict[str, _Run] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator["Kubelet"]:
        """Look at the API again and again; all pods end with the block."""
        stopped = threading.Event()

        def look() -> None:
            while not stopped.wait(_POLL_SECONDS):
                self._look()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield self
        finally:
            stopped.set()
            thread.join()
            for run in self.runs.values():
                run.process.kill()
                run.process.wait()

    def _look(self) -> None:
        live = self.api.live()
        for name, pod in live.items():
            if name in self.runs:
                self._report(name, self.runs[name])
            else:
                self._start(name, pod)
        for name, run in self.runs.items():
            if name not in live and not run.has_ended:
                run.process.kill()
                run.has_ended = True

    def _start(self, name: str, pod: Pod) -> None:
        (container,) = pod["spec"]["containers"]
        python, *arguments = container["command"]
        assert python == "python"
        output = self.folder / f"{name}.log"
        process = sandbox.start(
            [sys.executable, *arguments],
            {**_of_the_image(), **self._variables(container["env"])},
            user=_FIRST_USER + len(self.runs),
            hidden=self.hidden,
            output=output,
        )
        self.runs[name] = _Run(process, output, container["name"])
        self.api.run(name, container=container["name"])

    def _variables(self, given: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        found = {one["name"]: one["value"] for one in given if "value" in one}
        for one in given:
            if "valueFrom" in one:
                secret = one["valueFrom"]["secretKeyRef"]
                value = self.secrets.get(f"{secret['name']}/{secret['key']}")
                assert value is not None or secret["optional"]
                found |= {one["name"]: value} if value is not None else {}
        return found

    def _report(self, name: str, run: _Run) -> None:
        code = run.process.poll()
        if code is None or run.has_ended:
            return
        run.has_ended = True
        said = run.output.read_text(errors="replace")[-_SAID_CHARACTERS:]
        exit_code = code if code >= 0 else _SIGNALLED - code
        self.api.end(name, exit_code, message=said, container=run.container)


def _of_the_image() -> dict[str, str]:
    """What an image brings: programs and the repository's modules."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "LANG": "C.UTF-8"}
