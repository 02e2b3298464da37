"""Spark standalone: a master and two workers, whose executors run as another user.

It stands in for Spark's own scheduling on Kubernetes, where each executor is a pod.
"""

import contextlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pyspark
from support.cluster import sandbox

from infra.local.network import listens
from infra.local.servers import Server, free_ports, wait
from infra.local.settings import HOST

_HOME = Path(pyspark.__file__).parent
_USER = 2002
_NUM_WORKERS = 2
_EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"


class SparkNodes(Server):
    """A master, and workers of one core each that see none of some folders."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, hidden: Sequence[Path]
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: Of the nodes' logs.
            environment: All that executors see, beside what an application gives them.
            hidden: Folders that they can neither read nor enter.
        """
        self.folder, self._hidden = folder, hidden
        port, *self._pages = free_ports(2 + _NUM_WORKERS)
        self.master = f"spark://{HOST}:{port}"
        self._environment = {
            **environment,
            "SPARK_HOME": str(_HOME),
            "SPARK_LOCAL_IP": HOST,
            "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false",  # its port is always 6066
            "PYSPARK_PYTHON": sys.executable,
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the nodes, and return when the master listens."""
        self.folder.mkdir(parents=True)
        port = self.master.rpartition(":")[2]
        page, *pages = self._pages
        at = ["--host", HOST, "--webui-port"]
        self._start("master", "master.Master", *at, str(page), "--port", port)
        self.process = self._processes[0]
        wait(lambda: listens(int(port)), self.process, self.folder / "master.log")
        for number, page in enumerate(pages):
            size = ["--cores", "1", "--memory", "2g", "--work-dir", "/mnt"]
            self._start(f"worker-{number}", "worker.Worker", *at, str(page), *size, self.master)

    def _start(self, name: str, program: str, *arguments: str) -> None:
        command = [str(_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{program}"]
        self._processes.append(
            sandbox.start(
                [*command, *arguments],
                self._environment,
                user=_USER,
                hidden=self._hidden,
                output=self.folder / f"{name}.log",
            )
        )

    def kill_executor(self) -> bool:
        """SIGKILL to one executor; whether there was one."""
        for worker in self._processes[1:]:
            for child in psutil.Process(worker.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                    if child.name() == "java" and _EXECUTOR in child.cmdline():
                        child.kill()
                        return True
        return False

    def stop(self) -> None:
        """End all nodes, with their executors."""
        for process in reversed(self._processes):
            process.kill()
            process.wait(30)
