"""Faults of what runs: jobs that are killed, a disk, a lease, the scheduler."""

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import psutil

from infra.drills.life import disk
from infra.drills.life.deployment import DATASET
from infra.drills.life.faults.fault import Fault, Outcome, RunFault
from infra.drills.life.runs import Run
from infra.drills.life.world import World
from infra.local.airflow_client import ENDED, dag_of

_LOOK_SECONDS = 0.05
_NOTICED_SECONDS = 60.0


class KilledJob(RunFault):
    """A job that is killed in each of its tries, as by a machine without memory."""

    package: ClassVar[str]
    command: ClassVar[str]
    alert = "job-failed"
    reason = "SIGKILL"

    @contextlib.contextmanager
    def meanwhile(self, world: World) -> Iterator[None]:
        """SIGKILL for each process of the job, as soon as it is seen."""
        with repeated(lambda: self._kill(world)):
            yield

    def _kill(self, world: World) -> None:
        if job := world.job(self.package, self.command):
            with contextlib.suppress(psutil.NoSuchProcess):
                job.kill()


def killed(package: str, command: str, alert: str = "job-failed") -> type[KilledJob]:
    """The kind of fault that kills this job."""
    return type(
        f"Killed{command.title()}",
        (KilledJob,),
        {
            "name": f"killed-{command}",
            "words": f"Each try of {package} {command} is killed (SIGKILL).",
            "package": package,
            "command": command,
            "task": command,  # the names of tasks begin as their commands do
            "alert": alert,
        },
    )


class FullDisk(RunFault):
    """A disk without a free byte."""

    name, alert = "full-disk", "disk-full"
    words = "The disk of all data is full to the last byte."

    @classmethod
    def is_possible(cls, world: World) -> bool:
        """Only a disk of the drill's own is filled."""
        return world.has_own_disk

    @contextlib.contextmanager
    def meanwhile(self, world: World) -> Iterator[None]:
        """It is full as long as the run works, whatever is removed meanwhile."""
        with disk.full(world.data) as fill, repeated(fill):
            yield


class StuckLease(RunFault):
    """A run of another DAG that holds the data set's lease and does not end."""

    name, alert, reason = "stuck-lease", "lease-waits", "hangs__"
    words = "A run of another DAG holds the lease, and hangs."
    _holder: Run | None = None

    def prepare(self, world: World, day: datetime.date) -> None:
        """The day lands; a run that never works is the holder of the newest lease."""
        world.land(day)
        other = dag_of("upscale_dense", DATASET)  # paused: its run stays queued
        self._holder = world.runs.start_by_hand(other, day, name="hangs")
        world.runs.give_lease(dag_of("data_set_lease", DATASET), self._holder)

    def heal(self, world: World, day: datetime.date) -> None:
        """The run that hangs is marked as failed."""
        if self._holder is not None:
            world.runs.fail(self._holder)


class SchedulerKilled(Fault):
    """Airflow's scheduler, killed while a task works, and started again."""

    name, alert = "scheduler-killed", "scheduler unhealthy"
    words = "Airflow's scheduler is killed (SIGKILL) while a training runs, and started again."

    def undo(self, world: World, day: datetime.date) -> None:
        """The scheduler runs."""
        if not world.is_running("scheduler"):
            world.restart("scheduler")

    def happen(self, world: World, day: datetime.date) -> Outcome:
        """The run goes on by itself."""
        world.land(day)
        run = world.runs.start(world.daily, day)
        while world.job("training", "train") is None:
            if world.runs.state(run) in ENDED:
                return Outcome(False, "the run ended, and no training was seen", is_healed=False)
            time.sleep(_LOOK_SECONDS)
        scheduler = world.process("scheduler")
        for process in (scheduler, *scheduler.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        try:
            is_named = self._is_noticed(world)
        finally:
            self.undo(world, day)
        is_healed = world.runs.wait(run) == "success"
        return Outcome(is_named, "Airflow's health: scheduler unhealthy", is_healed)

    def _is_noticed(self, world: World) -> bool:
        deadline = time.monotonic() + _NOTICED_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if not world.runs.is_healthy("scheduler"):
                    return True
            time.sleep(1)
        return False


@contextlib.contextmanager
def repeated(work: Callable[[], object]) -> Iterator[None]:
    """Do something again and again in the block."""
    stopping = threading.Event()

    def work_on() -> None:
        while not stopping.wait(_LOOK_SECONDS):
            work()

    thread = threading.Thread(target=work_on)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
