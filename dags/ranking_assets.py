"""Every path, asset and setting of the DAGs by name: the only place where a path is built.

Settings come from the environment, by the variables of ``ranking_settings``; what is of one data
set is in its ``DataSet``.
"""

import dataclasses
import datetime
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from airflow.sdk import Asset
from airflow.sdk.types import DagRunProtocol
from ranking_settings.logs import Log, log_of
from ranking_settings.variables import VARIABLES
from upath import UPath

REPORTS_URL = "/ranking/reports"
"""Where the reports plugin serves REPORTS in the Airflow UI."""


def _text(name: str) -> str:
    return os.environ.get(name) or VARIABLES[name].default


def _one_of(name: str, *values: str) -> str:
    text = _text(name)
    if text not in values:
        raise ValueError(f"{name} {text!r}: one of {values}")
    return text


def _number(name: str) -> int:
    return int(_text(name))


def place(text: str) -> UPath:
    """The place of a path or a URI, as ``features.places.place`` makes it."""
    if text.startswith("file:"):
        return UPath(urlsplit(text).path)
    # Other processes write too.
    return UPath(text, use_listings_cache=False) if "://" in text else UPath(text).resolve()


def midnight(day: datetime.date) -> datetime.datetime:
    """The first moment of a day, UTC."""
    return datetime.datetime.combine(day, datetime.time(tzinfo=datetime.UTC))


PYTHON = os.environ.get("RANKING_PYTHON") or sys.executable
ENDPOINT = os.environ.get("RANKING_ENDPOINT") or ""
SERVICE = os.environ.get("RANKING_SERVICE") or ""
NAMESPACE = _text("RANKING_NAMESPACE")
LOG = os.environ.get("RANKING_LOG_FOLDER") or ""
"""The folder of the prediction logs; empty where the endpoint has none."""
STORAGE_URI = os.environ.get("RANKING_STORAGE_URI") or ""
POOL = _text("RANKING_POOL")
DAILY_START = _one_of("RANKING_DAILY_START", "schedule", "api")
LAUNCHER = _one_of("RANKING_LAUNCHER", "process", "kubernetes")
RETRY_SECONDS = _number("RANKING_RETRY_SECONDS")
MIN_REQUESTS = _number("RANKING_MIN_REQUESTS")
LATENCY = f"--max-p95-ratio={_text('RANKING_MAX_LATENCY_RATIO')}"
ANCHOR_DAYS = _number("RANKING_ANCHOR_DAYS")
KEEP_DAYS = _number("RANKING_KEEP_DAYS")
KEEP_VERSIONS = _number("RANKING_KEEP_VERSIONS")
LANDING_TIMEOUT_SECONDS = _number("RANKING_LANDING_TIMEOUT_SECONDS")
LANDING_POLL_SECONDS = _number("RANKING_LANDING_POLL_SECONDS")
LEASE_TIMEOUT_SECONDS = _number("RANKING_LEASE_TIMEOUT_SECONDS")
LEASE_POLL_SECONDS = _number("RANKING_LEASE_POLL_SECONDS")
API_AWAY_SECONDS = _number("RANKING_API_AWAY_SECONDS")
POD_START_SECONDS = _number("RANKING_POD_START_SECONDS")

REPOSITORY = Path(__file__).resolve().parent.parent
SIZES = Path(os.environ.get("RANKING_SIZES") or REPOSITORY / "infra/kubernetes/sizes.yaml")
OBJECTIVES = Path(os.environ.get("RANKING_OBJECTIVES") or REPOSITORY / "infra/slo.yaml")
VAR = Path(os.environ.get("RANKING_VAR") or REPOSITORY / "var").resolve()
"""State of this machine."""
ROOT = place(os.environ.get("RANKING_ROOT") or str(VAR))
"""Where all data lie."""
if LAUNCHER == "kubernetes":
    # Else each job would write to the disk of its own pod, which ends with it.
    if isinstance(ROOT, Path):
        raise ValueError(f"RANKING_ROOT {ROOT}: a disk; RANKING_LAUNCHER=kubernetes needs a bucket")
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ValueError("MLFLOW_TRACKING_URI: not set; RANKING_LAUNCHER=kubernetes needs a server")
LANDING = ROOT / "landing"
LAKE = ROOT / "lake"
STORE = ROOT / "feast"
CHECKPOINTS = ROOT / "checkpoints"
ARTIFACTS = ROOT / "artifacts"
TRACKING = VAR / "mlflow"
REPORTS = ROOT / "reports"
STUDY = ROOT / "scaling"
FOLDERS = {
    "landing": LANDING,
    "lake": LAKE,
    "store": STORE,
    "checkpoints": CHECKPOINTS,
    "artifacts": ARTIFACTS,
    "tracking": TRACKING,
    "reports": REPORTS,
    "docs": REPORTS,
    "study": STUDY,
}
"""The place behind each flag of the jobs that names one."""
_LOCAL = {"tracking"}
"""Flags whose folder is on this machine, wherever the data lie: of a database's file."""


def folder_flags(names: str) -> list[str]:
    """The flags of a job for these folders; one of this machine is not on that of a pod."""
    is_elsewhere = LAUNCHER == "kubernetes"
    given = [name for name in names.split() if not (is_elsewhere and name in _LOCAL)]
    return [f"--{name}={FOLDERS[name]}" for name in given]


def job_environment() -> dict[str, str]:
    """What a job's process sees: this environment without Airflow's database and signing key."""
    withheld = ("AIRFLOW", "_AIRFLOW")
    return {name: value for name, value in os.environ.items() if not name.startswith(withheld)}


_SHARED = (
    "RANKING_LOG_KEEP_DAYS",
    "RANKING_MAX_UNEXPLAINED",
    "RANKING_REQUIRE_PARITY",
    "RANKING_PUSH",
    "RANKING_SCHEMAS",
    "RANKING_SPARK_PACKAGES",
    "MLFLOW_TRACKING_URI",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ALLOW_HTTP",
    *(f"OPENLINEAGE_{name}" for name in ("URL", "ENDPOINT", "NAMESPACE", "DISABLED")),
)


def table_io() -> dict[str, str]:
    """How pyiceberg reaches an object store: by s3fs, and the server that the environment names."""
    variables = {"s3.endpoint": "AWS_ENDPOINT_URL", "s3.region": "AWS_REGION"}
    given = {name: os.environ.get(variable, "") for name, variable in variables.items()}
    file_io = {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"}
    return file_io | {name: value for name, value in given.items() if value}


def shared_environment() -> dict[str, str]:
    """Settings that a job on another machine has in common with Airflow; secrets are not here."""
    given = {name: os.environ[name] for name in _SHARED if os.environ.get(name)}
    return {"RANKING_ROOT": str(ROOT), **given}


def _names(text: str) -> list[str]:
    """Names that are separated by commas; ValueError for one that is there twice, or for none."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names or len({*names}) < len(names):
        raise ValueError(f"RANKING_DATASETS {text!r}: names of data sets, each once")
    return names


def _day(variable: str, dataset: str) -> datetime.date | None:
    """The day that a variable names for a data set, by its name or for all; None: not set."""
    days = {}
    for part in filter(None, os.environ.get(variable, "").split(",")):
        name, _, day = part.rpartition("=")
        try:
            days[name.strip()] = datetime.date.fromisoformat(day.strip())
        except ValueError as error:
            raise ValueError(f"{variable} {part!r}: YYYY-MM-DD, or name=YYYY-MM-DD") from error
    return days.get(dataset, days.get(""))


def run_day(run: DagRunProtocol, params: Mapping[str, object]) -> datetime.date | None:
    """The day for which a run works: its param, else the start of its data interval.

    None for a run by hand that names none: then it has no logical date and no data interval.
    """
    if day := params.get("day"):
        return datetime.date.fromisoformat(str(day))
    return run.data_interval_start.date() if run.data_interval_start else None


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What the DAGs of one data set need to know of it."""

    name: str
    log: Log

    def dag_id(self, kind: str) -> str:
        """The name of its DAG of a kind, such as ``daily_ranking_my_shop``."""
        return f"{kind}_{self.name.replace('-', '_')}"

    @property
    def first_day(self) -> datetime.date:
        """First day of its schedule."""
        return _day("RANKING_FIRST_DAY", self.name) or self.log.first_day

    @property
    def last_day(self) -> datetime.date | None:
        """Last day of its schedule; None: it goes on."""
        return _day("RANKING_LAST_DAY", self.name) or self.log.last_day

    @property
    def pool(self) -> str:
        """Airflow pool of its jobs."""
        return self._filled(POOL)

    @property
    def target(self) -> tuple[str, ...]:
        """Where its models serve, for the jobs that change them."""
        if SERVICE:
            return (f"--service={self._filled(SERVICE)}", f"--namespace={NAMESPACE}")
        return (f"--endpoint={ENDPOINT}",) if ENDPOINT else ()

    @property
    def storage(self) -> str:
        """Where its InferenceService finds artifacts; empty where there is none."""
        return f"--storage-uri={self._filled(STORAGE_URI)}" if SERVICE else ""

    def _filled(self, setting: str) -> str:
        """A setting that is one for all data sets, with the name of this one where it asks."""
        return setting.replace("{dataset}", self.name)

    @property
    def alerts(self) -> UPath:
        """Where its alerts are written."""
        return REPORTS / self.name / "alerts"

    def landed_file(self, day: str) -> UPath:
        """The file or folder that exists under this name when a day has landed; or the table."""
        folder = LANDING / self.name / "impressions"
        if self.log.source["format"] in {"delta", "iceberg"}:
            given = self.log.source["path"]
            return place(given) if given else folder
        return folder / f"{day}.{self.log.suffix}"

    def event_files(self, day: str) -> list[UPath]:
        """Those of the labels that come later, which a day has too."""
        folder = LANDING / self.name / "labels"
        return [folder / label / f"{day}.{suffix}" for label, suffix in self.log.events.items()]

    def learnt_day(self, day: datetime.date) -> datetime.date:
        """The newest day whose labels are final when a day is over."""
        return day - datetime.timedelta(days=self.log.maturity_days)

    def day_of(self, run: DagRunProtocol, params: Mapping[str, object]) -> str:
        """The day for which a run works.

        Raises:
            ValueError: The run has no day, or one that the schedule does not have.
        """
        day = run_day(run, params)
        if day is None:
            raise ValueError(f"run {run.run_id}: params.day None; a run by hand needs its day")
        try:
            self.check(day)
        except ValueError as error:
            raise ValueError(f"run {run.run_id}: {error}") from error
        return str(day)

    def learnt_day_of(self, run: DagRunProtocol, params: Mapping[str, object]) -> str:
        """The newest day whose labels are final when the run's day is over; as ``day_of``."""
        return str(self.learnt_day(datetime.date.fromisoformat(self.day_of(run, params))))

    def check(self, day: datetime.date) -> None:
        """ValueError for a day that its schedule does not have."""
        first, last = self.first_day, self.last_day
        if day < first or (last is not None and day > last):
            raise ValueError(f"day {day}; {self.name} has {first} to {last or 'today'}")

    def asset(self, name: str) -> Asset:
        """A table, model or decision of it: what DAGs say that they read and write."""
        paths: dict[str, Path | UPath] = {
            "landed-impressions": LANDING / self.name / "impressions",
            "impressions": LAKE / self.name / "impressions",
            "features": LAKE / self.name / "features",
            "online-features": STORE / self.name / "online.db",
            "examples": LAKE / self.name / "examples",
            "backfilled-examples": LAKE / self.name / "examples" / "backfilled",
            "checkpoint": CHECKPOINTS / self.name,
            "artifact": ARTIFACTS / self.name,
            "gate-decision": REPORTS / self.name / "gate",
            "champion": TRACKING / self.name / "champion",
        }
        return Asset(name=f"{self.name}/{name}", uri=paths[name].as_uri(), group="ranking")


SCHEMAS = [Path(part) for part in os.environ.get("RANKING_SCHEMAS", "").split(os.pathsep) if part]
DATA_SETS = [DataSet(name, log_of(name, SCHEMAS)) for name in _names(_text("RANKING_DATASETS"))]
"""The data sets of this deployment; each has DAGs of its own."""
for _setting in ("RANKING_SERVICE", "RANKING_STORAGE_URI") if SERVICE else ():
    # An InferenceService serves one data set: another's canary would replace its model.
    if len(DATA_SETS) > 1 and "{dataset}" not in _text(_setting):
        raise ValueError(f"{_setting} {_text(_setting)!r}: several data sets need {{dataset}}")
