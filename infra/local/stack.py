"""The pipeline on one machine, in the foreground, on loopback: Airflow, Spark, push, endpoint.

    python -m infra.local.stack up              until Ctrl-C or SIGTERM, which end all of it
    python -m infra.local.stack down            ends a stack that was started elsewhere
    python -m infra.local.stack airflow …       the airflow command with this stack's settings

Its data sets are those of RANKING_DATASETS, or with ``--schemas DIR`` before the command those of
the schema files in a folder: each has DAGs, a pool, a push and a model of its own.

Airflow is its scheduler with the LocalExecutor, its triggerer, its DAG processor and its API server
with the UI. (``airflow standalone`` would add log servers that listen on every interface.) Spark is
one Connect server, in which the jobs have sessions (spark_server.py); their Python processes are
forked by one that has the libraries loaded (job_server.py). One more process brings users online
whenever impressions land. Every setting of Airflow is in settings.py and nowhere else. All state is
under the folder RANKING_VAR, by default ``var``.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from features.datasets.catalog import data_set_of, has_push, schema_of
from features.datasets.python_yaml import write_for_dags
from features.online_store.config import REGISTRY
from features.schema import TableKind
from infra.local.airflow_client import make_pool
from infra.local.network import answers, call, listens, require_free_port
from infra.local.processes import Processes, end_recorded, run, terminate_as_interrupt
from infra.local.settings import (
    HOST,
    JOBS_AT_ONCE,
    PORT_VARIABLES,
    Settings,
    airflow_environment,
    job_environment,
    name_data_sets,
    pool_of,
)

START_SECONDS = 180.0
"""Longest time that the parts may take to answer; 20 to 30 s is usual."""
PUSH = "push-"
"""Begins the name of a push's process and of its log; its data set ends it."""
PUSH_RESTART_SECONDS = 30.0
"""Shortest time between two starts of a push that ends by itself."""


class Push(NamedTuple):
    """A push that was started."""

    port: int
    """Of its metrics; 0: none."""
    started: float
    """On the monotonic clock."""


class Stack:
    """The running parts; a context manager that ends them all."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is started yet."""
        self.settings = settings
        self.processes = Processes(record=settings.record, logs=settings.home / "logs")
        self.pushes: dict[str, Push] = {}
        """By data set."""
        self._sockets: Path | None = None

    def __enter__(self) -> "Stack":
        """The stack itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every process, and the processes that these started."""
        self.settings.warm_python.unlink(missing_ok=True)
        self.processes.end()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def start_jobs(self) -> None:
        """Start the server that forks the jobs (job_server.py); early jobs wait."""
        from infra.local.job_server import write_interpreter

        # The path of a socket has at most 107 bytes, and RANKING_VAR may be longer.
        self._sockets = Path(tempfile.mkdtemp(prefix="ranking-"))
        path = self._sockets / "jobs"
        command = [sys.executable, str(JOB_SERVER), str(path)]
        self.processes.start("jobs", command, job_environment(self.settings), self.settings.var)
        self._wait("jobs", path.exists)
        write_interpreter(self.settings.warm_python, path)

    def start_spark(self) -> None:
        """Start the Spark server, where this stack has one; returns before it answers."""
        if not (port := self.settings.spark_port):
            return
        # It imports pyspark, for which the other parts need not wait.
        from infra.local import spark_server

        require_free_port(port, "RANKING_SPARK_PORT")
        environment = spark_server.environment(self.settings, os.environ)
        self.processes.start("spark", spark_server.command(port), environment, self.settings.var)

    def start_airflow(self) -> None:
        """Make or migrate the database and start the parts; returns before they answer."""
        require_free_port(self.settings.airflow_port, "RANKING_AIRFLOW_PORT")
        write_for_dags(self.settings.names)
        environment = airflow_environment(self.settings)
        run([*AIRFLOW, "db", "migrate"], environment, self.settings.home)
        for name, arguments in COMPONENTS.items():
            self.processes.start(name, [*AIRFLOW, *arguments], environment, self.settings.home)

    def apply_new(self) -> None:
        """Register features of data sets that the store does not know yet: the endpoint asks it."""
        environment = job_environment(self.settings)
        for name in self.settings.names:
            registry = self.settings.data / "feast" / name / "registry.db"
            if not (registry.exists() or environment.get(REGISTRY)):
                folders = self.settings.folders("lake store")
                command = ["-m", "features", "apply", f"--dataset={name}", *folders]
                python = environment["RANKING_PYTHON"]
                run([python, *command], environment, self.settings.var)

    def start_endpoint(self) -> None:
        """Start the ranking endpoint; returns before it answers."""
        settings = self.settings
        require_free_port(settings.http_port, "RANKING_HTTP_PORT")
        require_free_port(settings.grpc_port, "RANKING_GRPC_PORT")
        command = [
            *(sys.executable, "-m", "serving", "serve"),
            *(f"--dataset={name}" for name in settings.names),
            *settings.folders("store artifacts tracking"),
            *(f"--host={HOST}", f"--http-port={settings.http_port}"),
            f"--grpc-port={settings.grpc_port}",
        ]
        self.processes.start("endpoint", command, job_environment(settings), settings.var)

    def start_pushes(self) -> None:
        """Start a push for each data set that has one; it waits for data."""
        for name in self.settings.names if has_push() else ():
            schema = schema_of(name)
            is_topic = bool(data_set_of(name).source.kafka)  # nothing pushes from one
            if schema.can_push and not is_topic and schema.tables_of(TableKind.STATE):
                self._start_push(name)

    def _start_push(self, dataset: str) -> None:
        settings = self.settings
        port = settings.push_port and settings.push_port + settings.names.index(dataset)
        require_free_port(port, "RANKING_PUSH_PORT")
        folders = settings.folders("landing lake store docs")
        command = push_command(dataset, folders, metrics_port=port)
        self.processes.start(PUSH + dataset, command, job_environment(settings), settings.var)
        self.pushes[dataset] = Push(port, time.monotonic())

    def keep_pushes(self) -> None:
        """Restart a push that has ended; without it the endpoint answers with older users."""
        for dataset, push in list(self.pushes.items()):
            is_due = time.monotonic() - push.started > PUSH_RESTART_SECONDS
            if is_due and self.processes.has_ended(PUSH + dataset):
                log = self.processes.log(PUSH + dataset)
                before = log.replace(log.with_suffix(".log.1"))
                say(f"{PUSH}{dataset}: ended, and is started again; see {before}")
                self._start_push(dataset)

    def wait_for_spark(self) -> None:
        """Return when the Spark server accepts connections."""
        if port := self.settings.spark_port:
            self._wait("spark", lambda: listens(port))

    def wait_for_airflow(self) -> None:
        """Return when scheduler, triggerer and DAG processor are healthy, and pools are there."""
        self._wait("airflow", self._is_airflow_healthy)
        names = self.settings.names
        for name in names:
            slots = max(1, JOBS_AT_ONCE // len(names))
            make_pool(self.settings.airflow_url, pool_of(name), slots=slots)

    def wait_for_endpoint(self, *, with_model: bool = True) -> None:
        """Return when the endpoint answers; ``with_model``: when it has loaded the champion."""
        path = "/v2/health/ready" if with_model else "/v2/health/live"
        self._wait("endpoint", lambda: answers(self.settings.endpoint_url + path))

    def has_model(self, dataset: str) -> bool:
        """Whether the endpoint has the champion of a data set."""
        return answers(f"{self.settings.endpoint_url}/v2/models/{dataset}/ready")

    def _wait(self, name: str, is_ready: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            self.processes.require_alive()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name}: no answer within {START_SECONDS:.0f} s; see its log")
            time.sleep(0.3)

    def _is_airflow_healthy(self) -> bool:
        try:
            health = call(f"{self.settings.airflow_url}/api/v2/monitor/health")
        except OSError:
            return False
        parts = (health[part]["status"] for part in ("scheduler", "triggerer", "dag_processor"))
        return all(status == "healthy" for status in parts)


def push_command(dataset: str, folders: Sequence[str], *, metrics_port: int) -> list[str]:
    """The command of the push, which runs whenever impressions land."""
    return [
        *(sys.executable, "-m", "features", "push", f"--dataset={dataset}", "--follow"),
        *folders,
        f"--metrics-port={metrics_port}",
    ]


JOB_SERVER = Path(__file__).with_name("job_server.py")
AIRFLOW = (sys.executable, "-m", "airflow")
COMPONENTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
}


def up(settings: Settings) -> None:
    """Run the stack until it is interrupted or a part of it dies."""
    started = time.monotonic()
    with Stack(settings) as stack:
        say(f"starting; logs in {settings.home / 'logs'}")
        stack.start_jobs()
        stack.start_spark()
        stack.apply_new()
        stack.start_endpoint()
        stack.start_airflow()
        stack.wait_for_spark()
        stack.start_pushes()
        stack.wait_for_airflow()
        say(f"Airflow   {settings.airflow_url}  (healthy after {time.monotonic() - started:.0f} s)")
        stack.wait_for_endpoint(with_model=False)
        missing = [name for name in settings.names if not stack.has_model(name)]
        note = f"  (no champion yet: {', '.join(missing)})" if missing else ""
        if settings.spark_port:
            say(f"Spark     sc://localhost:{settings.spark_port}  (a token is asked for)")
        say(f"endpoint  {settings.endpoint_url}  gRPC {HOST}:{settings.grpc_port}{note}")
        for name, push in stack.pushes.items():
            where = f"  http://{HOST}:{push.port}/metrics" if push.port else ""
            say(f"push      {name}: users within a day{where}")
        say("Ctrl-C ends all of it")
        while True:
            stack.processes.require_alive(but={PUSH + name for name in stack.pushes})
            stack.keep_pushes()
            time.sleep(1)


def say(text: str) -> None:
    """Progress, for the person who started it."""
    sys.stderr.write(f"stack: {text}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.stack", description="Airflow and the endpoint, here."
    )
    parser.add_argument("command", choices=("up", "down", "airflow"))
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments of the airflow command")
    parser.add_argument("--schemas", metavar="DIR", type=Path, help="folder of schema files")
    defaults = Settings.from_environment()
    for name, variable in PORT_VARIABLES.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=getattr(defaults, name), help=f"or {variable}")
    options = parser.parse_args(arguments)
    if options.schemas:
        try:
            name_data_sets(options.schemas)
        except ValueError as error:
            parser.error(str(error))
        defaults = Settings.from_environment()
    settings = defaults.model_copy(update={name: getattr(options, name) for name in PORT_VARIABLES})
    if options.command == "airflow":
        os.execve(sys.executable, [*AIRFLOW, *options.rest], airflow_environment(settings))
    if options.command == "down":
        say(f"ended {end_recorded(settings.record)} processes")
        return 0
    terminate_as_interrupt()
    try:
        up(settings)
    except KeyboardInterrupt:
        say("ended")
    except (OSError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
