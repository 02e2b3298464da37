"""The DAG files, and a task instance for operators that run outside Airflow."""

import datetime
import functools
from pathlib import Path
from types import SimpleNamespace

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.comms import ErrorResponse


class TaskInstance(SimpleNamespace):
    """The few things that the operator asks of a task instance."""

    dag_id = "daily_ranking_movielens_100k"
    run_id = "backfill__1998-04-21"
    task_id = "ingest"
    try_number = 3
    states: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed
    first_asked = None

    def xcom_push(self, *, key, value) -> None:
        self.pushed = {key: value}

    def get_dagrun_state(self, *, dag_id, run_id):
        state = self.states[run_id]
        if isinstance(state, int):
            problem = {"status_code": state}
            raise AirflowRuntimeError(ErrorResponse(error="API_SERVER_ERROR", detail=problem))
        return state

    def get_first_reschedule_date(self, _context):
        return self.first_asked


DAGS = Path(__file__).resolve().parents[2] / "dags"
DAG_FILES = (
    "backfill_ranking.py",
    "bootstrap_ranking.py",
    "daily_ranking.py",
    "data_set_lease.py",
    "monitor_ranking.py",
    "retrain_ranking.py",
    "scaling_study.py",
    "upscale_dense.py",
)
DATASETS = ("movielens-100k", "open-bandit", "synthetic")
"""One with users, one without, one whose log goes on."""


def data_set(name: str = "movielens-100k"):
    """What the DAGs of a data set know of it."""
    from ranking_assets import DataSet
    from ranking_settings.logs import log_of

    return DataSet(name, log_of(name, []))


@functools.cache
def dag_of(file: str, dataset: str = "movielens-100k"):
    """The DAG that a file makes for a data set."""
    kind = file.removesuffix(".py")
    return getattr(__import__(kind), kind)(data_set(dataset))


def run_of(day: str | None, **changed):
    """A run of the schedule for a day, or one by hand that names none."""
    start = day and datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00")
    events = [SimpleNamespace(partition_key=day)] if day else []
    fields = {"run_id": "r", "logical_date": start, "data_interval_start": start}
    fields["consumed_asset_events"] = events
    return SimpleNamespace(**{**fields, **changed})
