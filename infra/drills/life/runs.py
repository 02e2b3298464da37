"""Runs of a data set's DAGs, over Airflow's public API and by the logs of their tasks."""

import contextlib
import dataclasses
import datetime
import json
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from infra.local.airflow_client import ENDED, Scheduler
from infra.local.network import JsonObject, call
from infra.local.settings import Settings

POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a DAG."""

    dag_id: str
    run_id: str


@dataclasses.dataclass(frozen=True)
class Alert:
    """An alert that a task raised."""

    name: str
    runbook: str
    task: str
    error: str


class Runs:
    """Starts, watches and clears runs."""

    def __init__(self, settings: Settings) -> None:
        """Args: of the running stack."""
        self._api = f"{settings.airflow_url}/api/v2"
        self._url = settings.airflow_url
        self._logs = settings.home / "logs"

    def open(self, dag_id: str) -> None:
        """Wait until the DAG has been parsed, and let its runs work."""
        scheduler = Scheduler(self._url, dag_id)
        scheduler.wait_for_dag()
        scheduler.unpause()

    def start(self, dag_id: str, day: datetime.date, **params: object) -> Run:
        """Start the run of a day, with its data interval, as what lands the log would."""
        midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
        interval = {
            "logical_date": midnight.isoformat(),
            "data_interval_start": midnight.isoformat(),
            "data_interval_end": (midnight + datetime.timedelta(days=1)).isoformat(),
        }
        return self._start(dag_id, f"day__{day}", {**interval, "conf": params})

    def start_by_hand(self, dag_id: str, day: datetime.date, *, name: str, **params: object) -> Run:
        """Start one more run for a day, as a person does."""
        conf = {"day": str(day), **params}
        return self._start(dag_id, f"{name}__{day}", {"logical_date": None, "conf": conf})

    def _start(self, dag_id: str, run_id: str, body: JsonObject) -> Run:
        asked = {**body, "dag_run_id": run_id}
        made = call(f"{self._api}/dags/{dag_id}/dagRuns", method="POST", body=asked)
        return Run(dag_id, made["dag_run_id"])

    def state(self, run: Run) -> str:
        """Of the run: ``queued``, ``running``, ``success`` or ``failed``."""
        return str(call(self._run_url(run))["state"])

    def wait(self, run: Run, *, seconds: float = 900) -> str:
        """The state in which a run ends; RuntimeError where it does not in time."""
        deadline, state = time.monotonic() + seconds, "unknown"
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # Airflow is busy
                state = self.state(run)
            if state in ENDED:
                return state
            time.sleep(POLL_SECONDS)
        raise RuntimeError(f"run {run.run_id}: {state} after {seconds:.0f} s")

    def tasks(self, run: Run) -> dict[str, JsonObject]:
        """The tasks of a run, by name."""
        found = call(f"{self._run_url(run)}/taskInstances?limit=100")
        return {one["task_id"]: one for one in found["task_instances"]}

    def result(self, run: Run, task: str) -> JsonObject:
        """The summary that a task's job left; empty where there is none."""
        url = f"{self._run_url(run)}/taskInstances/{task}/xcomEntries/return_value"
        try:
            value = call(f"{url}?deserialize=true")["value"]
        except OSError:
            return {}
        return value if isinstance(value, dict) else {}

    def clear(self, run: Run, *, only_failed: bool = True) -> None:
        """Let what failed, or all, run once more."""
        body = {"dry_run": False, "dag_run_id": run.run_id, "only_failed": only_failed}
        call(f"{self._api}/dags/{run.dag_id}/clearTaskInstances", method="POST", body=body)

    def fail(self, run: Run) -> None:
        """Mark a run as failed, as a person does with one that nobody needs."""
        call(self._run_url(run), method="PATCH", body={"state": "failed"})

    def give_lease(self, register: str, holder: Run) -> None:
        """Enter a lease of a run as its own task would, after the newest one."""
        listed = f"{self._api}/dags/{register}/dagRuns?order_by=-logical_date&limit=1"
        newest = call(listed)["dag_runs"][0]["dag_run_id"]
        number = int(newest.rpartition("__")[2]) + 1
        moment = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
        moment += datetime.timedelta(seconds=number)
        body = {
            "dag_run_id": f"lease__{number}",
            "logical_date": moment.isoformat(),
            "conf": dataclasses.asdict(holder),
        }
        call(f"{self._api}/dags/{register}/dagRuns", method="POST", body=body)

    def is_healthy(self, part: str) -> bool:
        """What Airflow says of a part of itself."""
        health = call(f"{self._api}/monitor/health")
        return bool(health[part]["status"] == "healthy")

    def alerts(self, run: Run) -> list[Alert]:
        """What tasks of a run raised, by their logs: an alert's file may have found no room."""
        files = sorted(self.log_folder(run).rglob("*.log"))
        texts = (path.read_text(errors="replace") for path in files)
        found = (_alert(line) for text in texts for line in text.splitlines() if "ALERT {" in line)
        return list(dict.fromkeys(one for one in found if one is not None))

    def log_folder(self, run: Run) -> Path:
        """Where the logs of its tasks are."""
        return self._logs / f"dag_id={run.dag_id}" / f"run_id={run.run_id}"

    def _run_url(self, run: Run) -> str:
        return f"{self._api}/dags/{run.dag_id}/dagRuns/{quote(run.run_id, safe='')}"


def _alert(line: str) -> Alert | None:
    """The alert in a line of a task's log, which is a JSON object with the text as ``event``."""
    try:
        text = str(json.loads(line)["event"])
        notice: Mapping[str, object] = json.loads(text[text.index("{") :])
        return Alert(
            str(notice["alert"]),
            str(notice["runbook"]),
            str(notice.get("task", "")),
            str(notice.get("error", notice.get("what", ""))),
        )
    except (ValueError, KeyError, TypeError):
        return None
