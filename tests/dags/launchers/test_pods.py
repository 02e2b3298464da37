"""A job as a pod, on a Kubernetes API that keeps state; the API alone is a stand-in."""

import asyncio
import json
import threading

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from features.places import place, put_whole

USAGE = "usage: python -m features …\npython -m features ingest: error: --date: not a day\n"


def _variables(pod) -> dict[str, str]:
    return {v["name"]: v.get("value") for v in pod["spec"]["containers"][0]["env"]}


def _leave(pod, exit_code: int = 0, **summary) -> None:
    """Put what a job leaves, as its own command line does."""
    content = json.dumps({"exit_code": exit_code, "summary": summary}).encode()
    put_whole(place(_variables(pod)["RANKING_RESULT"]), content)


@pytest.fixture
def started(task, on_kubernetes):
    """A task that has deferred, the name of its pod, and the pod."""
    job = task()
    assert job.execute() is None
    ((name, pod),) = on_kubernetes.live().items()
    return job, name, pod


def test_a_job_is_a_pod_and_its_result_the_tasks(started, on_kubernetes, assets) -> None:
    """The worker is free meanwhile; the pod is deleted, and so is the result that was read."""
    job, name, pod = started
    container = pod["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", "features", "ingest", "--dataset=synthetic"]
    assert container["image"] == "ranking:1"
    assert pod["metadata"]["namespace"] == "ranking"
    seen = _variables(pod)
    assert seen["RANKING_ROOT"] == str(assets.ROOT)
    assert (seen["RANKING_RUN"], seen["RANKING_LEASE"]) == (
        "daily_ranking_movielens_100k/backfill__1998-04-21",
        "1",
    )
    on_kubernetes.end(name)
    _leave(pod, rows=3, report="x/y.html")
    assert job.resume() == {"rows": 3, "report": "x/y.html"}
    (link,) = job.operator.operator_extra_links
    assert link.get_link(job.operator, ti_key=None) == "/ranking/reports/x/y.html"
    assert on_kubernetes.live() == {}
    assert list((assets.ROOT / "results").iterdir()) == []


def test_a_result_is_read_from_an_object_store_too(
    task, on_kubernetes, assets, anywhere, monkeypatch
) -> None:
    """Where the root is; and a job that has left none is told from one that has."""
    monkeypatch.setattr(assets, "ROOT", anywhere)
    for summary in ({"rows": 3}, {}):
        job = task(try_number=4 if summary else 5)
        job.execute()
        ((name, pod),) = on_kubernetes.live().items()
        on_kubernetes.end(name)
        if summary:
            _leave(pod, **summary)
            assert job.resume() == summary
        else:
            with pytest.raises(AirflowException, match="not JSON"):
                job.resume()


def test_the_same_start_twice_is_one_pod(task, on_kubernetes) -> None:
    """Two schedulers: the second finds the name taken, follows the pod, and both see its end."""
    jobs = [task(), task()]
    assert [job.execute() for job in jobs] == [None, None]
    (name,) = on_kubernetes.created
    on_kubernetes.end(name)
    _leave(on_kubernetes.live()[name], rows=1)
    assert jobs[1].resume() == {"rows": 1}


def test_another_try_map_index_or_task_has_another_name(task, on_kubernetes) -> None:
    """And a new try ends what an earlier one has left, but nothing of another task."""
    over = {"states": {"backfill__1998-04-21": "failed", "other": "failed"}}
    others = ({"task_id": "build"}, {"map_index": 1}, {"run_id": "other"}, {"try_number": 4})
    for instance in ({}, *others):
        task(**over, **instance).execute()
    assert len(set(on_kubernetes.created)) == 5
    assert on_kubernetes.deleted == [on_kubernetes.created[0]]


@pytest.mark.parametrize(
    ("exit_code", "summary", "ends", "expected", "message"),
    [
        (99, {"skipped": "no news"}, {}, AirflowSkipException, "no news"),
        (1, {"error": "rows: 0; at least 1"}, {}, AirflowException, "features ingest: rows: 0"),
        (2, {}, {"message": USAGE}, AirflowFailException, "wrongly: --date: not a day"),
        (137, {}, {"reason": "OOMKilled"}, AirflowException, "ended by SIGKILL; OOMKilled"),
        (0, {}, {}, AirflowException, "result .*json ''; not JSON"),
    ],
)
def test_the_exit_code_decides(
    started, on_kubernetes, exit_code, summary, ends, expected, message
) -> None:
    """As for a process; a job that was called wrongly is not tried again."""
    job, name, pod = started
    on_kubernetes.end(name, exit_code, **ends)
    if summary:
        _leave(pod, exit_code, **summary)
    with pytest.raises(expected, match=message) as raised:
        job.resume()
    assert type(raised.value) is expected or exit_code in {1, 137}  # which name their runbook
    assert on_kubernetes.live() == {}


def test_a_lost_pod_is_started_again_within_the_same_try(started, on_kubernetes) -> None:
    """An eviction is the cluster's; the next pod has another name and its own result."""
    job, name, _ = started
    on_kubernetes.keeps_deleted = True
    on_kubernetes.evict(name)
    assert job.resume() is None
    again = on_kubernetes.created[1]
    assert again == name.removesuffix("0") + "1"
    assert name in on_kubernetes.deleted
    on_kubernetes.end(again)
    _leave(on_kubernetes.live()[again], rows=2)
    assert job.resume() == {"rows": 2}


def test_a_pod_that_is_gone_is_lost_unless_it_has_left_its_result(started, on_kubernetes) -> None:
    """Its node was removed: either the job was done, or it is started again."""
    job, name, _ = started
    on_kubernetes.objects["v1/pods", "ranking", name].delete()
    assert job.resume() is None
    again = on_kubernetes.created[1]
    _leave(on_kubernetes.live()[again], rows=2)
    on_kubernetes.objects["v1/pods", "ranking", again].delete()
    assert job.resume() == {"rows": 2}


def test_a_job_that_the_cluster_loses_again_and_again_fails(started, on_kubernetes) -> None:
    """The message names the limit and the last reason."""
    job, _, _ = started
    for _ in range(5):
        on_kubernetes.evict(on_kubernetes.created[-1])
        assert job.resume() is None
    on_kubernetes.evict(on_kubernetes.created[-1])
    with pytest.raises(AirflowException, match=r"lost by the cluster 6 times; limit 5 .*node was"):
        job.resume()


def test_a_lost_api_server_is_waited_for(task, on_kubernetes, caplog) -> None:
    """Before the pod is there, while it runs, and when it is read; no second pod comes of it."""
    job = task()
    on_kubernetes.num_unanswered = 2
    assert job.execute() is None
    (name,) = on_kubernetes.created
    on_kubernetes.run(name)
    on_kubernetes.num_unanswered = 40
    threading.Timer(1.0, on_kubernetes.end, (name,)).start()
    _leave(on_kubernetes.live()[name], rows=1)
    event = job.fire()
    assert event["status"] == "success"
    on_kubernetes.num_unanswered = 3
    assert job.resume(event) == {"rows": 1}
    assert on_kubernetes.created == [name]
    assert "The Kubernetes API does not answer" in caplog.text


def test_an_api_server_that_stays_away_fails_the_task(task, on_kubernetes, assets) -> None:
    """After the limit, which the message names."""
    assets.API_AWAY_SECONDS = 0.3
    on_kubernetes.num_unanswered = 10_000
    with pytest.raises(AirflowException, match=r"not answered for 0.3 s; limit RANKING_API_AWAY"):
        task().execute()


def test_lines_of_the_job_are_in_the_tasks_log_while_it_runs(
    started, on_kubernetes, capsys
) -> None:
    """The triggerer reads them, and its log is the task's."""
    job, name, _ = started
    on_kubernetes.run(name, "2025-01-06 features.lake published 3 rows")
    trigger = job.trigger()

    async def follow() -> None:
        running = asyncio.create_task(anext(trigger.run()))
        log = ""
        while "[base] 2025-01-06 features.lake published 3 rows" not in log:
            await asyncio.sleep(0.05)
            log += capsys.readouterr().out
        assert not running.done()
        running.cancel()

    asyncio.run(asyncio.wait_for(follow(), 20))


def test_clearing_a_task_deletes_its_pod(started, on_kubernetes) -> None:
    """Airflow tells the trigger of a deferred task, and the operator of one that is starting."""
    job, name, _ = started
    asyncio.run(job.trigger().on_kill())
    assert on_kubernetes.live() == {}
    job.execute()
    assert list(on_kubernetes.live()) == [name]
    job.operator.on_kill()
    assert on_kubernetes.live() == {}


def test_clearing_a_task_that_waits_for_the_api_server_deletes_its_pod(
    started, on_kubernetes, capsys
) -> None:
    """The provider's trigger deletes nothing once it has something to report, as an outage is."""
    trigger = started[0].trigger()

    async def clear() -> None:
        running = asyncio.create_task(anext(trigger.run()))
        on_kubernetes.num_unanswered = 10_000
        while "The Kubernetes API does not answer" not in capsys.readouterr().out:
            await asyncio.sleep(0.05)
        running.cancel()
        on_kubernetes.num_unanswered = 0
        await trigger.on_kill()

    asyncio.run(asyncio.wait_for(clear(), 60))
    assert on_kubernetes.live() == {}


def test_a_size_that_is_not_in_the_table_starts_nothing(task, on_kubernetes) -> None:
    """The message names those that are."""
    with pytest.raises(ValueError, match=r"size 'huge': unknown; the sizes are \['small', "):
        task("huge").execute()
    assert on_kubernetes.created == []
