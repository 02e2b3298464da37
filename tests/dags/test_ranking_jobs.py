"""A task is a process: what the operator makes of small real ones."""

import dataclasses
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import ranking_jobs
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
)
from ranking_launchers import processes
from support.airflow_dags import TaskInstance, data_set, run_of


def _lines(monkeypatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(
        ranking_jobs.JobOperator, "log", SimpleNamespace(info=lambda text, *_: seen.append(text))
    )
    return seen


def test_the_last_line_of_stdout_is_the_result(job_task) -> None:
    """Other lines are for people; empty arguments are left out; the report becomes the link."""
    task, execute = job_task(
        "print('noise'); print(json.dumps({'rows': 3, 'argv': sys.argv[1:], 'report': 'x/y.html'}))"
    )
    assert execute() == {"rows": 3, "argv": ["go", "--a=1"], "report": "x/y.html"}
    (link,) = task.operator_extra_links
    assert link.get_link(task, ti_key=None) == "/ranking/reports/x/y.html"


def test_a_job_sees_nothing_of_airflow(job_task, monkeypatch) -> None:
    """Neither its database nor its signing key; but our own settings."""
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "secret")
    monkeypatch.setenv("RANKING_ENDPOINT", "http://e")
    _, execute = job_task(
        "print(json.dumps({k: v for k, v in os.environ.items() if '__' in k or 'RANKING_' in k}))"
    )
    seen = execute()
    assert [name for name in seen if "AIRFLOW" in name] == []
    assert seen["RANKING_ENDPOINT"] == "http://e"
    run = (seen["RANKING_RUN"], seen["RANKING_LEASE"])
    assert run == ("daily_ranking_movielens_100k/backfill__1998-04-21", "1")


def test_stderr_streams_while_the_job_runs(job_task, monkeypatch) -> None:
    """A line is in the task's log when it is written, not when the job ends."""
    seen = _lines(monkeypatch)
    _, execute = job_task(
        "print('begun', file=sys.stderr, flush=True); time.sleep(2); print('{\"a\": 1}')"
    )
    thread = threading.Thread(target=execute)
    thread.start()
    deadline = time.monotonic() + 1.5
    while "begun" not in seen and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ("begun" in seen, thread.is_alive()) == (True, True)
    thread.join()


SKIPS = """print('{"skipped": "champion is newer"}'); sys.exit(99)"""
FAILS = """sys.stderr.write('x\\nerror: rows: 0; at least 1\\n'); sys.exit(1)"""
MISUSED = "sys.stderr.write('error: no such flag\\n'); sys.exit(2)"
UNPARSED = "import argparse; argparse.ArgumentParser('python -m program go').error('no --date')"


@pytest.mark.parametrize(
    ("program", "expected", "message"),
    [
        (SKIPS, AirflowSkipException, "champion is newer"),
        (FAILS, AirflowException, "program go: rows: 0; at least 1"),
        (MISUSED, AirflowFailException, "called wrongly: no such flag"),
        (UNPARSED, AirflowFailException, "called wrongly: no --date"),
        ("os.kill(os.getpid(), 9)", AirflowException, "ended by SIGKILL"),
        ("print('done')", AirflowException, "'done'; not JSON"),
        ("print('[1]')", AirflowException, "not JSON"),
    ],
)
def test_the_exit_code_decides(job_task, program, expected, message) -> None:
    """Done, skipped with a reason, failed with the job's words, or never to be tried again."""
    _, execute = job_task(program)
    with pytest.raises(expected, match=message):
        execute()


def test_a_failed_or_skipped_job_shows_what_it_said_and_where_its_page_is(job_task) -> None:
    """The summary is pushed although the task returns nothing."""
    instance = TaskInstance()
    task, execute = job_task(
        'print(\'{"skipped": "old"}\'); sys.exit(99)', instance=instance, page="d/gate.html"
    )
    with pytest.raises(AirflowSkipException):
        execute()
    assert instance.pushed == {"return_value": {"skipped": "old"}}
    assert (
        task.operator_extra_links[0].get_link(task, ti_key=None) == "/ranking/reports/d/gate.html"
    )


FAMILY = """
import subprocess
sleeper = [sys.executable, '-c', 'import time; time.sleep(60)']
child = subprocess.Popen(sleeper, start_new_session=True)
print(child.pid, file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_killing_ends_the_whole_family(job_task, monkeypatch) -> None:
    """The ranks of torchrun are in sessions of their own; they must not outlive the task."""
    seen = _lines(monkeypatch)
    task, execute = job_task(FAMILY)
    failure: list[BaseException] = []

    def run() -> None:
        try:
            execute()
        except AirflowException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not any(line.isdigit() for line in seen):
        time.sleep(0.05)
    task.on_kill()
    thread.join(timeout=10)
    child = next(int(line) for line in seen if line.isdigit())
    assert "ended by SIGTERM" in str(failure[0])
    assert _is_gone(child)


def test_a_job_that_ignores_sigterm_is_forced_in_time(job_task) -> None:
    """Airflow forces the task itself 5 s after asking, and then nobody would end the job."""
    job = processes.Job(
        [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN);"
         "print('deaf', flush=True); time.sleep(60)"],
        directory=ranking_jobs.assets.VAR,
        environment=dict(os.environ),
    )  # fmt: skip
    assert job.process.stdout.readline() == "deaf\n"
    started = time.monotonic()
    job.kill()
    assert time.monotonic() - started < 5
    assert job.process.returncode == -signal.SIGKILL
    for stream in (job.process.stdout, job.process.stderr):
        stream.close()


def test_a_run_by_hand_names_its_day_and_a_run_of_the_schedule_has_it() -> None:
    """The param goes first; a logical date is not needed."""
    shop = data_set()
    assert shop.day_of(run_of(None), {"day": "1998-04-20"}) == "1998-04-20"
    assert shop.day_of(run_of("1998-04-21"), {"day": None}) == "1998-04-21"
    assert shop.day_of(run_of("1998-04-21"), {"day": "1998-04-20"}) == "1998-04-20"
    assert shop.day_of(run_of("1998-04-21"), {}) == "1998-04-21"


@pytest.mark.parametrize(
    ("day", "params", "message"),
    [
        (None, {"day": None}, "run r: params.day None"),
        ("1998-04-23", {}, "run r: day 1998-04-23; movielens-100k has 1997-09-20 to 1998-04-22"),
        (None, {"day": "1997-09-19"}, "day 1997-09-19; movielens-100k has 1997-09-20 to 1998"),
    ],
)
def test_a_run_without_a_day_of_the_log_is_refused(day, params, message) -> None:
    """The message says which run, which day and what the log has."""
    with pytest.raises(ValueError, match=message):
        data_set().day_of(run_of(day), params)


def test_what_is_learnt_works_for_the_newest_day_whose_labels_are_final() -> None:
    """Two days later than the impressions, an order may still come; then nothing is shifted."""
    run, films = run_of("1998-04-20"), data_set()
    assert films.learnt_day_of(run, {}) == "1998-04-20"
    late = dataclasses.replace(films, log=dataclasses.replace(films.log, maturity_days=2))
    assert late.learnt_day_of(run, {}) == "1998-04-18"
    assert late.day_of(run, {}) == "1998-04-20"
    dates = {
        command: ranking_jobs.job(films, "t", package, command, folders="lake").arguments[1]
        for package, command in (
            *(("features", name) for name in ("ingest", "validate", "build", "materialize")),
            *(("training", name) for name in ("train", "export", "evaluate")),
            *(("features", "examples"), ("features", "prune"), ("serving", "canary")),
        )
    }
    learns = {name for name, date in dates.items() if date == f"--date={ranking_jobs.LEARNT_DAY}"}
    assert learns == {"examples", "train", "export", "evaluate", "canary"}


def _is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
