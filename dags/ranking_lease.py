"""The run lease: which DAG run may write a data set, so that two runs never interleave.

A backfill, a schedule and a person can each start a run for the same data set, and Airflow counts
their active runs apart. So the first job of a run takes the data set's lease, and the run keeps it
until it ends: whoever comes next asks Airflow for the holder's state, and takes over only from a
run that is over. A run that crashed is over too, so it blocks nobody; but while one of its
processes is still alive (each holds a shared lock that it inherited), the lease stays with it.

Days go in order: a run does not take the lease while an earlier day is running. A run that
already holds it never waits for an earlier one, so two runs cannot wait for each other.
"""

import dataclasses
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A DAG run by its two names."""

    dag_id: str
    run_id: str

    def __str__(self) -> str:
        """For messages."""
        return f"{self.dag_id}/{self.run_id}"


class LeaseHeldError(Exception):
    """Another run goes first; the message says which and why."""


def take(
    lease: Path,
    *,
    run: Run,
    is_active: Callable[[Run], bool],
    earlier: Callable[[], str | None],
) -> None:
    """Make ``run`` the holder of the lease, or raise LeaseHeldError.

    Args:
        lease: File that names the holder; its folder is made.
        run: Who asks; a holder keeps what it has.
        is_active: Whether Airflow still runs, or will run, another run.
        earlier: Name of a run of an earlier day that must go first, if there is one.
    """
    lease.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(lease.with_suffix(".lock")):
        holder = holder_of(lease)
        if holder == run:
            return
        if holder is not None and is_active(holder):
            raise LeaseHeldError(f"run {holder} holds {lease.name} and is not over")
        if holder is not None and _has_live_process(lease):
            raise LeaseHeldError(f"run {holder} is over, but a process of it is still alive")
        if (first := earlier()) is not None:
            raise LeaseHeldError(f"run {first} of an earlier day goes first")
        _write(lease, run)


def holder_of(lease: Path) -> Run | None:
    """The run that a lease file names."""
    if not lease.exists():
        return None
    return Run(**json.loads(lease.read_text(encoding="utf-8")))


@contextmanager
def process_lock(lease: Path) -> Iterator[int]:
    """File descriptor for a job to inherit: as long as a copy is open, the run has a process."""
    with _jobs_file(lease).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield file.fileno()


def _write(lease: Path, run: Run) -> None:
    draft = lease.with_suffix(".draft")
    draft.write_text(json.dumps(dataclasses.asdict(run)), encoding="utf-8")
    os.replace(draft, lease)


def _has_live_process(lease: Path) -> bool:
    with _jobs_file(lease).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _jobs_file(lease: Path) -> Path:
    return lease.with_suffix(".jobs")


@contextmanager
def _exclusive(path: Path) -> Iterator[IO[str]]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
