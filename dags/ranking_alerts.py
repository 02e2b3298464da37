"""Alerts, in the log and among the reports: of a task that failed for good, or raised by a job.

A job that succeeds raises an alert by naming it under ``alerts`` in its summary. A run that is not
done when its tables have grown too old raises one by a deadline.
"""

import asyncio
import datetime
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

import ranking_assets as assets
import yaml
from airflow.sdk import Context
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from ranking_assets import DataSet
from upath import UPath

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
    _write_alert(data_set, page, name=name, facts={**_task(context), "error": error})


def raised(context: Context, data_set: DataSet, summary: Mapping[str, object]) -> None:
    """The alerts of a job that is done."""
    ti = context["ti"]
    alerts = summary.get("alerts")
    for one in alerts if isinstance(alerts, list) else ():
        name = str(one["alert"])
        page = f"{ti.run_id}-{ti.task_id}-{name}"
        facts = {**_task(context), "what": str(one["what"])}
        _write_alert(data_set, page, name=name, facts=facts)


class _Objective(TypedDict):
    """What is read of an objective in ``infra/slo.yaml``."""

    name: str
    words: str
    runbook: str
    at_most: str


def deadlines(data_set: DataSet) -> list[DeadlineAlert]:
    """The ages that end a daily run's time: so long after the begin of its interval.

    What is newest when a run begins ended then: its data are as old as the run is late. The days of
    a log that has ended are all long past, and have no deadline.
    """
    if data_set.last_day is not None:
        return []
    return [
        DeadlineAlert(
            name=one["name"],
            reference=DeadlineReference.DAGRUN_LOGICAL_DATE,
            interval=_duration(one["at_most"]),
            callback=AsyncCallback(
                deadline_missed,
                kwargs={
                    "dataset": data_set.name,
                    "objective": one["name"],
                    "runbook": one["runbook"],
                    "age": one["at_most"],
                },
            ),
        )
        for one in _objectives_with_deadlines()
    ]


async def deadline_missed(
    *, dataset: str, objective: str, runbook: str, age: str, context: Mapping[str, object]
) -> None:
    """Callback of a deadline, in the triggerer: the alert of an objective.

    Args:
        dataset: Name of the data set.
        objective: Name of the objective, and of the alert.
        runbook: The page to open.
        age: How old the data may be: so long after the begin of its interval the run is late.
        context: The run, as Airflow gives it to such a callback.
    """
    (data_set,) = (one for one in assets.DATA_SETS if one.name == dataset)
    run = context["dag_run"]
    assert isinstance(run, Mapping)
    what = f"the run is not green {age} after its interval began"
    facts = {"dag": str(run["dag_id"]), "run": str(run["dag_run_id"]), "what": what}
    page = f"{facts['run']}-{objective}"
    # Other triggers wait on the same loop.
    await asyncio.to_thread(
        _write_alert, data_set, page, name=objective, runbook=runbook, facts=facts
    )


def _objectives_with_deadlines() -> Iterator[_Objective]:
    """Those of ``infra/slo.yaml``; none where only the DAG files were installed."""
    if not assets.OBJECTIVES.exists():
        return
    table = yaml.safe_load(assets.OBJECTIVES.read_text(encoding="utf-8"))
    for group in table["groups"]:
        yield from (one for one in group["objectives"] if one.get("deadline"))


def _duration(text: str) -> datetime.timedelta:
    """The duration that a text such as ``36h`` says, as ``infra.objectives`` has checked it."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    return datetime.timedelta(**{units[text[-1]]: int(text[:-1])})


def _task(context: Context) -> dict[str, object]:
    """The task, its run, and which try it was."""
    ti = context["ti"]
    return {"dag": ti.dag_id, "run": ti.run_id, "task": ti.task_id, "try": ti.try_number}


def _write_alert(
    data_set: DataSet, page: str, *, name: str, facts: Mapping[str, object], runbook: str = ""
) -> None:
    """One structured line in the log, and the same as a file for the reports."""
    notice = {
        "alert": name,
        "runbook": f"infra/runbooks/{runbook or name}.md",
        "dataset": data_set.name,
        **facts,
    }
    log.error("ALERT %s", json.dumps(notice))
    try:
        _put(data_set.alerts / f"{page}.json", json.dumps(notice, indent=1) + "\n")
    except OSError as error:  # such as a disk that is full, of which this alert may be
        log.warning("the alert is in this log alone; %s.json: %s", page, error)


def _put(file: UPath, text: str) -> None:
    """Write a file whole or not at all: pages are made of all that are there."""
    if not isinstance(file, Path):
        file.write_text(text, encoding="utf-8")
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
