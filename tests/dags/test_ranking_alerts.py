"""What becomes of a failed task, or of a finished job that raises an alert."""

import asyncio
import datetime
import errno
import json
import pathlib

import pytest
import ranking_alerts
from airflow.sdk.exceptions import AirflowException
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.callback import CallbackTrigger
from support.airflow_dags import TaskInstance, dag_of, data_set

from infra.objectives.objectives import FILE, Limit, parse, seconds_of


def test_a_job_may_name_the_page_for_what_it_found(job_task, assets) -> None:
    """The alert of the same task names another page where the cause is another."""
    words = "{'error': 'day 1998-04-20 is missing', 'runbook': 'day-missing'}"
    _, execute = job_task(
        f"print(json.dumps({words})); print('error: x', file=sys.stderr); sys.exit(1)"
    )
    with pytest.raises(AirflowException) as raised:
        execute()
    ranking_alerts.alert({"ti": TaskInstance(), "exception": raised.value}, data_set=data_set())
    (page,) = data_set().alerts.glob("*.json")
    assert json.loads(page.read_text())["runbook"] == "infra/runbooks/day-missing.md"


def test_an_alert_is_a_line_and_a_file(assets, caplog) -> None:
    """What failed, on which try, with whose words, and the page to open."""
    ranking_alerts.alert(
        {"ti": TaskInstance(task_id="train"), "exception": ValueError("loss: nan")},
        data_set=data_set(),
    )
    (page,) = data_set().alerts.glob("*.json")
    notice = json.loads(page.read_text())
    assert page.name == "backfill__1998-04-21-train.json"
    assert (notice["runbook"], notice["error"]) == ("infra/runbooks/train-failed.md", "loss: nan")
    assert json.loads(caplog.messages[0].removeprefix("ALERT ")) == notice


def test_a_job_that_is_done_may_raise_alerts(job_task, assets, caplog) -> None:
    """Its summary names the page to open; the task is green, and downstream goes on."""
    raised = {"alert": "recalibrate", "runbook": "infra/runbooks/recalibrate.md", "what": "0.89"}
    summary = {"decision": "promote", "alerts": [raised]}
    _, execute = job_task(f"print(json.dumps({summary}))")
    assert execute() == summary
    (page,) = data_set().alerts.glob("*.json")
    assert page.name == "backfill__1998-04-21-ingest-recalibrate.json"
    notice = json.loads(page.read_text())
    assert {name: notice[name] for name in raised} == raised
    (line,) = [text for text in caplog.messages if text.startswith("ALERT ")]
    assert json.loads(line.removeprefix("ALERT ")) == notice


def test_a_job_without_alerts_raises_none(job_task, assets) -> None:
    _, execute = job_task("print(json.dumps({'alerts': []}))")
    execute()
    assert not data_set().alerts.exists()


def test_a_job_may_name_the_page_of_its_alert(job_task, assets) -> None:
    """A training that diverged is no ordinary failure of the task."""
    _, execute = job_task(
        """print('{"error": "step 7: loss nan", "runbook": "training-diverged"}'); sys.exit(1)"""
    )
    with pytest.raises(AirflowException) as failed:
        execute()
    ranking_alerts.alert(
        {"ti": TaskInstance(task_id="train"), "exception": failed.value}, data_set=data_set()
    )
    (page,) = data_set().alerts.glob("*.json")
    assert json.loads(page.read_text())["runbook"] == "infra/runbooks/training-diverged.md"


def test_a_daily_run_has_the_deadlines_of_the_objectives_and_a_log_that_has_ended_has_none() -> (
    None
):
    """When Prometheus' alerts fire, too; a log that has ended has none."""
    expected = {
        one.name: (datetime.timedelta(seconds=seconds_of(one.at_most)), one.runbook)
        for one in parse(FILE.read_text()).all()
        if isinstance(one, Limit) and one.deadline
    }
    assert expected.keys() == {"lake-old"}
    found = DagSerialization.serialize_dag(dag_of("daily_ranking.py", "synthetic"))["deadline"]
    assert {
        one["name"]: (
            datetime.timedelta(seconds=one["interval"]["__data__"]),
            one["callback"]["__data__"]["kwargs"]["runbook"],
        )
        for one in found
    } == expected
    assert {one["reference"]["reference_type"] for one in found} == {"DagRunLogicalDateDeadline"}
    assert dag_of("daily_ranking.py", "movielens-100k").deadline == []


def test_an_alert_that_finds_no_room_is_in_the_log_and_leaves_no_half_file(
    assets, monkeypatch, caplog
) -> None:
    """The disk may be what it is about."""

    def full(self, text, **_) -> None:
        with self.open("w") as file:
            file.write(text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    ranking_alerts.alert({"ti": TaskInstance(), "exception": ValueError("x")}, data_set=data_set())
    assert '"alert": "day-not-landed"' in caplog.text
    assert "No space left on device" in caplog.text
    assert list(data_set().alerts.iterdir()) == []


def test_runs_that_a_call_starts_have_neither_a_schedule_nor_a_deadline(
    assets, monkeypatch
) -> None:
    """Such a run need not have a logical date."""
    import ranking_dags

    assert ranking_dags.daily_start(data_set("synthetic"))["deadline"]
    monkeypatch.setattr(assets, "DAILY_START", "api")
    assert ranking_dags.daily_start(data_set("synthetic")) == {"schedule": None}


def test_without_the_objectives_there_are_no_deadlines(assets, monkeypatch, tmp_path) -> None:
    """The DAG files alone may be on the DAG path of another Airflow."""
    monkeypatch.setattr(assets, "OBJECTIVES", tmp_path / "slo.yaml")
    assert ranking_alerts.deadlines(data_set("synthetic")) == []


def test_a_missed_deadline_is_an_alert_with_its_runbook(assets, monkeypatch, caplog) -> None:
    """By Airflow's own trigger, which finds the callback by its path."""
    monkeypatch.setattr(assets, "DATA_SETS", [data_set("movielens-100k"), data_set("synthetic")])
    (deadline,) = ranking_alerts.deadlines(data_set("synthetic"))
    # As ``airflow.models.deadline`` has it.
    run = {"dag_id": "daily_ranking_synthetic", "dag_run_id": "scheduled__2026-01-05"}
    kwargs = {**deadline.callback.kwargs, "context": {"dag_run": run}}

    async def states() -> list[str]:
        trigger = CallbackTrigger(deadline.callback.path, kwargs)
        return [event.payload["state"] async for event in trigger.run()]

    assert asyncio.run(states()) == ["running", "success"]
    (page,) = data_set("synthetic").alerts.glob("*.json")
    assert page.name == "scheduled__2026-01-05-lake-old.json"
    notice = json.loads(page.read_text())
    assert notice["runbook"] == "infra/runbooks/data-old.md"
    assert (notice["run"], notice["alert"]) == ("scheduled__2026-01-05", "lake-old")
    assert "not green 36h after its interval" in notice["what"]
    assert any("ALERT" in text for text in caplog.messages)
