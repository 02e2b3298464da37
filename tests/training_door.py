"""The training package's command line as a process, for tests."""

import json
import subprocess
import sys


def door(*arguments: object, code: int = 0) -> dict:
    """The summary of one verb, or where it must fail its log as ``error``."""
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]) if code == 0 else {"error": done.stderr}
