"""What becomes of a failed task, or of a finished job that raises an alert."""

import json

import pytest
import ranking_alerts
from airflow.sdk.exceptions import AirflowException
from support.airflow_dags import TaskInstance, data_set


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
