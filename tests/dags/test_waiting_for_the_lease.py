"""A task waits for the run lease, without holding a worker, and not for ever."""

import datetime
from types import SimpleNamespace

import pytest
from airflow.sdk import timezone
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowRuntimeError,
)
from support.airflow_dags import TaskInstance, data_set


def test_a_second_run_gives_its_worker_back_and_asks_again(job_task, register) -> None:
    """It neither starts its process nor keeps a slot while it waits."""
    _, execute = job_task("print('{\"rows\": 1}')")
    execute()
    second = TaskInstance(run_id="manual__1", states={TaskInstance.run_id: "running"})
    _, execute = job_task("print('{\"rows\": 2}')", instance=second)
    with pytest.raises(AirflowRescheduleException) as raised:
        execute()
    assert raised.value.reschedule_date > timezone.utcnow()
    second.states = {TaskInstance.run_id: "failed"}
    assert execute() == {"rows": 2}
    assert [lease.holder.run_id for lease in register] == [TaskInstance.run_id, "manual__1"]


def test_the_lease_is_the_data_sets_whichever_dag_asks(job_task) -> None:
    """A trial waits for the daily run, also where both runs have the same name."""
    job_task("print('{\"rows\": 1}')")[1]()
    trial = TaskInstance(
        dag_id="upscale_dense_movielens_100k", states={TaskInstance.run_id: "running"}
    )
    _, execute = job_task("print('{\"rows\": 2}')", instance=trial)
    with pytest.raises(AirflowRescheduleException):
        execute()
    trial.states = {TaskInstance.run_id: "success"}
    assert execute() == {"rows": 2}


def test_a_run_that_airflow_forgot_is_over_but_an_answer_that_fails_is_none(job_task) -> None:
    """A deleted run blocks nobody; an API that is down says nothing about the holder."""
    job_task("print('{\"rows\": 1}')")[1]()
    second = TaskInstance(run_id="manual__1", states={TaskInstance.run_id: 500})
    _, execute = job_task("print('{\"rows\": 2}')", instance=second)
    with pytest.raises(AirflowRuntimeError):
        execute()
    second.states = {TaskInstance.run_id: 404}
    assert execute() == {"rows": 2}


def test_waiting_for_the_lease_has_an_end(job_task, assets) -> None:
    """After the limit the task fails and says for whom it waited."""
    job_task("print('{\"rows\": 1}')")[1]()
    long_ago = timezone.utcnow() - datetime.timedelta(seconds=assets.LEASE_TIMEOUT_SECONDS + 60)
    waiting = TaskInstance(
        run_id="manual__1", states={TaskInstance.run_id: "queued"}, first_asked=long_ago
    )
    _, execute = job_task("print('{}')", instance=waiting)
    with pytest.raises(
        AirflowFailException, match=r"limit \d+ s; run daily_ranking_movielens_100k/b"
    ) as failed:
        execute()
    assert failed.value.runbook == "lease-waits"


@pytest.mark.parametrize(
    ("previous", "waits"),
    [
        ({"running": SimpleNamespace(run_id="r", run_type="manual")}, True),
        ({"queued": SimpleNamespace(run_id="r", run_type="backfill")}, True),
        # It may be queued because this very run is the active one: that would be for ever.
        ({"queued": SimpleNamespace(run_id="r", run_type="manual")}, False),
        ({}, False),
    ],
)
def test_days_go_in_order(job_task, monkeypatch, previous, waits) -> None:
    """An earlier day that is under way goes first."""
    from ranking_launchers import lease as ranking_lease

    asked = set()

    def previous_run(dag_id, day, state):
        asked.add((dag_id, str(day)))
        return previous.get(state)

    _, execute = job_task("print('{\"rows\": 1}')")
    monkeypatch.setattr(ranking_lease, "previous_run", previous_run)
    if waits:
        with pytest.raises(AirflowRescheduleException):
            execute()
    else:
        assert execute() == {"rows": 1}
    assert asked == {(TaskInstance.dag_id, "1998-04-21")}


def test_each_data_set_has_a_lease_of_its_own(job_task, monkeypatch) -> None:
    """Runs of two data sets do not wait for each other."""
    from ranking_launchers import lease as ranking_lease

    registers = []
    task, execute = job_task("print('{\"rows\": 1}')")
    monkeypatch.setattr(ranking_lease, "newest_lease", registers.append)
    added = lambda register, _: registers.append(register) or True  # noqa: E731
    monkeypatch.setattr(ranking_lease, "add_lease", added)
    execute()
    task.data_set = data_set("open-bandit")
    execute()
    films, clothes = "data_set_lease_movielens_100k", "data_set_lease_open_bandit"
    assert registers == [films, films, clothes, clothes]
