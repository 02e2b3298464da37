"""A stand-in for a node: the pods of a Kubernetes API become processes.

Each pod's command runs with its environment and nothing else, as a user of its own, in name spaces
of its own (``sandbox``). Its lines are the pod's log, its end is the container's. A pod that is
deleted is killed. What a node has and this has not: images, limits and addresses.
"""

import contextlib
import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.cluster import sandbox
from support.cluster.served_api import repeating
from support.dags.job_cluster import JobCluster

from infra.local.settings import HOST, REPOSITORY

_FIRST_USER = 3001
_POLL_SECONDS = 0.1
_SIGNALLED = 128
_SAID_CHARACTERS = 4_096
"""Of a log's end, in the container's state, as nodes keep it."""
_REFERENCE = re.compile(r"\$\((\w+)\)")
Pod = dict[str, Any]


@dataclasses.dataclass
class _Run:
    process: "subprocess.Popen[bytes]"
    output: Path
    container: str
    num_said: int = 0
    """Bytes of the output that are in the pod's log."""
    has_ended: bool = False
    is_lost: bool = False


class Kubelet:
    """Runs the pods of an API."""

    def __init__(
        self,
        api: JobCluster,
        *,
        folder: Path,
        hidden: Sequence[Path],
        secrets: Mapping[str, str],
        image: Mapping[str, str] | None = None,
        spark_master: str = "",
    ) -> None:
        """Nothing runs yet.

        Args:
            api: Where pods are posted.
            folder: Of their logs.
            hidden: Folders that no pod may see.
            secrets: Values by ``name-of-the-Secret/key``.
            image: Variables that images and nodes bring, beside the path of programs and modules.
            spark_master: Where drivers ask for executors, in the place of ``k8s://…``.
        """
        self.api, self.folder = api, folder
        self.hidden, self.secrets = hidden, secrets
        self.image = {**image_environment(), **(image or {})}
        self.spark_master = spark_master
        self.runs: dict[str, _Run] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[list[Exception]]:
        """Look at the API again and again; all pods end with the block. Yields as ``repeating``."""
        try:
            with repeating(self.look, seconds=_POLL_SECONDS) as errors:
                yield errors
        finally:
            for run in self.runs.values():
                run.process.kill()
                run.process.wait()

    def alive(self, words: str) -> list[str]:
        """Pods that run, whose names begin so."""
        return [
            name
            for name, run in list(self.runs.items())
            if name.startswith(words) and run.process.poll() is None
        ]

    def lose(self, name: str) -> None:
        """The node of a pod is gone, and says so by its pod's condition."""
        self.runs[name].is_lost = True
        self.runs[name].process.kill()

    def look(self) -> None:
        """Start, report and end pods."""
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
            {**self.image, **self._variables(container["env"])},
            user=_FIRST_USER + len(self.runs),
            hidden=self.hidden,
            output=output,
        )
        self.runs[name] = _Run(process, output, container["name"])
        self.api.run(name, container=container["name"])

    def _variables(self, given: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in given:
            source = one.get("valueFrom", {})
            if secret := source.get("secretKeyRef"):
                value = self.secrets.get(f"{secret['name']}/{secret['key']}")
                assert value is not None or secret["optional"]
                found |= {one["name"]: value} if value is not None else {}
            elif source:
                assert source["fieldRef"]["fieldPath"] == "status.podIP"
                found[one["name"]] = HOST
            else:
                # Kubernetes puts in what was named before.
                found[one["name"]] = _with_references(one["value"], found)
        if found.get("SPARK_MASTER", "").startswith("k8s://"):
            found["SPARK_MASTER"] = self.spark_master
            found["PYSPARK_SUBMIT_ARGS"] = _of_standalone(found["PYSPARK_SUBMIT_ARGS"])
        return found

    def _report(self, name: str, run: _Run) -> None:
        code = run.process.poll()
        if run.has_ended:
            return
        said = run.output.read_bytes()[run.num_said :]
        if code is None:
            said = said[: said.rfind(b"\n") + 1]  # the rest of a line follows
        run.num_said += len(said)
        self.api.say(name, *said.decode(errors="replace").splitlines())
        if code is None:
            return
        run.has_ended = True
        if run.is_lost:
            self.api.evict(name, container=run.container)
            return
        message = run.output.read_text(errors="replace")[-_SAID_CHARACTERS:]
        exit_code = code if code >= 0 else _SIGNALLED - code
        self.api.end(name, exit_code, message=message, container=run.container)


def image_environment() -> dict[str, str]:
    """What an image brings: programs and the repository's modules."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "LANG": "C.UTF-8"}


def _with_references(text: str, variables: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda match: variables.get(match[1], match[0]), text)


def _of_standalone(arguments: str) -> str:
    """Spark's arguments, as a standalone master takes them: executors are given by their cores."""
    words = shlex.split(arguments)
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    cores = int(settings["spark.executor.instances"]) * int(settings["spark.executor.cores"])
    kept = {k: v for k, v in settings.items() if not k.startswith("spark.kubernetes.")}
    kept["spark.cores.max"] = str(cores)
    given = [part for name, value in kept.items() for part in ("--conf", f"{name}={value}")]
    return shlex.join([*given, words[-1]])
