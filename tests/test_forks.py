"""A forked program is as `python` would have started it, with the libraries loaded."""

import json
import os
import signal
import wave  # noqa: F401 - the program finds it loaded

import pytest
from support import forks
from support.serving.running_server import wait_until

pytestmark = pytest.mark.process

PROGRAM = """
import json, os, subprocess, sys
training = [sys.executable, "-m", "training", sys.argv[1]]
started = subprocess.Popen(training, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
out, err = started.communicate()
print(json.dumps({
    "arguments": sys.argv[1:], "main": __name__, "name": os.environ.get("A_NAME"),
    "site": os.environ.get("A_SITE"), "is_loaded": "wave" in sys.modules,
    "training": [started.returncode, "COMMAND" in out, err],
}))
sys.stderr.write("to stderr")
sys.exit(7)
"""


def test_a_program_has_its_arguments_environment_and_exit_code(tmp_path):
    """And starts one that is forked in turn, whose output it reads to the end."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['A_SITE'] = 'customized'")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "A_NAME": "a value", "PYTHONPATH": paths}
    done = forks.run([str(tmp_path / "program.py"), "--help"], environment)
    assert (done.returncode, done.stderr) == (7, "to stderr")
    assert json.loads(done.stdout) == {
        "arguments": ["--help"],
        "main": "__main__",
        "name": "a value",
        "site": "customized",
        "is_loaded": True,
        "training": [0, True, ""],
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_a_program(tmp_path, number):
    script, out = tmp_path / "waits.py", tmp_path / "out"
    script.write_text("import time; print('begun', flush=True); time.sleep(60)")
    process = forks.start([str(script)], os.environ, stdout=out, stderr=out)
    wait_until(lambda: out.exists() and out.read_text() == "begun\n")
    os.kill(process.pid, number)
    process.join(10)
    assert process.exitcode == -number
