"""KServe's stand-in with pods that run: each model that is asked for becomes an endpoint.

The controller is that of the tests of rollouts. Here its pods are processes (``sandbox``): the
model's folder is fetched from the object store as KServe's storage initializer does, readiness is
what the pod's own probe answers, and metrics are its own. What a cluster has and this has not: an
address for each pod, for which its ports are others, and the node's volumes, for which the model
and the scratch folder lie elsewhere.
"""

import asyncio
import dataclasses
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.cluster import sandbox
from support.cluster.kubelet import image_environment
from support.serving.release.kserve_controller import VERSION, Behaviour, Controller
from support.serving.release.kubernetes_api import ApiServer

from features.places import get_folder, place
from infra.local.network import answers
from infra.local.servers import free_ports
from infra.local.settings import HOST
from serving.release.kserve import manifest

_FIRST_USER = 4001
_POLL_SECONDS, _LEAVE_SECONDS = 0.5, 5.0
_PORTS = (manifest.HTTP_PORT, manifest.GRPC_PORT, manifest.METRICS_PORT)


@dataclasses.dataclass(kw_only=True)
class EndpointPod(Behaviour):
    """A pod of a version, as it really does."""

    process: "subprocess.Popen[bytes]"
    ports: dict[int, int]
    """Of the machine, by those of the container."""
    is_ready: bool = False

    def url(self, path: str, port: int = manifest.HTTP_PORT) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.ports[port]}{path}"

    def look(self) -> bool:
        """Ask its readiness probe; whether the answer is another one than before."""
        before, self.is_ready = self.is_ready, answers(self.url("/v2/health/ready"))
        return before != self.is_ready

    def scrape(self) -> bytes:
        """Its metrics, as the API server's proxy passes them on."""
        with urllib.request.urlopen(self.url("/metrics", manifest.METRICS_PORT)) as answer:
            return bytes(answer.read())

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


class Pods(Controller):
    """KServe whose pods run."""

    def __init__(
        self,
        *,
        folder: Path,
        models: Path,
        hidden: Sequence[Path],
        secrets: Mapping[str, Mapping[str, str]],
    ) -> None:
        """No pod runs.

        Args:
            folder: Of their logs.
            models: A folder that pods may read, for what they serve.
            hidden: Folders that no pod may see.
            secrets: Variables by the name of the Secret.
        """
        super().__init__()
        self.folder, self.models = folder, models
        self.hidden, self.secrets = hidden, secrets
        self.num_started = 0
        self._leaving: list[EndpointPod] = []

    def pods(self) -> dict[str, EndpointPod]:
        """Those that run, by version."""
        return {k: v for k, v in self.behaviours.items() if isinstance(v, EndpointPod)}

    def weights(self) -> dict[str, int]:
        """Percent of the traffic by version, as the route has them."""
        route = self.children.get(("httproutes", "ranker"))
        backends = route["spec"]["rules"][1]["backendRefs"] if route else []
        versions = self._versions()
        return {versions[one["name"]]: one.get("weight", 100) for one in backends}

    def trouble(self, predictor: dict[str, Any]) -> str:
        """Why a predictor has no ready pod; a missing one is started."""
        version = predictor["labels"][VERSION]
        if version not in self.behaviours:
            self.behaviours[version] = self._start(version, predictor)
        pod = self.behaviours[version]
        assert isinstance(pod, EndpointPod)
        return "" if pod.is_ready else "0/1 pods are ready"

    def reconcile(self, service: dict[str, Any]) -> dict[str, Any]:
        """As KServe; pods that nothing asks for any more end."""
        status = super().reconcile(service)
        for version in self.pods().keys() - self._versions().values():
            leaving = self.pods()[version]
            del self.behaviours[version]
            self._leaving.append(leaving)
            # Requests are on their way to it still: the manifest has it wait before it ends.
            threading.Timer(_LEAVE_SECONDS, leaving.stop).start()
        return status

    def stop(self) -> None:
        """End all pods."""
        for pod in [*self.pods().values(), *self._leaving]:
            pod.stop()

    def _versions(self) -> dict[str, str]:
        """Of the Deployments, by their names."""
        return {
            name: child["spec"]["template"]["metadata"]["labels"][VERSION]
            for (kind, name), child in self.children.items()
            if kind == "deployments"
        }

    def _start(self, version: str, predictor: dict[str, Any]) -> EndpointPod:
        (container,) = predictor["containers"]
        variables = {one["name"]: one["value"] for one in container["env"]}
        for source in container["envFrom"]:
            variables |= self.secrets[source["secretRef"]["name"]]
        self.num_started += 1
        model = self.models / f"model-{self.num_started}"
        model.mkdir()
        get_folder(place(variables.pop(manifest.STORAGE_URI)), model)
        for path in (model, *model.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        moved = {manifest.MODEL_FOLDER: str(model), "0.0.0.0": HOST}
        moved |= {str(port): str(here) for port, here in ports.items()}
        moved |= {one["mountPath"]: "/mnt" for one in container["volumeMounts"]}
        arguments = [moved.get(word, word.replace("/tmp/", "/mnt/")) for word in container["args"]]
        process = sandbox.start(
            [sys.executable, *arguments],
            {**image_environment(), **variables, "HOME": "/mnt", "TMPDIR": "/mnt"},
            user=_FIRST_USER + self.num_started,
            hidden=self.hidden,
            output=self.folder / f"endpoint-{version}.log",
        )
        return EndpointPod(process=process, ports=ports)


class ServingCluster(ApiServer):
    """The API server in front of them."""

    def __init__(self, pods: Pods) -> None:
        """Args: KServe."""
        super().__init__()
        self._running = pods

    def start(self) -> None:
        super().start()
        self.controller = self._running
        self._watch = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        """Kubelets tell of readiness, and KServe writes it into the service's status."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            pods = list(self._running.pods().values())
            changed = [await asyncio.to_thread(pod.look) for pod in pods]
            if any(changed):
                self.touch()
