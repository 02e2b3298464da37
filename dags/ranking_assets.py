"""Every path, asset and setting of the DAGs by name: the only place where a path is built.

Settings come from the environment, so that one set of DAG files serves a laptop and a cluster:

    RANKING_VAR         folder of all local state; default ``var`` next to ``dags``
    RANKING_DATASET     data set that the DAGs work on; default ``movielens-100k``
    RANKING_ENDPOINT    REST address of the ranking endpoint, which must answer; default
                        http://127.0.0.1:8081, if one answers there; ``none``: there is none
    RANKING_SERVICE     InferenceService on a cluster, instead of that endpoint; with
                        RANKING_NAMESPACE (`default`) and RANKING_STORAGE_URI, in which
                        ``{version}`` stands for the version, such as s3://models/{version}
    RANKING_MIN_REQUESTS    of each version at each step of a canary; default 2000
    RANKING_PYTHON      interpreter that runs the jobs; default Airflow's own
    RANKING_POOL        Airflow pool of the jobs; default ``default_pool``
    RANKING_FIRST_DAY   first day that the DAG works on, and so of the schedule, which catches up
                        from it: the day after those that were bootstrapped; default the log's first
    RANKING_LAST_DAY    last one; default the log's
    RANKING_LANDING_TIMEOUT_SECONDS, RANKING_LANDING_POLL_SECONDS   waiting for a day to land
    RANKING_LEASE_TIMEOUT_SECONDS, RANKING_LEASE_POLL_SECONDS       waiting for another run
    RANKING_ANCHOR_DAYS     age of the champion with which the gate compares, too; default 28
    RANKING_KEEP_DAYS, RANKING_KEEP_VERSIONS                        retention

The facts about a log repeat four values of its schema and reader, because a DAG file imports no
package of ours; a test compares them.
"""

import dataclasses
import datetime
import os
import sys
from pathlib import Path

from airflow.sdk import Asset

REPORTS_URL = "/ranking/reports"
"""Where the reports plugin serves REPORTS in the Airflow UI."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log:
    """The facts about a data set's log that a schedule needs."""

    first_day: datetime.date
    last_day: datetime.date | None
    """Last day of a finished log; None where the log goes on."""
    holdout_days: int
    """Newest days that a candidate does not train on, so that it can be judged on them."""
    suffix: str
    """How the name of a landed day ends."""


LOGS = {
    "movielens-100k": Log(
        first_day=datetime.date(1997, 9, 20),
        last_day=datetime.date(1998, 4, 22),
        holdout_days=7,
        suffix="tsv",
    ),
    "open-bandit": Log(
        first_day=datetime.date(2019, 11, 24),
        last_day=datetime.date(2019, 11, 30),
        holdout_days=1,
        suffix="tsv",
    ),
    "synthetic": Log(
        first_day=datetime.date(2025, 1, 1), last_day=None, holdout_days=1, suffix="parquet"
    ),
    "synthetic-fields": Log(
        first_day=datetime.date(2025, 1, 1), last_day=None, holdout_days=1, suffix="parquet"
    ),
}


def log_of(dataset: str) -> Log:
    """The facts about a data set's log; ValueError with the names that exist."""
    if dataset not in LOGS:
        raise ValueError(f"RANKING_DATASET {dataset!r}: unknown; the data sets are {sorted(LOGS)}")
    return LOGS[dataset]


def _day(name: str, default: datetime.date | None) -> datetime.date | None:
    text = os.environ.get(name, "")
    return datetime.date.fromisoformat(text) if text else default


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name) or default)


def midnight(day: datetime.date) -> datetime.datetime:
    """The first moment of a day, UTC."""
    return datetime.datetime.combine(day, datetime.time(), tzinfo=datetime.UTC)


DATASET = os.environ.get("RANKING_DATASET") or "movielens-100k"
LOG = log_of(DATASET)
FIRST_DAY = _day("RANKING_FIRST_DAY", LOG.first_day) or LOG.first_day
LAST_DAY = _day("RANKING_LAST_DAY", LOG.last_day)
PYTHON = os.environ.get("RANKING_PYTHON") or sys.executable
ENDPOINT = os.environ.get("RANKING_ENDPOINT") or ""
SERVICE = os.environ.get("RANKING_SERVICE") or ""
NAMESPACE = os.environ.get("RANKING_NAMESPACE") or "default"
TARGET = (
    (f"--service={SERVICE}", f"--namespace={NAMESPACE}")
    if SERVICE
    else ((f"--endpoint={ENDPOINT}",) if ENDPOINT else ())
)
"""Where models serve, for the jobs that change them."""
STORAGE = f"--storage-uri={os.environ.get('RANKING_STORAGE_URI') or ''}" if SERVICE else ""
POOL = os.environ.get("RANKING_POOL") or "default_pool"
MIN_REQUESTS = _number("RANKING_MIN_REQUESTS", 2_000)
ANCHOR_DAYS = _number("RANKING_ANCHOR_DAYS", 28)
KEEP_DAYS = _number("RANKING_KEEP_DAYS", 400)
KEEP_VERSIONS = _number("RANKING_KEEP_VERSIONS", 14)
LANDING_TIMEOUT_SECONDS = _number("RANKING_LANDING_TIMEOUT_SECONDS", 6 * 3600)
LANDING_POLL_SECONDS = _number("RANKING_LANDING_POLL_SECONDS", 60)
LEASE_TIMEOUT_SECONDS = _number("RANKING_LEASE_TIMEOUT_SECONDS", 12 * 3600)
LEASE_POLL_SECONDS = _number("RANKING_LEASE_POLL_SECONDS", 10)

REPOSITORY = Path(__file__).resolve().parent.parent
VAR = Path(os.environ.get("RANKING_VAR") or REPOSITORY / "var").resolve()
LANDING = VAR / "landing"
LAKE = VAR / "lake"
STORE = VAR / "feast"
CHECKPOINTS = VAR / "checkpoints"
ARTIFACTS = VAR / "artifacts"
TRACKING = VAR / "mlflow"
REPORTS = VAR / "reports"
STUDY = VAR / "scaling"
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
"""The folder behind each flag of the jobs that names one."""
ALERTS = REPORTS / DATASET / "alerts"
LEASES = VAR / "airflow" / "leases"


def job_environment() -> dict[str, str]:
    """What a job's process sees: this environment without Airflow's database and signing key."""
    withheld = ("AIRFLOW", "_AIRFLOW")
    return {name: value for name, value in os.environ.items() if not name.startswith(withheld)}


def landed_file(day: str) -> Path:
    """The file or folder that exists under this name when a day has landed."""
    return LANDING / DATASET / "impressions" / f"{day}.{LOG.suffix}"


def lease_file(dataset: str) -> Path:
    """The file that names the run which may write a data set."""
    return LEASES / f"{dataset}.json"


def _asset(name: str, path: Path) -> Asset:
    return Asset(name=f"{DATASET}/{name}", uri=path.as_uri(), group="ranking")


LANDED_IMPRESSIONS = _asset("landed-impressions", LANDING / DATASET / "impressions")
IMPRESSIONS = _asset("impressions", LAKE / DATASET / "impressions")
FEATURES = _asset("features", LAKE / DATASET / "features")
CHECKED_FEATURES = _asset("checked-features", REPORTS / DATASET / "features")
ONLINE_FEATURES = _asset("online-features", STORE / DATASET / "online.db")
EXAMPLES = _asset("examples", LAKE / DATASET / "examples")
CHECKPOINT = _asset("checkpoint", CHECKPOINTS / DATASET)
ARTIFACT = _asset("artifact", ARTIFACTS / DATASET)
DECISION = _asset("gate-decision", REPORTS / DATASET / "gate")
CHAMPION = _asset("champion", TRACKING / DATASET / "champion")
