"""In the image of trainings: a plan of the tables, and native code for an artifact."""

import json
import subprocess
import sys


def run(command: str, *options: str) -> dict[str, object]:
    """The summary of a command of training."""
    started = [sys.executable, "-m", "training", command, *options]
    done = subprocess.run(started, stdout=subprocess.PIPE, text=True, check=True)
    summary: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    print(summary)
    return summary


run("plan", "--dataset=synthetic", "--recipe=wukong-tiny", "--devices=cpu", "--ranks=2")
run("compile", "--artifact=/trial/artifact", "--compiled=/tmp/compiled")
