"""Alerts, in the log and among the reports: of a task that failed for good, or raised by a job.

A job that succeeds raises an alert by naming it under ``alerts`` in its summary.
"""

import json
import logging
from collections.abc import Mapping

from airflow.sdk import Context
from ranking_assets import DataSet

RUNBOOKS = {
    "landed": "day-not-landed",
    "ingest": "day-not-landed",
    "validate_impressions": "critical-validation",
    "validate_features": "critical-validation",
    "train": "train-failed",
    "train_immature": "train-failed",
    "train_grown": "train-failed",
    "train_control": "train-failed",
    "evaluate": "gate-refused-or-hold",
    "canary": "canary-failed",
    "promote": "promote-failed",
}
"""Page of infra/runbooks for a task's alert; ``job-failed`` for the tasks not named.

A job that knows better names its page as ``runbook`` in its JSON; the task's exception has it then.
"""

log = logging.getLogger(__name__)


def alert(context: Context, *, data_set: DataSet) -> None:
    """Failure callback: the task's alert."""
    ti = context["ti"]
    of_job = getattr(context.get("exception"), "runbook", "")
    name = of_job or RUNBOOKS.get(ti.task_id, "job-failed")
    error = str(context.get("exception") or "the task's process exited without an error message")
    page = f"{ti.run_id}-{ti.task_id}"
    _write_alert(context, data_set, page, name=name, details={"error": error})


def raised(context: Context, data_set: DataSet, summary: Mapping[str, object]) -> None:
    """The alerts of a job that is done."""
    ti = context["ti"]
    alerts = summary.get("alerts")
    for one in alerts if isinstance(alerts, list) else ():
        name = str(one["alert"])
        page = f"{ti.run_id}-{ti.task_id}-{name}"
        _write_alert(context, data_set, page, name=name, details={"what": str(one["what"])})


def _write_alert(
    context: Context, data_set: DataSet, page: str, *, name: str, details: Mapping[str, str]
) -> None:
    """One structured line in the log, and the same as a file for the reports."""
    ti = context["ti"]
    notice = {
        "alert": name,
        "runbook": f"infra/runbooks/{name}.md",
        "dataset": data_set.name,
        "dag": ti.dag_id,
        "run": ti.run_id,
        "task": ti.task_id,
        "try": ti.try_number,
        **details,
    }
    log.error("ALERT %s", json.dumps(notice))
    data_set.alerts.mkdir(parents=True, exist_ok=True)  # in an object store it is there
    text = json.dumps(notice, indent=1) + "\n"
    (data_set.alerts / f"{page}.json").write_text(text, encoding="utf-8")
