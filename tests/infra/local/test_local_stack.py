"""The local stack: its settings, its processes, what it measures."""

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from infra.demo import memory
from infra.local import network, processes, spark_server, stack
from infra.local.settings import (
    Settings,
    airflow_environment,
    job_environment,
    spark_client,
)

SLEEPER = "import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True); print(c.pid, flush=True); time.sleep(60)"  # fmt: skip  # noqa: E501


@pytest.fixture
def settings(tmp_path) -> Settings:
    """A stack that keeps its state in an empty folder."""
    return Settings(var=tmp_path, datasets="synthetic", airflow_port=18080)


def test_airflow_listens_on_loopback_and_keeps_its_state_below_var(settings, tmp_path) -> None:
    """Nothing is written outside the one folder, and nobody outside can reach the UI."""
    environment = airflow_environment(settings)
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    folders = ("AIRFLOW_HOME", "AIRFLOW__LOGGING__BASE_LOG_FOLDER")
    assert [environment[name].startswith(str(tmp_path)) for name in folders] == [True, True]
    assert f"sqlite:///{tmp_path}" in environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]


def test_data_are_at_the_root_for_every_part(tmp_path) -> None:
    """Databases stay on this machine; without a root, so do data."""
    given = {"RANKING_VAR": str(tmp_path), "RANKING_ROOT": "s3://bucket/prefix"}
    elsewhere, here = (
        Settings.from_environment(env) for env in (given, {**given, "RANKING_ROOT": ""})
    )
    flags = [f"--store={tmp_path}/feast", f"--tracking={tmp_path}/mlflow"]
    assert here.folders("store tracking") == flags
    assert elsewhere.folders("store tracking") == ["--store=s3://bucket/prefix/feast", flags[1]]
    assert airflow_environment(elsewhere)["RANKING_ROOT"] == "s3://bucket/prefix"
    assert job_environment(here)["RANKING_ROOT"] == str(tmp_path)


def test_the_signing_key_is_made_once_and_is_ours_alone(settings) -> None:
    """Airflow's parts, started at different times, must share it."""
    first = airflow_environment(settings)["AIRFLOW__API_AUTH__JWT_SECRET"]
    assert first == airflow_environment(settings)["AIRFLOW__API_AUTH__JWT_SECRET"]
    assert (settings.home / "jwt.key").stat().st_mode & 0o077 == 0


def test_a_job_started_by_hand_sees_no_airflow_either(settings, monkeypatch) -> None:
    """The same environment as in a task."""
    monkeypatch.setenv("AIRFLOW_HOME", "/elsewhere")
    monkeypatch.setenv("RANKING_AIRFLOW_DATABASE", "postgresql+psycopg://me:secret@there/airflow")
    environment = job_environment(settings)
    assert environment.keys().isdisjoint({"AIRFLOW_HOME", "RANKING_AIRFLOW_DATABASE"})
    assert environment["RANKING_DATASETS"] == "synthetic"


def test_airflows_database_may_be_another(settings) -> None:
    """Its library for asynchronous calls is the same."""
    url = "postgresql+psycopg://me:secret@there/airflow"
    found = airflow_environment(settings.model_copy(update={"airflow_database": url}))
    assert found["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == url
    assert found["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"] == url
    default = airflow_environment(settings)
    assert default["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("sqlite:///")
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC" not in default


def test_schema_files_are_named_whole_for_a_process_in_another_folder(
    settings, monkeypatch
) -> None:
    monkeypatch.setenv("RANKING_SCHEMAS", f"shop.yaml{os.pathsep}/etc/schemas")
    expected = f"{Path.cwd() / 'shop.yaml'}{os.pathsep}/etc/schemas"
    assert job_environment(settings)["RANKING_SCHEMAS"] == expected
    assert airflow_environment(settings)["RANKING_SCHEMAS"] == expected


def test_jobs_know_the_stacks_spark_and_the_server_listens_on_loopback(settings) -> None:
    """The same address and token on both sides; the token stands in no command line."""
    client = job_environment(settings)
    server = spark_server.environment(settings, {"SPARK_REMOTE": "sc://elsewhere"})
    command = spark_server.command(settings.spark_port)
    address, _, session = client["SPARK_REMOTE"].partition("/;session_id=")
    assert address == f"sc://localhost:{settings.spark_port}"
    assert str(uuid.UUID(session)) == session
    assert "SPARK_REMOTE" not in server
    assert server["PYSPARK_PYTHON"] == sys.executable
    token = client["SPARK_CONNECT_AUTHENTICATE_TOKEN"]
    assert token == server["SPARK_CONNECT_AUTHENTICATE_TOKEN"] != ""
    assert token not in " ".join(command)
    assert "spark.connect.grpc.binding.address=127.0.0.1" in command
    # By default a push that has had nothing to do for an hour finds its session gone.
    assert "spark.connect.session.manager.defaultSessionTimeout=-1" in command
    assert (settings.home / "spark.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "given", [{"RANKING_SPARK_PORT": "0"}, {"SPARK_REMOTE": "sc://a"}, {"SPARK_MASTER": "local"}]
)
def test_the_stack_has_no_spark_where_the_jobs_have_another(given, tmp_path) -> None:
    """It starts none, waits for none, and does not change what the jobs are given."""
    named = Settings.from_environment({"RANKING_VAR": str(tmp_path), **given})
    parts = stack.Stack(named)
    parts.start_spark()
    parts.wait_for_spark()
    assert not parts.processes.running
    assert not spark_client(named)


def test_a_port_in_use_is_named_with_its_variable() -> None:
    """So that the reader knows what to type."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port}: in use; .*RANKING_HTTP_PORT"):
            network.require_free_port(port, "RANKING_HTTP_PORT")


@pytest.mark.process
def test_ending_takes_the_grandchildren_along(tmp_path) -> None:
    """A job's child in a session of its own ends with the stack."""
    group = processes.Processes(record=tmp_path / "stack.json", logs=tmp_path / "logs")
    group.start("part", [sys.executable, "-c", SLEEPER], dict(os.environ), tmp_path)
    grandchild = _first_number(group.log("part"))
    group.end()
    assert _is_gone(grandchild)
    assert not (tmp_path / "stack.json").exists()


@pytest.mark.process
def test_down_ends_what_was_recorded_and_no_namesake(tmp_path) -> None:
    """A process number may belong to somebody else by now; its start time distinguishes them."""
    ours, other = (
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)
    )
    record = tmp_path / "stack.json"
    entries = [processes._identity(ours.pid), {"pid": other.pid, "started": 1.0}, None]
    record.write_text(json.dumps([entry for entry in entries if entry]))
    assert processes.is_recorded_alive(record)
    assert processes.end_recorded(record) == 1
    assert (psutil.pid_exists(ours.pid), other.poll()) == (False, None)
    assert processes.end_recorded(record) == 0
    other.kill()
    other.wait()
    ours.wait()


@pytest.mark.process
def test_a_part_that_dies_is_reported_with_the_end_of_its_log(tmp_path) -> None:
    """The person at the terminal need not look for it."""
    group = processes.Processes(record=tmp_path / "stack.json", logs=tmp_path / "logs")
    group.start("part", [sys.executable, "-c", "exit('no database')"], dict(os.environ), tmp_path)
    group.running["part"].wait()
    with pytest.raises(RuntimeError, match=r"part: ended with code 1(.|\n)*no database"):
        group.require_alive()
    group.end()


@pytest.mark.process
def test_a_push_that_ends_is_started_again_and_takes_nothing_along(
    settings, tmp_path, monkeypatch, capsys
) -> None:
    """Without it the endpoint answers on, with users as of the last build."""
    says = [sys.executable, "-c", "exit('no lake')"]
    monkeypatch.setattr(stack, "push_command", lambda *_, **__: says)
    monkeypatch.setattr(stack, "PUSH_RESTART_SECONDS", 0.0)
    monkeypatch.delenv("RANKING_PUSH", raising=False)
    parts = stack.Stack(settings)
    parts.start_pushes()
    name = f"{stack.PUSH}synthetic"
    first = parts.processes.running[name]
    first.wait()
    parts.processes.require_alive(but={name})
    parts.keep_pushes()
    assert parts.processes.running[name].pid != first.pid
    assert "is started again" in capsys.readouterr().err
    assert "no lake" in (settings.home / "logs" / "push-synthetic.log.1").read_text()
    parts.processes.end()


@pytest.mark.process
def test_memory_counts_the_children_and_belongs_to_the_stages_under_way() -> None:
    """A child that takes 600 MB is seen in the sum and in its stage, and not in another's."""
    hog = "x = b'1' * 600_000_000; print('ready', flush=True); import time; time.sleep(60)"
    sampler = memory.MemorySampler()
    with sampler.running():
        before = memory.tree_pss(os.getpid())
        child = subprocess.Popen([sys.executable, "-c", hog], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        with sampler.stage("big"):
            deadline = time.monotonic() + 30
            wanted = before + 300_000_000
            while sampler.peaks_mb.get("big", 0) * memory.MEGABYTE <= wanted:
                assert time.monotonic() < deadline, sampler.peaks_mb
                time.sleep(0.1)
        child.kill()
        child.communicate()
    assert sampler.peaks_mb.keys() == {"big"}
    assert sampler.peak_mb >= sampler.peaks_mb["big"]


def _first_number(log) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if log.read_text().strip():
            return int(log.read_text().split()[0])
        time.sleep(0.05)
    raise TimeoutError(log)


def _is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("dataset", "switch", "starts"),
    [("synthetic", "on", True), ("synthetic", "off", False), ("open-bandit", "on", False)],
)
def test_a_push_runs_where_there_are_users_and_it_is_wanted(
    tmp_path, monkeypatch, dataset, switch, starts
) -> None:
    """It would end at once for want of a purpose, and the stack with it."""
    monkeypatch.setenv("RANKING_PUSH", switch)
    one = stack.Stack(Settings(var=tmp_path, datasets=dataset, push_port=0))
    started = {}
    monkeypatch.setattr(
        one.processes, "start", lambda name, command, *_: started.update({name: command})
    )
    one.start_pushes()
    assert set(started) == ({"push-synthetic"} if starts else set())
    if starts:
        assert "--follow" in started["push-synthetic"]
        assert f"--lake={tmp_path / 'lake'}" in started["push-synthetic"]
