"""A task that runs has events of Airflow's provider, and its job knows whose child it is."""

import datetime
import json
import uuid
from pathlib import Path

import pytest
import ranking_jobs
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import DagRun, DagRunState, DagRunType, TIRunContext
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from ranking_launchers import parent_run
from support.airflow_dags import TaskInstance, data_set
from support.features import lineage

from infra.local.settings import Settings, airflow_environment

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime.datetime(1998, 4, 22, tzinfo=datetime.UTC)
PROGRAM = """
import sys
from features.cli import CommandLine
from features.requests import ExamplesRequest

def examples(request: ExamplesRequest):
    return {"rows": 1}

commands = {"examples": examples}
sys.exit(CommandLine("features", description="", epilog="", commands=commands).main())
"""


@pytest.fixture
def task(assets, register, tmp_path, monkeypatch):
    """A task of a small job, under the settings of the local stack."""
    monkeypatch.delenv("OPENLINEAGE_DISABLED")
    monkeypatch.setenv("RANKING_ROOT", str(tmp_path))
    for name, value in airflow_environment(Settings(var=tmp_path)).items():
        if name.startswith("AIRFLOW__OPENLINEAGE__"):
            monkeypatch.setenv(name, value)
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__main__.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")
    with DAG("daily_ranking_synthetic", schedule=None):
        return ranking_jobs.JobOperator(
            task_id="examples",
            data_set=data_set("synthetic"),
            package="program",
            size="small",
            command="examples",
            arguments=["--dataset=synthetic", "--date=1998-04-21"],
            link="Reports",
            outlets=[data_set("synthetic").asset("examples")],
        )


def instance_of(task):
    """The task's instance as its process has it, without a supervisor."""
    run = DagRun(
        dag_id=task.dag_id,
        run_id="by_hand",
        logical_date=NOW,
        data_interval_start=NOW,
        data_interval_end=NOW,
        run_after=NOW,
        start_date=NOW,
        end_date=None,
        run_type=DagRunType.MANUAL,
        state=DagRunState.RUNNING,
        consumed_asset_events=[],
        partition_key=None,
    )
    return RuntimeTaskInstance.model_construct(
        id=uuid.uuid4(),
        task_id=task.task_id,
        dag_id=task.dag_id,
        run_id=run.run_id,
        try_number=2,
        map_index=-1,
        dag_version_id=uuid.uuid4(),
        task=task,
        start_date=NOW,
        max_tries=1,
        _ti_context_from_server=TIRunContext(dag_run=run, max_tries=1),
    )


def events_of_airflow(folder):
    found = [json.loads(file.read_text()) for file in folder.glob("lineage/airflow/event-*.json")]
    return sorted(found, key=lambda event: event["eventType"] != "START")


@pytest.mark.process
def test_the_run_of_a_task_is_the_parent_of_its_jobs_run(task, tmp_path) -> None:
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter
    from airflow.providers.openlineage.plugins.listener import OpenLineageListener

    ti, listener = instance_of(task), OpenLineageListener()
    listener.on_task_instance_running(previous_state=None, task_instance=ti)
    assert task.execute.__wrapped__(task, ti.get_template_context())["rows"] == 1
    listener.on_task_instance_success(previous_state=None, task_instance=ti)
    start, complete = events_of_airflow(tmp_path)
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert start["job"]["namespace"] == "ranking"
    of_job = [one for one in lineage.kept(tmp_path) if one["job"]["name"].startswith("synthetic.")]
    assert [one["eventType"] for one in of_job] == ["START", "COMPLETE"]
    dag_run = OpenLineageAdapter.build_dag_run_id(
        dag_id=task.dag_id, logical_date=NOW, clear_number=0
    )
    for event in of_job:
        parent = lineage.checked(event)["run"]["facets"]["parent"]
        assert parent["run"]["runId"] == start["run"]["runId"]
        assert parent["job"]["name"] == start["job"]["name"] == "daily_ranking_synthetic.examples"
        assert parent["root"]["run"]["runId"] == dag_run


def test_a_job_has_no_parents_where_nobody_wants_events(monkeypatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    assert parent_run.variables(TaskInstance()) == {}


def test_with_a_receiver_airflow_goes_by_openlineages_own_variables(tmp_path, monkeypatch) -> None:
    """A key of it is in no setting of Airflow, which the UI may show."""
    monkeypatch.setenv("OPENLINEAGE_URL", "http://receiver:5000")
    environment = airflow_environment(Settings(var=tmp_path))
    assert "AIRFLOW__OPENLINEAGE__TRANSPORT" not in environment
    assert environment["OPENLINEAGE_URL"] == "http://receiver:5000"
