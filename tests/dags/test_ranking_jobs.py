"""A task is a process: what the operator makes of small real ones."""

import datetime
import json
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import ranking_alerts
import ranking_jobs
import ranking_lease as leases
import ranking_processes as processes
from airflow.sdk import timezone
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowRuntimeError,
    AirflowSkipException,
)
from airflow.sdk.execution_time.comms import ErrorResponse


class Instance(SimpleNamespace):
    """The few things that the operator asks of a task instance."""

    dag_id = "daily_ranking"
    run_id = "backfill__1998-04-21"
    task_id = "ingest"
    try_number = 3
    states: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed
    previous: dict[str, SimpleNamespace] = {}  # noqa: RUF012
    first_asked = None

    def xcom_push(self, *, key, value) -> None:
        self.pushed = {key: value}

    def get_dagrun_state(self, *, dag_id, run_id):
        state = self.states[run_id]
        if isinstance(state, int):
            problem = {"status_code": state}
            raise AirflowRuntimeError(ErrorResponse(error="API_SERVER_ERROR", detail=problem))
        return state

    def get_previous_dagrun(self, *, state):
        return self.previous.get(state)

    def get_first_reschedule_date(self, _context):
        return self.first_asked


@pytest.fixture
def door(assets, tmp_path, monkeypatch):
    """A package ``door`` whose one command is the program given; returns a way to run it as a
    task."""

    def run(program: str, *, instance=None, **settings):
        package = tmp_path / "door"
        package.mkdir(exist_ok=True)
        (package / "__main__.py").write_text("import json, os, sys, time\n" + program)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        # Two programs of one second and one size would share what was compiled of the first.
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        task = ranking_jobs.JobOperator(
            task_id="ingest",
            package="door",
            command="go",
            arguments=["--a=1", ""],
            link="Reports",
            **settings,
        )
        context = {"ti": instance or Instance()}
        # Airflow's guard against calling execute outside a task is not what is tested here.
        return task, lambda: task.execute.__wrapped__(task, context)

    return run


def _lines(monkeypatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(
        ranking_jobs.JobOperator, "log", SimpleNamespace(info=lambda text, *_: seen.append(text))
    )
    return seen


def test_the_last_line_of_stdout_is_the_result(door) -> None:
    """Other lines are for people; empty arguments are left out; the report becomes the link."""
    task, execute = door(
        "print('noise'); print(json.dumps({'rows': 3, 'argv': sys.argv[1:], 'report': 'x/y.html'}))"
    )
    assert execute() == {"rows": 3, "argv": ["go", "--a=1"], "report": "x/y.html"}
    (link,) = task.operator_extra_links
    assert link.get_link(task, ti_key=None) == "/ranking/reports/x/y.html"


def test_a_job_sees_nothing_of_airflow(door, monkeypatch) -> None:
    """Neither its database nor its signing key; but our own settings."""
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "secret")
    monkeypatch.setenv("RANKING_ENDPOINT", "http://e")
    _, execute = door(
        "print(json.dumps({k: v for k, v in os.environ.items() if '__' in k or 'RANKING_E' in k}))"
    )
    seen = execute()
    assert [name for name in seen if "AIRFLOW" in name] == []
    assert seen["RANKING_ENDPOINT"] == "http://e"


def test_stderr_streams_while_the_job_runs(door, monkeypatch) -> None:
    """A line is in the task's log when it is written, not when the job ends."""
    seen = _lines(monkeypatch)
    _, execute = door(
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
UNPARSED = "import argparse; argparse.ArgumentParser('python -m door go').error('no --date')"


@pytest.mark.parametrize(
    ("program", "expected", "message"),
    [
        (SKIPS, AirflowSkipException, "champion is newer"),
        (FAILS, AirflowException, "door go: rows: 0; at least 1"),
        (MISUSED, AirflowFailException, "called wrongly: no such flag"),
        (UNPARSED, AirflowFailException, "called wrongly: no --date"),
        ("os.kill(os.getpid(), 9)", AirflowException, "ended by SIGKILL"),
        ("print('done')", AirflowException, "'done'; not JSON"),
        ("print('[1]')", AirflowException, "not JSON"),
    ],
)
def test_the_exit_code_decides(door, program, expected, message) -> None:
    """Done, skipped with a reason, failed with the job's words, or never to be tried again."""
    _, execute = door(program)
    with pytest.raises(expected, match=message):
        execute()


def test_a_failed_or_skipped_job_shows_what_it_said_and_where_its_page_is(door) -> None:
    """The summary is pushed although the task returns nothing."""
    instance = Instance()
    task, execute = door(
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


def test_killing_ends_the_whole_family(door, monkeypatch) -> None:
    """The ranks of torchrun are in sessions of their own; they must not outlive the task."""
    seen = _lines(monkeypatch)
    task, execute = door(FAMILY)
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


def test_a_job_that_ignores_sigterm_is_forced_in_time(door) -> None:
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


def test_a_second_run_gives_its_worker_back_and_asks_again(door, assets) -> None:
    """It neither starts its process nor keeps a slot while it waits."""
    _, execute = door("print('{\"rows\": 1}')")
    execute()
    second = Instance(run_id="manual__1", states={Instance.run_id: "running"})
    _, execute = door("print('{\"rows\": 2}')", instance=second)
    with pytest.raises(AirflowRescheduleException) as raised:
        execute()
    assert raised.value.reschedule_date > timezone.utcnow()
    second.states = {Instance.run_id: "failed"}
    assert execute() == {"rows": 2}
    assert leases.holder_of(assets.lease_file(assets.DATASET)).run_id == "manual__1"


def test_the_lease_is_the_data_sets_whichever_dag_asks(door) -> None:
    """A trial waits for the daily run, also where both runs have the same name."""
    door("print('{\"rows\": 1}')")[1]()
    trial = Instance(dag_id="upscale_dense", states={Instance.run_id: "running"})
    _, execute = door("print('{\"rows\": 2}')", instance=trial)
    with pytest.raises(AirflowRescheduleException):
        execute()
    trial.states = {Instance.run_id: "success"}
    assert execute() == {"rows": 2}


def test_a_run_that_airflow_forgot_is_over_but_an_answer_that_fails_is_none(door) -> None:
    """A deleted run blocks nobody; an API that is down says nothing about the holder."""
    door("print('{\"rows\": 1}')")[1]()
    second = Instance(run_id="manual__1", states={Instance.run_id: 500})
    _, execute = door("print('{\"rows\": 2}')", instance=second)
    with pytest.raises(AirflowRuntimeError):
        execute()
    second.states = {Instance.run_id: 404}
    assert execute() == {"rows": 2}


def test_waiting_for_the_lease_has_an_end(door, assets) -> None:
    """After the limit the task fails and says for whom it waited."""
    door("print('{\"rows\": 1}')")[1]()
    long_ago = timezone.utcnow() - datetime.timedelta(seconds=assets.LEASE_TIMEOUT_SECONDS + 60)
    waiting = Instance(run_id="manual__1", states={Instance.run_id: "queued"}, first_asked=long_ago)
    _, execute = door("print('{}')", instance=waiting)
    with pytest.raises(
        AirflowFailException, match=r"limit \d+ s; run daily_ranking/backfill__1998"
    ):
        execute()


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
def test_days_go_in_order(door, previous, waits) -> None:
    """An earlier day that is under way goes first."""
    _, execute = door("print('{\"rows\": 1}')", instance=Instance(previous=previous))
    if waits:
        with pytest.raises(AirflowRescheduleException):
            execute()
    else:
        assert execute() == {"rows": 1}


@pytest.mark.parametrize(
    ("logical_date", "message"),
    [
        (None, "logical date None"),
        (datetime.datetime(1998, 4, 23, tzinfo=datetime.UTC), "1997-09-20 to 1998-04-22"),
        (datetime.datetime(1997, 9, 19, tzinfo=datetime.UTC), "1997-09-20 to 1998-04-22"),
    ],
)
def test_a_run_without_a_day_of_the_log_is_refused(logical_date, message) -> None:
    """The message says which run, which day and what the log has."""
    with pytest.raises(ValueError, match=message):
        ranking_jobs.day_of(SimpleNamespace(run_id="m", logical_date=logical_date))


def test_a_day_lands_or_is_given_up_with_a_reason_and_an_alert(assets) -> None:
    """Found: the day goes on. Too late: skipped; the reason names the file, the alert the page."""
    sensor = ranking_jobs.LandedSensor(task_id="landed", day="1998-04-20", timeout=0)
    late = Instance(task_id="landed", first_asked=timezone.utcnow() - datetime.timedelta(minutes=1))
    with pytest.raises(AirflowSkipException, match=r"not land within 0 s: no whole .*04-20\.tsv"):
        sensor.execute.__wrapped__(sensor, {"ti": late})
    (notice,) = (json.loads(page.read_text()) for page in assets.ALERTS.glob("*.json"))
    assert notice["runbook"] == "infra/runbooks/day-not-landed.md"
    assert "1998-04-20.tsv" in notice["error"]
    landed = assets.landed_file("1998-04-20")
    landed.parent.mkdir(parents=True)
    landed.write_text("example_id\n")
    assert sensor.execute.__wrapped__(sensor, {"ti": late}) == {"landed": "1998-04-20"}


@pytest.mark.parametrize(
    ("name", "content", "counts"),
    [
        ("1998-04-20.tsv", "id\n1\n", True),
        ("1998-04-20.tsv", "", False),
        ("1998-04-20.tsv", "id\n1\t2", False),  # cut off in a line
        ("1998-04-20.tsv.part", "id\n1\n", False),
        (".1998-04-20.tsv", "id\n1\n", False),
        ("1998-04-20.tmp", "id\n1\n", False),
        ("1998-04-20.csv", "id\n1\n", False),  # not what the reader reads
        ("1998-04-21.tsv", "id\n1\n", False),
    ],
)
def test_a_file_that_is_still_being_written_has_not_landed(assets, name, content, counts) -> None:
    """It has another name until it is whole, and no proper end where it has not."""
    folder = assets.landed_file("1998-04-20").parent
    folder.mkdir(parents=True)
    (folder / name).write_text(content)
    sensor = ranking_jobs.LandedSensor(task_id="landed", day="1998-04-20")
    assert sensor.poke({}) is counts


@pytest.mark.parametrize(
    ("files", "is_whole"),
    [
        ({"part-0.parquet": b"PAR1..PAR1", "_SUCCESS": b"", ".part-0.parquet.crc": b"x"}, True),
        ({}, True),  # a day without rows
        ({"part-0.parquet": b"PAR1..PAR1", "part-1.parquet": b"PAR1.."}, False),
        ({"part-0.parquet": b"PAR1..PAR1", "_temporary/0/part-1.parquet": b""}, False),
    ],
)
def test_a_folder_has_landed_when_every_file_of_it_is_whole(tmp_path, files, is_whole) -> None:
    """The sensor and the reader have one rule, written twice."""
    from features.spark.landing import is_whole as reader_takes

    folder = tmp_path / "1998-04-20.parquet"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert processes.has_landed(folder) is reader_takes(folder) is is_whole
    assert processes.has_landed(tmp_path / "none") is reader_takes(tmp_path / "none") is False


def test_a_job_may_name_the_page_for_what_it_found(door, assets) -> None:
    """The alert of the same task names another page where the cause is another."""
    words = "{'error': 'day 1998-04-20 is missing', 'runbook': 'day-missing'}"
    _, execute = door(
        f"print(json.dumps({words})); print('error: x', file=sys.stderr); sys.exit(1)"
    )
    with pytest.raises(AirflowException) as raised:
        execute()
    ranking_alerts.alert({"ti": Instance(), "exception": raised.value})
    (page,) = assets.ALERTS.glob("*.json")
    assert json.loads(page.read_text())["runbook"] == "infra/runbooks/day-missing.md"


def test_an_alert_is_a_line_and_a_file(assets, caplog) -> None:
    """What failed, on which try, with whose words, and the page to open."""
    ranking_alerts.alert({"ti": Instance(task_id="train"), "exception": ValueError("loss: nan")})
    (page,) = assets.ALERTS.glob("*.json")
    notice = json.loads(page.read_text())
    assert page.name == "backfill__1998-04-21-train.json"
    assert (notice["runbook"], notice["error"]) == ("infra/runbooks/train-failed.md", "loss: nan")
    assert json.loads(caplog.messages[0].removeprefix("ALERT ")) == notice


def test_a_job_that_is_done_may_raise_alerts(door, assets, caplog) -> None:
    """Its summary names the page to open; the task is green, and downstream goes on."""
    raised = {"alert": "recalibrate", "runbook": "infra/runbooks/recalibrate.md", "what": "0.89"}
    told = {"decision": "promote", "alerts": [raised]}
    _, execute = door(f"print(json.dumps({told}))")
    assert execute() == told
    (page,) = assets.ALERTS.glob("*.json")
    assert page.name == "backfill__1998-04-21-ingest-recalibrate.json"
    notice = json.loads(page.read_text())
    assert {name: notice[name] for name in raised} == raised
    (line,) = [text for text in caplog.messages if text.startswith("ALERT ")]
    assert json.loads(line.removeprefix("ALERT ")) == notice


def test_a_job_without_alerts_raises_none(door, assets) -> None:
    _, execute = door("print(json.dumps({'alerts': []}))")
    execute()
    assert not assets.ALERTS.exists()


def test_a_job_may_name_the_page_of_its_alert(door, assets) -> None:
    """A training that diverged is no ordinary failure of the task."""
    _, execute = door(
        """print('{"error": "step 7: loss nan", "runbook": "training-diverged"}'); sys.exit(1)"""
    )
    with pytest.raises(AirflowException) as failed:
        execute()
    ranking_alerts.alert({"ti": Instance(task_id="train"), "exception": failed.value})
    (page,) = assets.ALERTS.glob("*.json")
    assert json.loads(page.read_text())["runbook"] == "infra/runbooks/training-diverged.md"


def _is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
