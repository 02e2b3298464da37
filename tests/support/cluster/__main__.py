"""``make cluster-test``: one day on the parts of a cluster, on this machine, without containers.

Real are PostgreSQL (Airflow's database, MLflow's, Feast's registry), Redis, an S3 server, Spark
with two workers, and Airflow with its triggerer. The Kubernetes API is a stand-in at the wire, and
so are nodes, Trainer, KServe and its gateway (modules of this folder): each pod is a process
of another user that sees no folder of this run.

A history is built on a disk and copied to S3. Then a day is built twice: by jobs of this machine on
the disk, and by Airflow's pods on S3, up to a promoted InferenceService, while an executor, a pod
and a node of the training are killed. The last line of stdout is JSON: whether the contents of all
tables and the trained tensors are equal, how many pods there were, what was killed, the seconds.
"""

import contextlib
import datetime
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from support.cluster import postgres, sandbox
from support.cluster.clients import Clients
from support.cluster.comparison import differing_tables, tensors_of
from support.cluster.kubelet import Kubelet
from support.cluster.served_api import repeating, served, write_kubeconfig
from support.cluster.serving_cluster import Pods, ServingCluster
from support.cluster.site import SAME_SUMS, TOKEN, Site
from support.cluster.spark_nodes import SparkNodes
from support.cluster.trainer import Trainer
from support.dags.job_cluster import JobCluster

from features.datasets.catalog import schema_of
from features.places import put_changed
from infra.demo import backfill
from infra.demo.memory import MemorySampler
from infra.local.airflow_client import Scheduler, Task, dag_of
from infra.local.processes import terminate_as_interrupt
from infra.local.servers import free_ports
from infra.local.settings import PORT_VARIABLES, REPOSITORY, Settings
from infra.local.stack import Stack

DATASET = "synthetic"
NUM_DAYS, NUM_USERS, NUM_ITEMS = 4, 500, 300
SIZES = ["--rows=20000", f"--users={NUM_USERS}", f"--items={NUM_ITEMS}", f"--days={NUM_DAYS}"]
FIRST = schema_of(DATASET).first_day
LAST = FIRST + datetime.timedelta(days=NUM_DAYS - 1)
BEFORE = LAST - datetime.timedelta(days=1)
SERVICE, NAMESPACE = "ranker", "ranking"
_RANKS, _KILLS = 2, 3
_SETTINGS = ("RANKING_", "SPARK_", "PYSPARK_", "MLFLOW_", "AWS_", "AIRFLOW_", "PET_", "KUBECONFIG")
"""Beginnings of variables that would send the run to the servers of whoever starts it."""
COPIED = ("landing", "lake", "checkpoints", "artifacts", "reports")


class ClusterTest:
    """The servers of one run, and what it has seen."""

    def __init__(self, folder: Path) -> None:
        """Args: an empty folder, which no pod sees."""
        self.folder = folder
        self.sampler = MemorySampler()
        self.site = Site(folder)
        # What pods may read of the machine: who serves the API.
        self.shared = Path(tempfile.mkdtemp(prefix="cluster-"))
        self.shared.chmod(0o755)
        self.loops: list[list[Exception]] = []
        """What ended the loops of stand-ins; empty while they run."""
        self.killed: list[str] = []
        self.seen: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        """The whole run; returns its figures."""
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.shared)
            stack.enter_context(self.site.postgres)
            for name in ("airflow", "feast", "history"):
                self.site.postgres.create(name)
            os.environ |= {**SAME_SUMS, "RANKING_DATASETS": DATASET, **self.site.store.environment}
            stack.enter_context(self.site.store)
            disk = self._settings("disk", MLFLOW_TRACKING_URI=self.site.postgres.url("history"))
            jobs = backfill.Jobs(disk, self.sampler, logs=self.folder / "jobs")
            with self.sampler.running():
                self._on_the_disk(disk, jobs)
            stack.enter_context(self.site.redis)
            found = self._on_the_cluster(jobs)
            differing = differing_tables(DATASET, LAST, disk.data, self.site.root)
            return {
                "hashes_equal": not differing,
                "bits_equal": tensors_of(DATASET, LAST, disk.data)
                == tensors_of(DATASET, LAST, self.site.root),
                **({"differing": differing} if differing else {}),
                **found,
                "killed": self.killed,
                "seconds": round(time.monotonic() - jobs.started),
            }

    def _settings(self, name: str, **environment: str) -> Settings:
        ports = dict(zip(PORT_VARIABLES.values(), free_ports(len(PORT_VARIABLES)), strict=True))
        os.environ |= {**{k: str(v) for k, v in ports.items()}, **environment}
        os.environ["RANKING_VAR"] = str(self.folder / name)
        return Settings.from_environment()

    def _on_the_disk(self, settings: Settings, jobs: backfill.Jobs) -> None:
        """The history, its copy, and the day."""
        with Stack(settings) as stack:
            stack.start_jobs()
            stack.start_spark()
            stack.wait_for_spark()
            jobs.run("fetch", "features", "fetch", *SIZES, folders="landing")
            backfill.prepare(jobs, FIRST, BEFORE)
            backfill.learn(jobs, FIRST, BEFORE, holdout_days=schema_of(DATASET).holdout_days)
            flags = (f"--date={BEFORE}", "--endpoint=none")
            jobs.run("promote", "serving", "promote", *flags, folders="tracking reports")
            self.site.postgres.create("mlflow", template="history")
            for name in COPIED:
                put_changed(settings.var / name, self.site.root / name, since=0)
            backfill.prepare(jobs, LAST, LAST)
            jobs.run("examples", "features", "examples", f"--date={LAST}", folders="lake")
            flags = (f"--date={LAST}", f"--holdout-days={schema_of(DATASET).holdout_days}")
            folders = "lake checkpoints tracking reports"
            jobs.run("train", "training", "train", *flags, f"--ranks={_RANKS}", folders=folders)

    def _on_the_cluster(self, jobs: backfill.Jobs) -> dict[str, Any]:
        """The same day by Airflow and pods; what came of it."""
        settings = jobs.settings = self._settings_of_airflow()
        settings.var.mkdir()
        logs = self.folder / "pods"
        logs.mkdir()
        pods, clients = self._endpoint(logs)
        with contextlib.ExitStack() as stack:
            spark = SparkNodes(
                self.folder / "spark",
                self.site.of_images() | self.site.store.environment,
                hidden=self.site.hidden,
            )
            stack.enter_context(spark)
            api = stack.enter_context(served(JobCluster))
            services = stack.enter_context(served(lambda: ServingCluster(pods)))
            stack.callback(pods.stop)
            write_kubeconfig(self.shared / "jobs", api.address, {})
            write_kubeconfig(self.shared / "services", services.address, {})
            nodes = Kubelet(
                api,
                folder=logs,
                hidden=self.site.hidden,
                secrets=self.site.secrets(),
                image=self.site.of_images() | {"KUBECONFIG": str(self.shared / "services")},
                spark_master=spark.master,
            )
            jobs.run("feast apply", "features", "apply", folders="lake store")
            backfill.bring_online(jobs, FIRST, BEFORE)
            os.environ.pop("SPARK_MASTER")
            self.loops.append(stack.enter_context(repeating(Trainer(api).look, seconds=0.2)))
            self.loops.append(stack.enter_context(nodes.running()))
            stack.enter_context(clients.running())
            airflow = stack.enter_context(Stack(settings))
            backfill.together(lambda: self._deploy(jobs), lambda: self._start_airflow(airflow))
            jobs.say(f"the endpoint answers; Airflow runs {LAST}")
            scheduler = Scheduler(settings.airflow_url, dag_of("daily_ranking", DATASET))
            scheduler.wait_for_dag()
            scheduler.unpause()
            tasks = scheduler.watch(
                [LAST], on_poll=lambda tasks: self._look(tasks, jobs, nodes=nodes, spark=spark)
            )
            states = {task["task"]: task["state"] for task in tasks}
            stable = services.live["spec"]["predictor"]["labels"]["app.kubernetes.io/version"]
            exported = next(t["result"]["version"] for t in tasks if t["task"] == "export")
        return {
            "pods": len(nodes.runs) + pods.num_started,
            "tasks": states,
            "promoted": stable == exported,
            "answers": dict(clients.answered),
            "failed_requests": len(clients.errors),
        }

    def _settings_of_airflow(self) -> Settings:
        """Of the machine with the scheduler: everything else is reached by its address."""
        return self._settings(
            "airflow-machine",
            RANKING_ROOT=str(self.site.root),
            RANKING_ONLINE=self.site.redis.url,
            RANKING_REGISTRY=self.site.postgres.url("feast"),
            RANKING_AIRFLOW_DATABASE=self.site.postgres.url("airflow"),
            MLFLOW_TRACKING_URI=self.site.postgres.url("mlflow"),
            SPARK_MASTER="local[2]",
        )

    def _endpoint(self, logs: Path) -> tuple[Pods, Clients]:
        """The pods that will serve, and clients that ask as of the night after the last day."""
        pods = Pods(
            folder=logs,
            models=self.shared,
            hidden=self.site.hidden,
            secrets=self.site.secrets_of_the_endpoint(),
        )
        night_after = datetime.datetime.combine(LAST, datetime.time(), datetime.UTC)
        night_after += datetime.timedelta(days=1, hours=3)
        return pods, Clients(
            pods, token=TOKEN, num_users=NUM_USERS, num_items=NUM_ITEMS, moment=night_after
        )

    def _deploy(self, jobs: backfill.Jobs) -> None:
        """The first model, as docs/cluster.md has it."""
        version = self._champion()
        jobs.run(
            *("deploy", "serving", "deploy", f"--service={SERVICE}", f"--namespace={NAMESPACE}"),
            *(f"--kubeconfig={self.shared / 'services'}", f"--version={version}"),
            f"--storage-uri={self.site.root}/artifacts/{DATASET}/{version}",
            *("--image=ranking-serve:1", "--store-claim=ranking-endpoint"),
            *("--secret=ranking-endpoint", "--service-account=ranking-serve", "--min-replicas=1"),
            "--ready-timeout-seconds=180",
        )

    def _champion(self) -> str:
        from training.registry.aliases import CHAMPION
        from training.registry.mlflow_registry import Registry

        version = Registry(self.folder / "mlflow", DATASET).alias(CHAMPION)
        assert version is not None
        return version

    def _start_airflow(self, airflow: Stack) -> None:
        os.environ |= {
            "KUBECONFIG": str(self.shared / "jobs"),
            "RANKING_LAUNCHER": "kubernetes",
            "RANKING_SIZES": str(self.site.sizes()),
            "RANKING_SERVICE": SERVICE,
            "RANKING_NAMESPACE": NAMESPACE,
            "RANKING_STORAGE_URI": f"{self.site.root}/artifacts/{DATASET}/{{version}}",
            "RANKING_MIN_REQUESTS": "400",
            # Clients and both versions share two cores: latencies say little.
            "RANKING_MAX_LATENCY_RATIO": "4",
            "RANKING_FIRST_DAY": str(LAST),
            "RANKING_LAST_DAY": str(LAST),
        }
        airflow.start_airflow()
        airflow.wait_for_airflow()

    def _look(
        self, tasks: list[Task], jobs: backfill.Jobs, *, nodes: Kubelet, spark: SparkNodes
    ) -> None:
        """Log which tasks changed state, and kill what is to be killed at its time."""
        for errors in filter(None, self.loops):
            raise errors[0]
        for task in tasks:
            name, state = task["task"], task["state"] or ""
            if self.seen.get(name) != state:
                self.seen[name] = state
                jobs.say(f"{name:<22}{state}")
        done = {one.split()[0] for one in self.killed}
        if "pod" not in done and (found := nodes.alive("validate-impressions")):
            nodes.runs[found[0]].process.kill()
            self._note(jobs, f"pod {found[0]}")
        if "executor" not in done and nodes.alive("build-features") and spark.kill_executor():
            self._note(jobs, "executor of build_features")
        # Once the first node has the plan, all have met.
        first = [name for name in nodes.alive("train-") if name.endswith("-0")]
        trains = [name for name in first if "plan:" in nodes.runs[name].output.read_text()]
        if "node" not in done and trains:
            second = f"{trains[0][:-1]}1"
            nodes.lose(second)
            self._note(jobs, f"node of {second}")

    def _note(self, jobs: backfill.Jobs, what: str) -> None:
        self.killed.append(what)
        jobs.say(f"killed: {what}")


def main() -> int:
    """Run it; the exit code."""
    has_servers = postgres.is_installed() and shutil.which("redis-server")
    if not (sandbox.is_possible() and has_servers):
        sys.stderr.write(
            "error: it takes root on Linux, Debian's packages postgresql and redis-server, and a "
            "clone that is in no folder of the interpreter's\n"
        )
        return 1
    for name in [name for name in os.environ if name.startswith(_SETTINGS)]:
        del os.environ[name]
    terminate_as_interrupt()
    folder = REPOSITORY / "var" / "cluster-test"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o711)  # Postgres' own user must reach its data
    found = ClusterTest(folder).run()
    sys.stdout.write(json.dumps(found) + "\n")
    is_right = found["hashes_equal"] and found["bits_equal"] and found["promoted"]
    return 0 if is_right and len(found["killed"]) == _KILLS and not found["failed_requests"] else 1


if __name__ == "__main__":
    sys.exit(main())
