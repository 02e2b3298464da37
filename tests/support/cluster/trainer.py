"""A stand-in for Kubeflow Trainer: a TrainJob becomes a pod for each of its nodes.

It tells torchrun in each pod of the others by PET_*, as Trainer does; by the repository's runtime
(``infra/kubernetes/base/training.yaml``) no pod is started again, so one that fails is the end of
all. Deleted TrainJobs lose their pods, as Kubernetes' collector of garbage does it.
"""

from collections.abc import Mapping
from typing import Any

from support.dags.job_cluster import JobCluster

from infra.local.servers import free_ports
from infra.local.settings import HOST

_OF, _INDEX = "jobset.sigs.k8s.io/jobset-name", "batch.kubernetes.io/job-completion-index"


class Trainer:
    """Runs the TrainJobs of an API."""

    def __init__(self, api: JobCluster) -> None:
        """Nothing has been looked at yet."""
        self.api = api
        self._nodes: dict[str, list[str]] = {}

    def look(self) -> None:
        """Make what is missing, and see what has ended."""
        jobs, pods = self.api.live("trainjobs"), self.api.live()
        for name, job in jobs.items():
            if name not in self._nodes:
                self._nodes[name] = self._start(name, job["spec"])
            elif not job.get("status", {}).get("conditions"):
                phases = {pods[node]["status"]["phase"] for node in self._nodes[name]}
                if "Failed" in phases:
                    self.api.condition(
                        name, "Failed", "jobset failed due to one or more job failures"
                    )
                elif phases == {"Succeeded"}:
                    self.api.condition(name, "Complete")
        for name, pod in pods.items():
            owner = pod["metadata"].get("labels", {}).get(_OF)
            if owner is not None and owner not in jobs:
                self.api.delete(name)

    def _start(self, name: str, spec: Mapping[str, Any]) -> list[str]:
        trainer = spec["trainer"]
        (patch,) = spec["runtimePatches"]
        (nodes,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        template = nodes["template"]["spec"]["template"]
        (container,) = template["spec"]["containers"]
        (port,) = free_ports(1)
        made = []
        for number in range(trainer["numNodes"]):
            others = {
                "PET_NNODES": trainer["numNodes"],
                "PET_NPROC_PER_NODE": 1,  # Trainer's `auto` is the number of CPUs without a GPU
                "PET_NODE_RANK": number,
                "PET_MASTER_ADDR": HOST,
                "PET_MASTER_PORT": port,
            }
            variables = [{"name": key, "value": str(value)} for key, value in others.items()]
            own = {"command": trainer["command"], "env": [*trainer["env"], *variables]}
            made.append(f"{name}-node-0-{number}")
            self.api.post(
                made[-1],
                labels={**template["metadata"]["labels"], _OF: name, _INDEX: str(number)},
                spec={**template["spec"], "containers": [{**container, **own}]},
            )
        return made
