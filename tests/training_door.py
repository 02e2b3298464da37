"""The training package's command line, and scripts of tests under torchrun, as processes."""

import json
import os
import subprocess
import sys
from pathlib import Path


def door(*arguments: object, code: int = 0) -> dict:
    """The summary of one verb, or where it must fail its log as ``error``."""
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]) if code == 0 else {"error": done.stderr}


def torchrun(script: Path, *arguments: object, ranks: int = 2) -> str:
    """Run a script on so many ranks of one thread each; returns its stdout."""
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}")
    environment = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **os.environ}
    done = subprocess.run(
        [sys.executable, *launcher, str(script), *map(str, arguments)],
        env={**environment, "PYTHONPATH": str(script.parents[2]), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
