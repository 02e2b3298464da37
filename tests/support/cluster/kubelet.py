"""A stand-in for kubelets and for Kubeflow Trainer: pods of the API become processes.

Each posted pod's command runs with its environment and nothing else, as a user of its own, in name
spaces of its own (``sandbox``). Its lines are the pod's log, its end is the container's. A pod that
is deleted is killed. Of a TrainJob a pod for each node is made, told by PET_* of the others, as
Trainer does. What a cluster has and this has not: images, limits, addresses, and Spark's own
scheduling on Kubernetes, for which a standalone master stands in.
"""

import asyncio
import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.cluster import sandbox
from support.dags.job_cluster import NAMESPACE, PODS, TRAIN_JOBS, JobCluster

from infra.local.servers import free_ports
from infra.local.settings import HOST, REPOSITORY

_FIRST_USER = 3001
_POLL_SECONDS = 0.2
_OF_SPARK_ON_KUBERNETES = ("spark.kubernetes.", "spark.executor.instances", "spark.driver.host")
_SIGNALLED = 128
_SAID_LINES = 80
"""Of a log's end, in the container's state, as kubelets keep it."""
Pod = dict[str, Any]


@dataclasses.dataclass
class _Run:
    """A pod's process."""

    process: "subprocess.Popen[bytes]"
    output: Path
    container: str


class Kubelet:
    """Runs the pods of an API, until it is stopped."""

    def __init__(
        self,
        api: JobCluster,
        *,
        folder: Path,
        hidden: Path,
        secrets: Mapping[str, str],
        environment: Mapping[str, str],
        spark_master: str,
    ) -> None:
        """Nothing runs yet.

        Args:
            api: Where pods and TrainJobs are posted.
            folder: Of the pods' logs.
            hidden: What no pod may see: the folder of the run.
            secrets: Values by ``name-of-the-Secret/key``.
            environment: What images and nodes bring: the path of programs and modules.
            spark_master: In whose place of ``k8s://…`` drivers ask for executors.
        """
        self.api = api
        self.folder, self.hidden = folder, hidden
        self.secrets, self.environment = secrets, environment
        self.spark_master = spark_master
        self.runs: dict[str, _Run] = {}
        self.num_started = 0
        self._train_jobs: dict[str, list[str]] = {}

    async def run(self) -> None:
        """Look at the API again and again, until cancelled; all pods end with it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            while True:
                self._look()
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            for run in self.runs.values():
                run.process.kill()
                run.process.wait()

    def kill(self, words: str) -> str | None:
        """SIGKILL to the first running pod whose name begins so; its name."""
        for name, run in self.runs.items():
            if name.startswith(words) and run.process.poll() is None:
                run.process.kill()
                return name
        return None

    def _look(self) -> None:
        for name, job in self.api.live("trainjobs").items():
            self._reconcile(name, job)
        live = self.api.live("pods")
        for name, pod in live.items():
            if name not in self.runs:
                self._start(name, pod)
            else:
                self._report(name, pod)
        for name in [name for name in self.runs if name not in live]:
            run = self.runs.pop(name)
            run.process.kill()
            run.process.wait()

    def _start(self, name: str, pod: Pod) -> None:
        (container,) = pod["spec"]["containers"]
        python, *arguments = container["command"]
        command = [sys.executable if python == "python" else python, *arguments]
        output = self.folder / f"{name}.log"
        process = sandbox.start(
            command,
            {**self.environment, **self._variables(container.get("env", ()))},
            user=_FIRST_USER + self.num_started,
            hidden=[self.hidden],
            output=output,
        )
        self.num_started += 1
        self.runs[name] = _Run(process, output, container["name"])
        self.api.run(name, container=container["name"])

    def _variables(self, given: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in given:
            source = one.get("valueFrom", {})
            if secret := source.get("secretKeyRef"):
                key = f"{secret['name']}/{secret['key']}"
                if key in self.secrets:
                    found[one["name"]] = self.secrets[key]
            else:
                found[one["name"]] = HOST if source else one["value"]
        if found.get("SPARK_MASTER", "").startswith("k8s://"):
            found["SPARK_MASTER"] = self.spark_master
            found["PYSPARK_SUBMIT_ARGS"] = _of_standalone(found["PYSPARK_SUBMIT_ARGS"])
        return found

    def _report(self, name: str, pod: Pod) -> None:
        run = self.runs[name]
        lines = run.output.read_text(errors="replace").splitlines()
        known = self.api.logs.setdefault(name, [])
        known += [self.api.stamped(line) for line in lines[len(known) :]]
        code = run.process.poll()
        if code is None or pod["status"]["phase"] in {"Succeeded", "Failed"}:
            return
        said = "\n".join(lines[-_SAID_LINES:])[-4096:]
        status = code if code >= 0 else _SIGNALLED - code
        self.api.end(name, status, message=said, container=run.container)

    def _reconcile(self, name: str, job: Pod) -> None:
        """Make the nodes of a TrainJob, and its condition once they have ended."""
        trainer = job["spec"]["trainer"]
        if name not in self._train_jobs:
            (port,) = free_ports(1)
            shared = {
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NPROC_PER_NODE": str(trainer.get("numProcPerNode", 1)),
                "PET_MASTER_ADDR": HOST,
                "PET_MASTER_PORT": str(port),
            }
            self._train_jobs[name] = [
                self._node(name, trainer, {**shared, "PET_NODE_RANK": str(number)})
                for number in range(trainer["numNodes"])
            ]
            return
        live = self.api.live("pods")
        phases = [live[node]["status"]["phase"] for node in self._train_jobs[name] if node in live]
        if job.get("status", {}).get("conditions") or not phases:
            return
        kind = "Failed" if "Failed" in phases else "Complete"
        if kind == "Failed" or set(phases) == {"Succeeded"}:
            self.api.condition(name, kind)

    def _node(self, name: str, trainer: Pod, variables: Mapping[str, str]) -> str:
        number = variables["PET_NODE_RANK"]
        labels = {
            "jobset.sigs.k8s.io/jobset-name": name,
            "batch.kubernetes.io/job-completion-index": number,
        }
        env = [*trainer["env"], *({"name": k, "value": v} for k, v in variables.items())]
        container = {"name": "node", "command": trainer["command"], "env": env}
        pod = {
            "metadata": {"name": f"{name}-node-{number}", "labels": labels},
            "spec": {"containers": [container]},
        }
        self.api.post(PODS, NAMESPACE, pod)
        return str(pod["metadata"]["name"])


def _of_standalone(arguments: str) -> str:
    """Spark's arguments without those that only its scheduler on Kubernetes reads."""
    import shlex

    words = shlex.split(arguments)
    pairs = zip(words[:-1:2], words[1::2], strict=True)
    kept = [word for pair in pairs if not pair[1].startswith(_OF_SPARK_ON_KUBERNETES) for word in pair]
    return shlex.join([*kept, words[-1]])


def image_environment() -> dict[str, str]:
    """What an image brings: programs and the repository's modules."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "LANG": "C.UTF-8"}
