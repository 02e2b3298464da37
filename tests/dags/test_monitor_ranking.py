"""The hourly look at what was served: of which hour, and without a lease."""

import datetime
import runpy
from types import SimpleNamespace

import pytest
import ranking_assets
from airflow.sdk.exceptions import AirflowSkipException
from support.airflow_dags import DAGS, dag_of

QUARTER_PAST_NINE = datetime.datetime(2025, 6, 15, 9, 15, tzinfo=datetime.UTC)


@pytest.fixture(autouse=True)
def log(monkeypatch):
    """The endpoint has a log of answers."""
    monkeypatch.setattr(ranking_assets, "LOG", "s3://bucket/answers")


def monitor():
    """The DAG as it is with the log: what others of this process have made may be without."""
    return dag_of.__wrapped__("monitor_ranking.py", "synthetic")


def of_task(task_id, *, start, **params):
    """The flags of a task after those of its data set and folders, as Airflow renders them."""
    dag = monitor()
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


@pytest.mark.parametrize("task_id", ["parity_day", "quality", "drift", "policy"])
def test_each_run_looks_for_a_day_that_waits(task_id):
    assert of_task(task_id, start=QUARTER_PAST_NINE) == ["--date=2025-06-15", "--due"]


@pytest.mark.parametrize("task_id", ["quality", "drift", "policy", "overview"])
def test_a_day_that_a_person_names_is_looked_at_again(task_id):
    assert of_task(task_id, start=None, day="2025-06-14") == ["--date=2025-06-14"]


def test_no_task_takes_the_lease_and_what_follows_comes_after_all_that_was_found():
    dag = monitor()
    jobs = [task for task in dag.tasks if task.task_id != "ask_training"]
    assert not any(task.takes_lease for task in jobs)
    assert all(task.takes_lease for task in dag_of("scaling_study.py").tasks)
    found = {"parity_hour", "parity_day", "quality", "drift"}
    assert dag.get_task("policy").upstream_task_ids == found
    assert not any(dag.get_task(name).upstream_task_ids for name in found)
    for name in ("policy", "overview"):
        assert dag.get_task(name).trigger_rule == "all_done"
    assert dag.get_task("ask_training").trigger_rule == "all_success"


class Events(dict):
    """What Airflow gives for the events of outlets: the partitions that a task adds."""

    def __missing__(self, outlet):
        self[outlet] = SimpleNamespace(days=[])
        self[outlet].add_partitions = self[outlet].days.extend
        return self[outlet]


@pytest.mark.parametrize("days", [[], ["2025-05-19", "2025-06-15"]])
def test_a_training_is_asked_for_where_the_policy_says_so(days):
    task = monitor().get_task("ask_training")
    (outlet,), events = task.outlets, Events()
    assert outlet.name == "synthetic/backfilled-examples"
    ti = SimpleNamespace(task=task, xcom_pull=lambda task_ids: {"retrain_days": days})
    if days:
        task.python_callable(ti, events)
        assert events[outlet].days == days
    else:
        with pytest.raises(AirflowSkipException, match="asks for no training"):
            task.python_callable(ti, events)
        assert not events


def test_a_job_that_takes_no_lease_gets_no_number(job_task, register):
    _, execute = job_task(
        "print(json.dumps({'lease': os.environ['RANKING_LEASE']}))", takes_lease=False
    )
    assert execute() == {"lease": "0"}
    assert register == []


def test_without_a_log_of_answers_it_looks_at_examples_alone(monkeypatch):
    monkeypatch.setattr(ranking_assets, "LOG", "")
    path = str(DAGS / "monitor_ranking.py")
    (dag,) = runpy.run_path(path)["dags"]
    assert {task.task_id for task in dag.tasks} == {"drift", "policy", "ask_training", "overview"}
    assert not [one for one in dag.get_task("drift").arguments if one.startswith("--log")]
    monkeypatch.setattr(ranking_assets, "LOG", "s3://bucket/answers")
    (dag,) = runpy.run_path(path)["dags"]
    assert dag.dag_id == "monitor_ranking_movielens_100k"
    assert "--log=s3://bucket/answers" in dag.get_task("parity_hour").arguments
