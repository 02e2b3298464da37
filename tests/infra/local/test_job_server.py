"""The server that forks the stack's jobs: each is as if `python -m` had started it."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from infra.local import job_server

pytestmark = pytest.mark.process
ACCEPTS = 0x10000
"""A flag of the kernel's list of sockets."""

JOB = """
import colorsys, json, os, subprocess, sys, time
print("first line")
sys.stderr.write("to stderr\\n")
sys.stderr.flush()
if sys.argv[1] == "kill":
    os.kill(os.getpid(), int(sys.argv[2]))
if sys.argv[1] == "wait":
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    print(json.dumps([os.getpid(), child.pid]), flush=True)
    time.sleep(60)
print(json.dumps({
    "argv": sys.argv[1:], "cwd": os.getcwd(), "environment": dict(os.environ),
    "loaded": "wave" in sys.modules, "input": sys.stdin.read(), "main": __name__,
}))
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def interpreter(tmp_path, tmp_path_factory):
    """The program that the stack names, with a server behind it, in a folder with a module."""
    (tmp_path / "a_job.py").write_text(JOB)
    path = tmp_path_factory.mktemp("s") / "s"
    file = tmp_path / "bin" / "python"
    job_server.write_interpreter(file, path)
    server = [sys.executable, job_server.__file__, str(path), "wave"]
    with subprocess.Popen(server) as process:
        wait_until(lambda: listens(path))
        yield file
        process.terminate()


def listens(path: Path) -> bool:
    """A socket has its path before anybody can connect to it."""
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(one[-1] == str(path) and int(one[3], 16) & ACCEPTS for one in sockets[1:])


def wait_until(is_true) -> None:
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline, "not within ten seconds"
        time.sleep(0.02)


def start(interpreter, *arguments, flags=(), **options) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [interpreter, *flags, "-m", "a_job", *arguments],
        cwd=interpreter.parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        **options,
    )


def code_of(job: "subprocess.Popen[str]") -> int:
    job.communicate(timeout=20)
    return job.returncode


@pytest.mark.parametrize(("code", "flags"), [(0, ()), (99, ("-u",))])
def test_a_job_has_its_callers_arguments_environment_folder_and_files(interpreter, code, flags):
    """Started as Airflow does, or as torchrun starts a rank."""
    environment = {"PATH": os.environ["PATH"], "A_NAME": "a value"}
    job = start(interpreter, str(code), "--flag=x y", env=environment, flags=flags)
    out, err = job.communicate(timeout=20)
    first, last = out.splitlines()
    seen = json.loads(last)
    assert (job.returncode, first, err) == (code, "first line", "to stderr\n")
    assert seen["argv"] == [str(code), "--flag=x y"]
    assert seen["cwd"] == str(interpreter.parents[1])
    # The shell adds where it is, and Python its locale.
    assert {k: seen["environment"].get(k) for k in environment} == environment
    added = set(seen["environment"]) - set(environment)
    assert added <= {"PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"}
    assert seen["loaded"], "the library was not there before"
    assert (seen["input"], seen["main"]) == ("", "__main__")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_job_that_a_signal_ends_looks_so_to_its_caller(interpreter, number):
    job = start(interpreter, "kill", str(int(number)))
    job.communicate(timeout=20)
    assert job.returncode == -number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_and_all_that_it_started_end_with_their_caller(interpreter, number):
    with start(interpreter, "wait") as caller:
        assert caller.stdout.readline() == "first line\n"
        family = [psutil.Process(pid) for pid in json.loads(caller.stdout.readline())]
        caller.send_signal(number)
        wait_until(lambda: not any(process.is_running() for process in family))
        assert caller.wait(5) == -number


def test_an_inherited_lock_is_held_until_the_job_has_ended(interpreter, tmp_path):
    with (tmp_path / "lock").open("w") as lock, (tmp_path / "lock").open("w") as other:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with start(interpreter, "wait", pass_fds=[lock.fileno()]) as caller:
            caller.stdout.readline()
            pid = json.loads(caller.stdout.readline())[0]
            lock.close()
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.kill(pid, signal.SIGKILL)
            assert caller.wait(5) == -signal.SIGKILL
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_several_jobs_run_at_once(interpreter):
    with start(interpreter, "wait") as waiting:
        waiting.stdout.readline()
        assert code_of(start(interpreter, "0")) == 0
        assert waiting.poll() is None
        waiting.kill()


def test_without_its_server_a_job_runs_all_the_same(tmp_path):
    (tmp_path / "a_job.py").write_text(JOB)
    file = tmp_path / "bin" / "python"
    job_server.write_interpreter(file, tmp_path / "nobody")
    job = start(file, "7")
    out, _ = job.communicate(timeout=20)
    assert job.returncode == 7
    assert not json.loads(out.splitlines()[-1])["loaded"]


def test_a_malformed_call_is_given_up_and_the_next_one_answered(interpreter):
    path = interpreter.read_text().split('"')[5]
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(path)
        caller.sendall(b"12345678")
    assert code_of(start(interpreter, "0")) == 0
