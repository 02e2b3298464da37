"""The hourly look at what was served: of which hour, and without a lease."""

import datetime
import runpy
from types import SimpleNamespace

import pytest
from support.airflow_dags import DAGS, dag_of

QUARTER_PAST_NINE = datetime.datetime(2025, 6, 15, 9, 15, tzinfo=datetime.UTC)


def of_task(task_id, *, start, **params):
    """The flags of a task after those of its data set and folders, as Airflow renders them."""
    dag = dag_of("monitor_ranking.py", "synthetic")
    task = dag.get_task(task_id)
    run = SimpleNamespace(run_id="r", data_interval_start=start)
    context = {"params": {**dag.params.dump(), **params}, "dag_run": run}
    arguments = task.render_template(task.arguments, context, dag.get_template_env())
    return [one for one in arguments if one.startswith(("--date", "--hour", "--due"))]


@pytest.mark.parametrize(
    ("start", "params", "expected"),
    [
        (QUARTER_PAST_NINE, {}, ["--date=2025-06-15", "--hour=9"]),
        (None, {"day": "2025-06-14", "hour": 0}, ["--date=2025-06-14", "--hour=0"]),
        (None, {"day": "2025-06-14"}, ["--date=2025-06-14"]),
        (QUARTER_PAST_NINE, {"day": "2025-06-14"}, ["--date=2025-06-14"]),
    ],
)
def test_a_run_compares_the_hour_of_its_interval_or_what_a_person_names(start, params, expected):
    assert of_task("parity_hour", start=start, **params) == expected


def test_each_run_looks_for_a_day_that_is_due():
    assert of_task("parity_day", start=QUARTER_PAST_NINE) == ["--date=2025-06-15", "--due"]


def test_nobody_waits_for_the_monitor_and_it_waits_for_nobody():
    dag = dag_of("monitor_ranking.py", "synthetic")
    assert not any(task.takes_lease or task.upstream_task_ids for task in dag.tasks)
    assert all(task.takes_lease for task in dag_of("scaling_study.py").tasks)


def test_a_job_that_takes_no_lease_gets_no_number(job_task, register):
    _, execute = job_task(
        "print(json.dumps({'lease': os.environ['RANKING_LEASE']}))", takes_lease=False
    )
    assert execute() == {"lease": "0"}
    assert register == []


def test_it_exists_where_the_endpoint_has_a_log(monkeypatch):
    import ranking_assets

    path = str(DAGS / "monitor_ranking.py")
    assert runpy.run_path(path)["dags"] == []
    monkeypatch.setattr(ranking_assets, "LOG", "s3://bucket/answers")
    (dag,) = runpy.run_path(path)["dags"]
    assert dag.dag_id == "monitor_ranking_movielens_100k"
    assert "--log=s3://bucket/answers" in dag.get_task("parity_hour").arguments
