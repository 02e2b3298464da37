"""Faults of what runs: jobs that are killed, a disk, a lease, the scheduler."""

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import psutil

from infra.drills.life import disk
from infra.drills.life.faults.fault import Fault, Outcome
from infra.drills.life.runs import Run
from infra.drills.life.world import DATASET, World
from infra.local.airflow_client import dag_of

_LOOK_SECONDS = 0.05
_NOTICED_SECONDS = 60.0


class KilledJob(Fault):
    """A job that is killed in each of its tries, as by a machine without memory."""

    package: ClassVar[str]
    command: ClassVar[str]
    alert = "job-failed"

    @contextlib.contextmanager
    def meanwhile(self, world: World, run: Run) -> Iterator[None]:
        """SIGKILL for each process of the job, as soon as it is seen."""
        stopping = threading.Event()
        thread = threading.Thread(target=self._kill_on, args=(world, stopping))
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def heal(self, world: World, day: datetime.date) -> None:
        """Nobody kills it any more."""

    def _kill_on(self, world: World, stopping: threading.Event) -> None:
        while not stopping.wait(_LOOK_SECONDS):
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
            "alert": alert,
        },
    )


class FullDisk(Fault):
    """A disk without a free byte."""

    name, alert = "full-disk", "disk-full"
    words = "The disk of all data is full to the last byte."

    @classmethod
    def is_possible(cls, world: World) -> bool:
        """Only a disk of the drill's own is filled."""
        return world.has_own_disk

    @contextlib.contextmanager
    def meanwhile(self, world: World, run: Run) -> Iterator[None]:
        """It is full as long as the run works."""
        with disk.full(world.data):
            yield

    def heal(self, world: World, day: datetime.date) -> None:
        """There is room again."""


class StuckLease(Fault):
    """A run of another DAG that holds the data set's lease and does not end."""

    name, alert = "stuck-lease", "lease-waits"
    words = "A run of another DAG holds the lease, and hangs."

    def prepare(self, world: World, day: datetime.date) -> None:
        """The day lands; a run that never works is the holder of the newest lease."""
        world.land(day)
        other = dag_of("upscale_dense", DATASET)  # paused: its run stays queued
        self._holder = world.runs.start(other, day, name="hangs")
        world.runs.give_lease(dag_of("data_set_lease", DATASET), self._holder)

    def heal(self, world: World, day: datetime.date) -> None:
        """The run that hangs is marked as failed."""
        world.runs.fail(self._holder)


class SchedulerKilled(Fault):
    """Airflow's scheduler, killed while a task works, and started again."""

    name, alert = "scheduler-killed", "scheduler unhealthy"
    words = "Airflow's scheduler is killed (SIGKILL) while a training runs, and started again."

    def happen(self, world: World, day: datetime.date) -> Outcome:
        """The run goes on by itself."""
        world.land(day)
        run = world.runs.start(world.daily, day)
        while world.job("training", "train") is None:
            if world.runs.state(run) == "failed":
                return Outcome(False, "the run failed before the training", is_healed=False)
            time.sleep(_LOOK_SECONDS)
        scheduler = world.process("scheduler")
        for process in (scheduler, *scheduler.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        is_named = self._is_noticed(world)
        world.restart("scheduler")
        state = world.runs.wait(run)
        if state != "success":
            world.runs.clear(run)
            state = world.runs.wait(run)
        return Outcome(is_named, "Airflow's health: scheduler unhealthy", state == "success")

    def heal(self, world: World, day: datetime.date) -> None:
        """The scheduler is started again."""

    def _is_noticed(self, world: World) -> bool:
        deadline = time.monotonic() + _NOTICED_SECONDS
        while time.monotonic() < deadline:
            if not world.runs.is_healthy("scheduler"):
                return True
            time.sleep(1)
        return False
