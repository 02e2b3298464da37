"""Settings of the local stack, and the environments that it gives to Airflow and to the jobs."""

import json
import os
import secrets
import sys
import uuid
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field

from features.datasets.schema_files import discovery
from features.environment import Environment, Group
from features.lineage.settings import (
    AIRFLOW_EVENTS,
    DEFAULT_NAMESPACE,
    FOLDER,
    NAMESPACE,
    has_receiver,
)
from features.places import Place, is_local, place, uri

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
DATASETS = "RANKING_DATASETS"
"""Variable of the data sets."""
JOBS_AT_ONCE = 2
_FOLDERS = {"store": "feast", "tracking": "mlflow", "docs": "reports"}
"""Flags whose folder has another name."""
_LOCAL = {"tracking"}
"""Flags whose folder is on this machine, wherever the data lie."""


class Settings(Group):
    """Where the stack keeps its state and on which ports of loopback it listens."""

    var: Path = Field(default=Path("var"), validation_alias="RANKING_VAR")
    """Folder of this machine's state; not set, `var` in the repository."""
    root: Annotated[Place, BeforeValidator(place)] = Field(
        default=place(""), validation_alias="RANKING_ROOT"
    )
    """Where all data lie; not set, in the folder RANKING_VAR."""
    datasets: str = Field(default="movielens-100k", validation_alias=DATASETS)
    """The data sets of the stack: names, separated by `,`."""
    airflow_database: str = Field(default="", validation_alias="RANKING_AIRFLOW_DATABASE")
    """SQLAlchemy's address of Airflow's database, such as `postgresql+psycopg://…`; not set,
    SQLite in the folder RANKING_VAR."""
    airflow_port: int = Field(default=8080, ge=0, le=65535, validation_alias="RANKING_AIRFLOW_PORT")
    """Airflow's UI and API."""
    http_port: int = Field(default=8081, ge=0, le=65535, validation_alias="RANKING_HTTP_PORT")
    """The endpoint over REST."""
    grpc_port: int = Field(default=8082, ge=0, le=65535, validation_alias="RANKING_GRPC_PORT")
    """The endpoint over gRPC."""
    push_port: int = Field(default=8083, ge=0, le=65535, validation_alias="RANKING_PUSH_PORT")
    """Metrics of the push; 0: none."""
    spark_port: int = Field(default=15002, ge=0, le=65535, validation_alias="RANKING_SPARK_PORT")
    """The Spark server that the jobs share; 0: none, each job has a Spark of its own."""

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> Self:
        """Its variables, where they are set.

        SPARK_REMOTE or SPARK_MASTER say where the jobs' Spark is, and then the stack starts none.
        """
        found = super().from_environment(environment)
        var = found.var if "var" in found.model_fields_set else REPOSITORY / "var"
        changes: dict[str, object] = {"var": var.resolve()}
        if any(environment.get(name) for name in ("SPARK_REMOTE", "SPARK_MASTER")):
            changes["spark_port"] = 0  # the jobs' Spark is elsewhere
        return found.model_copy(update=changes)

    def folders(self, names: str) -> list[str]:
        """The flags of a command for these folders, which are separated by spaces."""
        flags = []
        for name in names.split():
            where = place(self.var) if name in _LOCAL else self.data
            flags.append(f"--{name}={uri(where / _FOLDERS.get(name, name))}")
        return flags

    @property
    def names(self) -> list[str]:
        """The names of the data sets, in the order given."""
        names = [name.strip() for name in self.datasets.split(",") if name.strip()]
        if not names or len({*names}) < len(names):
            raise ValueError(f"RANKING_DATASETS {self.datasets!r}: names of data sets, each once")
        return names

    @property
    def dataset(self) -> str:
        """The first data set: that of the demo."""
        return self.names[0]

    @property
    def data(self) -> Place:
        """The place below which all data lie."""
        return self.root if "root" in self.model_fields_set else place(self.var)

    @property
    def home(self) -> Path:
        """Airflow's own folder."""
        return self.var / "airflow"

    @property
    def record(self) -> Path:
        """File with the stack's processes, for ``down``."""
        return self.home / "stack.json"

    @property
    def warm_python(self) -> Path:
        """Interpreter of the jobs while a stack runs, see job_server.py."""
        return self.home / "warm-python"

    @property
    def spark_token(self) -> str:
        """What a client of the Spark server must know: jobs of this stack alone."""
        return _secret(self.home / "spark.key")

    @property
    def airflow_url(self) -> str:
        """Where the UI is."""
        return f"http://{HOST}:{self.airflow_port}"

    @property
    def endpoint_url(self) -> str:
        """Where the ranking endpoint answers over REST."""
        return f"http://{HOST}:{self.http_port}"


_PATIENCE = "AIRFLOW__SCHEDULER__"
_AIRFLOWS = ("AIRFLOW", "RANKING_AIRFLOW_DATABASE")
"""Beginnings of variables that no job sees: with Airflow's keys and its database's password."""
PORT_VARIABLES = {
    name: str(field.validation_alias)
    for name, field in Settings.model_fields.items()
    if name.endswith("_port")
}


def job_environment(settings: Settings) -> dict[str, str]:
    """What a job sees, started by hand or by Airflow."""
    python = settings.warm_python if settings.warm_python.exists() else sys.executable
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(_AIRFLOWS)},
        **spark_client(settings),
        "RANKING_VAR": str(settings.var),
        "RANKING_ROOT": uri(settings.data),
        DATASETS: settings.datasets,
        # Whole: a process of the stack starts in another folder.
        "RANKING_SCHEMAS": os.pathsep.join(
            str(Path(part).resolve())
            for part in os.environ.get("RANKING_SCHEMAS", "").split(os.pathsep)
            if part
        ),
        "RANKING_ENDPOINT": settings.endpoint_url,
        "RANKING_PYTHON": str(python),
        "PYTHON_EXEC": str(python),  # with which torchrun starts its ranks
    }


def spark_client(settings: Settings) -> dict[str, str]:
    """How a job finds the stack's Spark server."""
    if not settings.spark_port:
        return {}
    # One session: each would start Python workers of its own, and Spark would keep them.
    session = uuid.uuid5(uuid.NAMESPACE_OID, settings.spark_token)
    return {
        # By name: Spark's client sends a token without TLS to `localhost` and to nothing else.
        "SPARK_REMOTE": f"sc://localhost:{settings.spark_port}/;session_id={session}",
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": settings.spark_token,
    }


def airflow_environment(settings: Settings) -> dict[str, str]:
    """All settings of Airflow, and those of the DAGs."""
    home, url = settings.home, settings.airflow_url
    options = {
        "CORE__DAGS_FOLDER": REPOSITORY / "dags",
        "CORE__PLUGINS_FOLDER": REPOSITORY / "infra" / "airflow" / "plugins",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__EXECUTOR": "LocalExecutor",
        # Two jobs at once is what two cores and the memory budget bear; the pools say the same for
        # the tasks.
        "CORE__PARALLELISM": JOBS_AT_ONCE,
        # No password: the server listens on loopback only.
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "DATABASE__SQL_ALCHEMY_CONN": settings.airflow_database or f"sqlite:///{home}/airflow.db",
        "LOGGING__BASE_LOG_FOLDER": home / "logs",
        "API__HOST": HOST,
        "API__PORT": settings.airflow_port,
        "API__BASE_URL": url,
        "API__WORKERS": 1,
        "API_AUTH__JWT_SECRET": _secret(home / "jwt.key"),
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        # A finished task waits for the scheduler's next look: a second for each, by default.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.2,
        # A supervisor that misses its task's end by a hair sleeps until its next heartbeat.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        **_lineage_options(settings),
    }
    if "+psycopg:" in settings.airflow_database:
        # Airflow would look for another library, which this one makes needless.
        options["DATABASE__SQL_ALCHEMY_CONN_ASYNC"] = settings.airflow_database
    return {
        **job_environment(settings),
        **{f"AIRFLOW__{name}": str(value) for name, value in options.items()},
        # How patient the scheduler is may be set as Airflow's documentation says.
        **{name: text for name, text in os.environ.items() if name.startswith(_PATIENCE)},
        "AIRFLOW_HOME": str(home),
        "RANKING_POOL": pool_of("{dataset}"),
        # The triggerer imports the triggers of the DAGs by name, and loads no DAG file.
        "PYTHONPATH": os.pathsep.join(
            [str(REPOSITORY / "dags"), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
        # glibc gives each thread an arena of its own; two keep the API server 50 MB smaller.
        "MALLOC_ARENA_MAX": "2",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def _lineage_options(settings: Settings) -> dict[str, object]:
    """Where Airflow's OpenLineage provider has its events: in files, or where a variable says."""
    events = settings.data / FOLDER / AIRFLOW_EVENTS
    if is_local(events):
        events.mkdir(parents=True, exist_ok=True)  # the provider does not
    file = {"type": "file", "log_file_path": uri(events / "event")}
    return {
        # Else it forks the task's process, which has threads and an open connection.
        "OPENLINEAGE__EXECUTE_IN_THREAD": True,
        # The start and the end of a task wait so long for a receiver that does not answer.
        "OPENLINEAGE__EXECUTION_TIMEOUT": 3,
        "OPENLINEAGE__NAMESPACE": os.environ.get(NAMESPACE) or DEFAULT_NAMESPACE,
        **({} if has_receiver() else {"OPENLINEAGE__TRANSPORT": json.dumps(file)}),
    }


def name_data_sets(folder: Path) -> None:
    """Have the environment name the schema files of a folder, and their data sets.

    Raises:
        ValueError: It is no folder, or has none.
    """
    files = discovery.files_of(folder, f"--schemas {folder}") if folder.is_dir() else []
    if not files:
        raise ValueError(
            f"--schemas {folder}: no folder with schema files ({', '.join(discovery.SUFFIXES)}, "
            f"or {discovery.PYTHON} that assigns {discovery.SCHEMA_FILE})"
        )
    os.environ[discovery.SCHEMAS] = str(folder.resolve())
    os.environ[DATASETS] = ",".join(file.stem for file in files)


def pool_of(dataset: str) -> str:
    """Airflow's pool of a data set, whose jobs no other data set can crowd out."""
    return f"ranking_{dataset}"


def _secret(file: Path) -> str:
    """The key with which Airflow's parts sign tokens; created at the first start."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(64), encoding="utf-8")
    return file.read_text(encoding="utf-8")
