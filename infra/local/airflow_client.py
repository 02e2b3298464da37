"""Airflow's own scheduler, driven over its public API: run the days of a DAG, and watch."""

import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from urllib.error import HTTPError
from urllib.parse import quote

from infra.local.network import JsonObject, call

ENDED = {"success", "failed"}
POLL_SECONDS = 1.0
Task = JsonObject
"""One task of one day: ``day``, ``task``, ``state``, ``seconds``, ``start``, ``end``, ``run``."""


def dag_of(kind: str, dataset: str) -> str:
    """The name of a data set's DAG of a kind, as ``dags/ranking_assets.py`` gives it."""
    return f"{kind}_{dataset.replace('-', '_')}"


def make_pool(url: str, name: str, *, slots: int) -> None:
    """A pool of this name with so many slots; one that is there gets them.

    Args:
        url: The address of Airflow's UI.
        name: Of the pool.
        slots: How many tasks of it run at once.
    """
    pools = f"{url}/api/v2/pools"
    try:
        call(pools, method="POST", body={"name": name, "slots": slots})
    except HTTPError as error:
        if error.code != HTTPStatus.CONFLICT:
            raise
        pool = f"{pools}/{quote(name, safe='')}?update_mask=slots"
        call(pool, method="PATCH", body={"slots": slots})


class Scheduler:
    """A DAG on a running Airflow."""

    def __init__(self, url: str, dag_id: str) -> None:
        """Args: the address of Airflow's UI, and the DAG."""
        self.api = f"{url}/api/v2"
        self.dag_id = dag_id

    def wait_for_dag(self, *, seconds: float = 60) -> None:
        """Return when the DAG has been parsed; RuntimeError with the import errors otherwise."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                call(f"{self.api}/dags/{self.dag_id}")
            except OSError as error:
                if time.monotonic() > deadline:
                    found = call(f"{self.api}/importErrors")
                    raise RuntimeError(f"DAG {self.dag_id}: not parsed; {found}") from error
                time.sleep(0.5)
            else:
                return

    def unpause(self) -> None:
        """Have the scheduler run the days of its schedule, one after the other."""
        call(f"{self.api}/dags/{self.dag_id}", method="PATCH", body={"is_paused": False})

    def watch(
        self, days: Sequence[datetime.date], *, on_poll: Callable[[list[Task]], None]
    ) -> list[Task]:
        """Poll until the runs of these days have ended; returns their tasks with their results."""
        while True:
            runs = [run for run in self._runs() if run["logical_date"][:10] in map(str, days)]
            tasks = [task for run in runs for task in self._tasks(run)]
            on_poll(tasks)
            if len(runs) == len(days) and all(run["state"] in ENDED for run in runs):
                return [{**task, "result": self._result(task)} for task in tasks]
            time.sleep(POLL_SECONDS)

    def _runs(self) -> list[JsonObject]:
        found = call(f"{self.api}/dags/{self.dag_id}/dagRuns?order_by=logical_date&limit=100")
        return list(found["dag_runs"])

    def _tasks(self, run: JsonObject) -> Iterator[Task]:
        found = call(f"{self._run_url(run['dag_run_id'])}/taskInstances?limit=100")
        for entry in sorted(found["task_instances"], key=lambda task: task["start_date"] or "z"):
            yield {
                "day": run["logical_date"][:10],
                "run": run["dag_run_id"],
                "task": entry["task_id"],
                "state": entry["state"],
                "seconds": round(entry["duration"] or 0, 1),
                "start": entry["start_date"],
                "end": entry["end_date"],
                "tries": entry["try_number"],
            }

    def _result(self, task: Task) -> JsonObject:
        url = f"{self._run_url(task['run'])}/taskInstances/{task['task']}/xcomEntries/return_value"
        try:
            value = call(f"{url}?deserialize=true")["value"]
        except OSError:
            return {}  # it failed, or was skipped, before it had a result
        return value if isinstance(value, dict) else {}

    def _run_url(self, run: str) -> str:
        return f"{self.api}/dags/{self.dag_id}/dagRuns/{quote(run, safe='')}"
