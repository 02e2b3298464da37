"""``make drill-train``: kill -9 ranks of a training at random moments, and report what was lost.

A run that nobody disturbs is the reference. Then the same run is killed again and again, one rank
(torchrun starts all of them again) or everything at once (the job is started again, as Airflow
does), until it ends; the ids of the examples of every step, and the loss on the holdout, are
compared with the reference's.
"""

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from features.options import from_flags, option, parse
from infra.bench.jobs import prepare_examples
from infra.local.settings import REPOSITORY

DATASET, LAST = "synthetic", "2025-01-06"
SIZES = ("--rows=30000", "--users=600", "--items=300", "--days=6")
RECIPE = "wukong-small"
SAVE_EVERY = 20
KILLS_OF_A_RUN = 5
_POLL_SECONDS = 0.02


@from_flags
class DrillRequest:
    """Kill a training again and again, and report what was lost."""

    kills: int = option("how many", default=20)
    ranks: int = option("processes", default=2)


class KilledError(Exception):
    """The job ended by a kill of ours."""


class Run:
    """One training of the last day, in a folder of its own."""

    def __init__(self, lake: Path, folder: Path, ranks: int, recipe: str = RECIPE) -> None:
        """Name its folders; nothing is started."""
        self.folder = folder
        self.ids = folder / "ids"
        self.command = [
            *(sys.executable, "-m", "training", "train", f"--dataset={DATASET}"),
            *(f"--lake={lake}", f"--date={LAST}", f"--recipe={recipe}", f"--ranks={ranks}"),
            *(f"--{name}={folder / name}" for name in ("checkpoints", "reports")),
            # The undisturbed run makes the database: a job killed meanwhile would leave half of it.
            f"--tracking={folder.parent / 'tracking'}",
            *(f"--checkpoint-steps={SAVE_EVERY}", f"--id-log={self.ids}"),
        ]

    @contextlib.contextmanager
    def started(
        self, environment: Mapping[str, str] = os.environ
    ) -> Iterator["subprocess.Popen[str]"]:
        """The job in a process group of its own; nothing of it is left behind."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("a") as log:
            job = subprocess.Popen(
                self.command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
            try:
                yield job
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job.pid, signal.SIGKILL)
                job.wait()

    def step(self) -> int:
        """The last step that any attempt has taken."""
        steps = [0]
        for path in (self.folder / "checkpoints").glob(f"{DATASET}/.running-*/*/last_step"):
            with contextlib.suppress(OSError, ValueError):
                steps.append(int(path.read_text()))
        return max(steps)

    def trained_ids(self) -> list[tuple[int, int]]:
        """(step, example id) of all ranks, in order: what entered the surviving weights."""
        found = []
        for path in sorted(self.ids.glob("rank-*.jsonl")):
            for line in path.read_text().splitlines():
                step = json.loads(line)
                found += [(step["step"], example) for example in step["ids"]]
        return sorted(found)


def summary_of(job: "subprocess.Popen[str]") -> dict[str, Any]:
    """The job's last line, once it has ended."""
    output, _ = job.communicate()
    if job.returncode == -signal.SIGKILL:
        raise KilledError
    if job.returncode != 0:
        raise ChildProcessError(f"training ended with {job.returncode}: {output[-500:]}")
    return dict(json.loads(output.splitlines()[-1]))


def killed(
    run: Run, kills: int, total_steps: int, chance: random.Random
) -> tuple[dict[str, Any], int]:
    """Train to the end through up to ``kills`` kills; the last summary, and how many there were.

    One rank alone and everything at once take turns.
    """
    done = 0
    while True:
        with run.started() as job:
            while done < kills and run.step() < total_steps:
                if not wait_for(job, run, chance.randint(run.step() + 1, total_steps)):
                    break
                time.sleep(chance.random() * 0.2)
                ranks = _ranks(job)
                if not ranks:
                    continue
                done += 1
                if done % 2:
                    _kill(chance.choice(ranks))
                    continue
                os.killpg(job.pid, signal.SIGKILL)
                for rank in ranks:
                    _kill(rank)
                break
            with contextlib.suppress(KilledError):
                return summary_of(job), done


def wait_for(job: "subprocess.Popen[str]", run: Run, step: int) -> bool:
    """Wait for a step; False when the run ended before it."""
    while run.step() < step:
        if job.poll() is not None:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _ranks(job: "subprocess.Popen[str]") -> list[psutil.Process]:
    """What torchrun, the job's child, has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [rank for one in psutil.Process(job.pid).children() for rank in one.children()]
    return []


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def compare(reference: Run, other: Run) -> tuple[int, int]:
    """Examples of the reference that the other run lost, and those that it repeated."""
    wanted = collections.Counter(reference.trained_ids())
    found = collections.Counter(other.trained_ids())
    return (wanted - found).total(), (found - wanted).total()


def drill(lake: Path, folder: Path, *, kills: int, ranks: int, seed: int = 0) -> dict[str, Any]:
    """Kill this many times; returns the figures."""
    chance = random.Random(seed)
    reference = Run(lake, folder / "reference", ranks)
    with reference.started() as job:
        expected = summary_of(job)
    lost = repeated = done = number = 0
    difference = 0.0
    while done < kills:
        now = min(KILLS_OF_A_RUN, kills - done)
        number += 1
        run = Run(lake, folder / f"killed-{number}", ranks)
        found, happened = killed(run, now, expected["steps"], chance)
        missing, extra = compare(reference, run)
        lost, repeated, done = lost + missing, repeated + extra, done + happened
        gap = abs(found["metrics"]["log_loss"] - expected["metrics"]["log_loss"])
        difference = max(difference, gap)
        sys.stderr.write(
            f"{done} of {kills} kills: {missing} examples lost, {extra} repeated, log loss "
            f"{found['metrics']['log_loss']:.9f} (undisturbed "
            f"{expected['metrics']['log_loss']:.9f})\n"
        )
    return {
        "kills": done,
        "ranks": ranks,
        "steps": expected["steps"],
        "examples": len(reference.trained_ids()),
        "examples_lost": lost,
        "examples_repeated": repeated,
        "max_loss_difference": difference,
    }


def main() -> None:
    """Prepare a lake, drill, print one JSON object."""
    request = parse(DrillRequest, prog="python -m infra.drills.kill_training")
    folder = REPOSITORY / "var" / "train-drill"
    lake = prepare_examples(DATASET, folder, last=LAST, sizes=SIZES)
    runs = folder / f"runs-{os.getpid()}"
    print(json.dumps(drill(lake, runs, kills=request.kills, ranks=request.ranks)))


if __name__ == "__main__":
    main()
