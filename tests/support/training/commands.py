"""The training package's command line, and scripts of tests on several ranks, as processes."""

import json
from pathlib import Path

from support import forks


def run_command(*arguments: object, code: int = 0) -> dict:
    """The summary of one command, or where it must fail its log as ``error``."""
    done = forks.run(["-m", "training", *map(str, arguments)])
    assert done.returncode == code, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]) if code == 0 else {"error": done.stderr}


def run_script(script: Path, *arguments: object) -> dict:
    """What a script prints on its last line."""
    done = forks.run([str(script), *map(str, arguments)])
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def torchrun(script: Path, *arguments: object, ranks: int = 2) -> str:
    """Run a script on so many ranks of one thread each; returns its stdout."""
    done = forks.run_ranks([str(script), *map(str, arguments)], ranks)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
