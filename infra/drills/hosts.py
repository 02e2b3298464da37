"""``make drill-hosts``: one training over two hosts, of which one is killed or cut off.

The hosts are network namespaces of this machine, which share the data and nothing else. The same
training with two ranks on one host, which nobody disturbs, is the reference. Then a host is killed
and comes back, which the other one waits for; or a host is killed, or the link is cut, for good:
the hosts that are left must end by themselves, with an error, and all are started again. Each run
must end with the reference's bits, by the same examples in every step.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from features.options import from_flags, option, parse
from infra.bench.jobs import prepare_examples
from infra.drills.kill_training import (
    DATASET,
    LAST,
    SIZES,
    Run,
    compare,
    summary_of,
    wait_for,
)
from infra.drills.namespaces import ADDRESSES, Namespaces
from infra.local.settings import REPOSITORY

RECIPE = "wukong-tiny"
LOST_SECONDS = 20
"""After which the drill's ranks and hosts count as lost."""
_ALIKE = {"OMP_NUM_THREADS": "1"}
"""For every rank: with another number of threads sums are rounded otherwise."""
_LONGEST_SECONDS = 4 * LOST_SECONDS
"""Until a host that has lost the other must have ended: its ranks wait once, its launcher twice."""


@from_flags
class HostsRequest:
    """Train over two hosts, kill one of them and cut them apart, and compare the bits."""

    rounds: int = option("times that each disturbance is tried", default=2)


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """What happens to a training."""

    host: int | None
    """Which host is killed; None: the link is cut."""
    is_for_good: bool
    """Whether it takes a start of all hosts to go on."""


DISTURBANCES = (
    Disturbance(1, is_for_good=False),
    Disturbance(1, is_for_good=True),
    Disturbance(0, is_for_good=True),
    Disturbance(None, is_for_good=True),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a disturbed training ended."""

    errors: list[str]
    """Of the hosts that ended by themselves."""
    seconds: float
    """From the disturbance until they had ended, or until the training had, where it went on."""
    is_equal: bool
    """Whether its bits are the reference's, by the same examples in every step."""


class HostedRun(Run):
    """One training of the last day with a rank on each of two hosts."""

    def __init__(self, lake: Path, folder: Path, hosts: Namespaces) -> None:
        """Name its folders; nothing is started."""
        super().__init__(lake, folder, len(ADDRESSES), RECIPE)
        self.hosts = hosts

    @contextlib.contextmanager
    def on_host(self, number: int) -> Iterator["subprocess.Popen[str]"]:
        """The command on one host, with a disk of its own."""
        disk = self.folder / f"disk-{number}"
        (disk / "tmp").mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            **_ALIKE,
            "PET_NNODES": str(len(ADDRESSES)),
            "PET_NPROC_PER_NODE": "1",
            "PET_NODE_RANK": str(number),
            "PET_MASTER_ADDR": ADDRESSES[0],
            "RANKING_RUN": f"drill/{self.folder.name}",
            "RANKING_VAR": str(disk),
            "TMPDIR": str(disk / "tmp"),
            "RANKING_LOST_SECONDS": str(LOST_SECONDS),
        }
        with contextlib.ExitStack() as stack:
            with self.hosts.inside(number):
                job = stack.enter_context(self.started(environment))
            yield job

    @contextlib.contextmanager
    def on_all_hosts(self) -> Iterator[list["subprocess.Popen[str]"]]:
        """The command on every host."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.on_host(n)) for n in range(len(ADDRESSES))]

    def disturbed(self, disturbance: Disturbance, *, step: int) -> tuple[list[str], float]:
        """Train to the end, disturbed at a step; the errors, and the seconds, of an outcome."""
        with self.on_all_hosts() as jobs, contextlib.ExitStack() as stack:
            if not wait_for(jobs[0], self, step):
                raise ChildProcessError(f"{self.folder}: the training ended before step {step}")
            began = time.monotonic()
            if (host := disturbance.host) is None:
                self.hosts.cut()
            else:
                self.hosts.kill(host)
                jobs.pop(host)
                if not disturbance.is_for_good:
                    jobs.append(stack.enter_context(self.on_host(host)))
                    self._end(jobs)
                    return [], time.monotonic() - began
            errors = [_error_of(job) for job in jobs]
            seconds = time.monotonic() - began
        self.hosts.mend()
        with self.on_all_hosts() as jobs:
            self._end(jobs)
        return errors, seconds

    def _end(self, jobs: Sequence["subprocess.Popen[str]"]) -> None:
        for job in jobs:
            summary_of(job)


def _error_of(job: "subprocess.Popen[str]") -> str:
    """The error with which a job ends by itself, in time."""
    output, _ = job.communicate(timeout=_LONGEST_SECONDS)
    return str(json.loads(output.splitlines()[-1])["error"])


def bits(run: Run) -> dict[str, str]:
    """SHA-256 of each rank's part of the checkpoint; its metadata names a folder, and differs."""
    (manifest,) = (run.folder / "checkpoints").glob(f"{DATASET}/*/manifest.json")
    files: dict[str, str] = json.loads(manifest.read_text())["files"]
    return {name: value for name, value in files.items() if name.endswith(".distcp")}


def drill(
    lake: Path,
    folder: Path,
    *,
    rounds: int,
    disturbances: Sequence[Disturbance] = DISTURBANCES,
) -> list[Outcome]:
    """Disturb a training in each way so many times, at steps spread over it."""
    reference = Run(lake, folder / "reference", len(ADDRESSES), RECIPE)
    with reference.started({**os.environ, **_ALIKE}) as job:
        steps = summary_of(job)["steps"]
    hosts, outcomes = Namespaces(), []
    with hosts.joined():
        for number in range(rounds * len(disturbances)):
            disturbance = disturbances[number % len(disturbances)]
            step = steps * (number // len(disturbances) + 1) // (rounds + 1)
            run = HostedRun(lake, folder / f"disturbed-{number}", hosts)
            errors, seconds = run.disturbed(disturbance, step=step)
            is_equal = bits(run) == bits(reference) and compare(reference, run) == (0, 0)
            outcomes.append(Outcome(errors=errors, seconds=seconds, is_equal=is_equal))
            sys.stderr.write(f"step {step} of {steps}, {disturbance}: {outcomes[-1]}\n")
    return outcomes


def main() -> None:
    """Prepare a lake, drill, print one JSON object."""
    request = parse(HostsRequest, prog="python -m infra.drills.hosts")
    folder = REPOSITORY / "var" / "hosts-drill"
    lake = prepare_examples(DATASET, folder, last=LAST, sizes=SIZES)
    began = time.monotonic()
    outcomes = drill(lake, folder / f"runs-{os.getpid()}", rounds=request.rounds)
    is_cut = [one.host is None for one in DISTURBANCES] * request.rounds
    found = {
        "hosts": len(ADDRESSES),
        "killed": is_cut.count(False),
        "cut": is_cut.count(True),
        "bits_equal": all(outcome.is_equal for outcome in outcomes),
        "lost_seconds": LOST_SECONDS,
        "most_seconds_to_end": round(max(o.seconds for o in outcomes if o.errors), 1),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
