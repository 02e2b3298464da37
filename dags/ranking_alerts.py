"""What happens when a task has failed for good: one alert, in the log and among the reports."""

import json
import logging

import ranking_assets as assets
from airflow.sdk import Context

RUNBOOKS = {
    "landed": "day-not-landed",
    "ingest": "day-not-landed",
    "validate_impressions": "critical-validation",
    "validate_features": "critical-validation",
    "train": "train-failed",
    "train_grown": "train-failed",
    "train_control": "train-failed",
    "evaluate": "gate-refused-or-hold",
    "canary": "canary-failed",
    "promote": "promote-failed",
}
"""Page of infra/runbooks for a task's alert where its job names none; else ``job-failed``."""

log = logging.getLogger(__name__)


def alert(context: Context) -> None:
    """Failure callback: one structured line in the log, and the same as a file for the reports."""
    ti, error = context["ti"], context.get("exception")
    page_name = getattr(error, "runbook", "") or RUNBOOKS.get(ti.task_id, "job-failed")
    notice = {
        "alert": page_name,
        "runbook": f"infra/runbooks/{page_name}.md",
        "dataset": assets.DATASET,
        "dag": ti.dag_id,
        "run": ti.run_id,
        "task": ti.task_id,
        "try": ti.try_number,
        "error": str(error or "the task's process ended without a word"),
    }
    log.error("ALERT %s", json.dumps(notice))
    assets.ALERTS.mkdir(parents=True, exist_ok=True)
    page = assets.ALERTS / f"{ti.run_id}-{ti.task_id}.json"
    page.write_text(json.dumps(notice, indent=1) + "\n", encoding="utf-8")
