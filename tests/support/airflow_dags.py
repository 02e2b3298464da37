"""The DAG files, and a task instance for operators that run outside Airflow."""

from pathlib import Path
from types import SimpleNamespace

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.comms import ErrorResponse


class TaskInstance(SimpleNamespace):
    """The few things that the operator asks of a task instance."""

    dag_id = "daily_ranking"
    run_id = "backfill__1998-04-21"
    task_id = "ingest"
    try_number = 3
    states: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed
    previous: dict[str, SimpleNamespace] = {}  # noqa: RUF012
    first_asked = None

    def xcom_push(self, *, key, value) -> None:
        self.pushed = {key: value}

    def get_dagrun_state(self, *, dag_id, run_id):
        state = self.states[run_id]
        if isinstance(state, int):
            problem = {"status_code": state}
            raise AirflowRuntimeError(ErrorResponse(error="API_SERVER_ERROR", detail=problem))
        return state

    def get_previous_dagrun(self, *, state):
        return self.previous.get(state)

    def get_first_reschedule_date(self, _context):
        return self.first_asked


DAGS = Path(__file__).resolve().parents[2] / "dags"
DAG_FILES = ("daily_ranking.py", "data_set_lease.py", "scaling_study.py", "upscale_dense.py")


def dag_of(name: str):
    """The DAG that a file makes."""
    module = __import__(name.removesuffix(".py"))
    return module.dag
