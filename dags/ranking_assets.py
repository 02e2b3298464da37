"""Every path, asset and setting of the DAGs by name: the only place where a path is built.

Settings come from the environment, by the variables of ``ranking_variables``.
"""

import datetime
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from airflow.sdk import Asset
from ranking_logs import log_of
from ranking_variables import VARIABLES
from upath import UPath

REPORTS_URL = "/ranking/reports"
"""Where the reports plugin serves REPORTS in the Airflow UI."""


def _day(name: str, default: datetime.date | None) -> datetime.date | None:
    text = os.environ.get(name, "")
    return datetime.date.fromisoformat(text) if text else default


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
    # Listings are not kept: other processes write too.
    return UPath(text, use_listings_cache=False) if "://" in text else UPath(text).resolve()


def midnight(day: datetime.date) -> datetime.datetime:
    """The first moment of a day, UTC."""
    return datetime.datetime.combine(day, datetime.time(), tzinfo=datetime.UTC)


DATASET = _text("RANKING_DATASET")
SCHEMAS = [Path(part) for part in os.environ.get("RANKING_SCHEMAS", "").split(os.pathsep) if part]
LOG = log_of(DATASET, SCHEMAS)
FIRST_DAY = _day("RANKING_FIRST_DAY", LOG.first_day) or LOG.first_day
LAST_DAY = _day("RANKING_LAST_DAY", LOG.last_day)
PYTHON = os.environ.get("RANKING_PYTHON") or sys.executable
ENDPOINT = os.environ.get("RANKING_ENDPOINT") or ""
SERVICE = os.environ.get("RANKING_SERVICE") or ""
NAMESPACE = _text("RANKING_NAMESPACE")
TARGET = (
    (f"--service={SERVICE}", f"--namespace={NAMESPACE}")
    if SERVICE
    else ((f"--endpoint={ENDPOINT}",) if ENDPOINT else ())
)
"""Where models serve, for the jobs that change them."""
STORAGE = f"--storage-uri={os.environ.get('RANKING_STORAGE_URI') or ''}" if SERVICE else ""
POOL = _text("RANKING_POOL")
LAUNCHER = _one_of("RANKING_LAUNCHER", "process", "kubernetes")
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
    """The flags of a job for these folders, which are separated by spaces.

    A folder of this machine is not on the one of a pod, where MLflow is a server.
    """
    is_elsewhere = LAUNCHER == "kubernetes"
    given = [name for name in names.split() if not (is_elsewhere and name in _LOCAL)]
    return [f"--{name}={FOLDERS[name]}" for name in given]


ALERTS = REPORTS / DATASET / "alerts"


def job_environment() -> dict[str, str]:
    """What a job's process sees: this environment without Airflow's database and signing key."""
    withheld = ("AIRFLOW", "_AIRFLOW")
    return {name: value for name, value in os.environ.items() if not name.startswith(withheld)}


_SHARED = (
    "RANKING_PUSH",
    "RANKING_SCHEMAS",
    "MLFLOW_TRACKING_URI",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ALLOW_HTTP",
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


def landed_file(day: str) -> UPath:
    """The file or folder that exists under this name when a day has landed; or the table."""
    if LOG.source["format"] in {"delta", "iceberg"}:
        given = LOG.source["path"]
        return place(given) if given else LANDING / DATASET / "impressions"
    return LANDING / DATASET / "impressions" / f"{day}.{LOG.suffix}"


def _asset(name: str, path: Path | UPath) -> Asset:
    return Asset(name=f"{DATASET}/{name}", uri=path.as_uri(), group="ranking")


LANDED_IMPRESSIONS = _asset("landed-impressions", LANDING / DATASET / "impressions")
IMPRESSIONS = _asset("impressions", LAKE / DATASET / "impressions")
FEATURES = _asset("features", LAKE / DATASET / "features")
ONLINE_FEATURES = _asset("online-features", STORE / DATASET / "online.db")
EXAMPLES = _asset("examples", LAKE / DATASET / "examples")
CHECKPOINT = _asset("checkpoint", CHECKPOINTS / DATASET)
ARTIFACT = _asset("artifact", ARTIFACTS / DATASET)
DECISION = _asset("gate-decision", REPORTS / DATASET / "gate")
CHAMPION = _asset("champion", TRACKING / DATASET / "champion")
