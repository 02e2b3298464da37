"""Faults of what serves, under load."""

import abc
import contextlib
import datetime
import shutil
import threading
import time
from collections.abc import Iterator

import psutil

from infra.drills.life.deployment import NUM_WORKERS
from infra.drills.life.faults.fault import Fault, Outcome, named
from infra.drills.life.recorder import has_promtool
from infra.drills.life.world import World

_SCRAPES = 6
"""Reads of the metrics during a fault."""
_QUIET_LOOKS = 20
"""Of as many reads each, for an alert that fires already: on a machine that is too busy the store
answers late, and what an alert that fires says of a fault cannot be seen."""
_HEALED_SECONDS = 60.0


class _Serving(Fault):
    """A fault of the endpoint; the day's run is not disturbed."""

    metrics: str
    """Names of the metrics that the alert's rule reads."""

    @classmethod
    def is_possible(cls, world: World) -> bool:
        """The rules are evaluated by Prometheus' own tool."""
        return has_promtool()

    def heal(self, world: World) -> None:
        """Take the cause away."""

    def happen(self, world: World, day: datetime.date) -> Outcome:
        """Break it under load, see the alert, heal it, run the day."""
        with loaded(world):
            since, fires_before = self._begin(world)
            self.strike(world)
            world.recorder.wait(_SCRAPES)
        fires = world.recorder.firing(self.alert, metrics=self.metrics, since=since)
        self.heal(world)
        is_healed = self.is_well(world) and world.answers_whole()
        world.land(day)
        run = world.runs.start(world.daily, day)
        state = world.runs.wait(run)
        by = f"{self.alert} by the rules of infra/grafana" if fires else "no rule fires"
        by += "; it fired before, too" if fires_before else ""
        return Outcome(fires and not fires_before, by, is_healed=is_healed and state == "success")

    def _begin(self, world: World) -> tuple[int, bool]:
        """Wait until the alert does not fire: since when, and whether it still does."""
        for _ in range(_QUIET_LOOKS):
            since = world.recorder.moment()
            world.recorder.wait(_SCRAPES)
            if not world.recorder.firing(self.alert, metrics=self.metrics, since=since):
                return since, False
        return since, True

    @abc.abstractmethod
    def strike(self, world: World) -> None:
        """What goes wrong."""

    @abc.abstractmethod
    def is_well(self, world: World) -> bool:
        """Whether the endpoint answers as before."""


class WorkerKilled(_Serving):
    """A worker of the endpoint that crashes."""

    name, alert = "worker-killed", "workers-restart"
    words = "A process of the endpoint is killed (SIGKILL) under load."
    metrics = "ranking_worker_restarts_total"

    def strike(self, world: World) -> None:
        """SIGKILL for one of the workers."""
        workers(world)[0].kill()

    def is_well(self, world: World) -> bool:
        """It was replaced."""
        deadline = time.monotonic() + _HEALED_SECONDS
        while len(workers(world)) < NUM_WORKERS and time.monotonic() < deadline:
            time.sleep(0.5)
        return len(workers(world)) == NUM_WORKERS


class StoreLost(_Serving):
    """A Redis that comes back without what it had."""

    name, alert = "store-lost", "store-unavailable"
    words = "The online store is killed (SIGKILL), and comes back empty."
    metrics = "ranking_(flagged_answers|requests)_total"
    first_day = 2

    @classmethod
    def is_possible(cls, world: World) -> bool:
        """Where there is a Redis."""
        return world.redis is not None and super().is_possible(world)

    def strike(self, world: World) -> None:
        """The server and its files are gone."""
        redis = world.redis
        assert redis is not None
        assert redis.process is not None
        redis.process.kill()
        redis.process.wait()
        shutil.rmtree(world.folder / "redis")
        (world.folder / "redis").mkdir()

    def heal(self, world: World) -> None:
        """It is started again, and filled as its runbook says."""
        redis = world.redis
        assert redis is not None
        redis.start()
        newest = world.lake().days("user_state")
        span = (f"--date={newest[0]}", f"--to={newest[-1]}")
        world.jobs.run("materialize", "features", "materialize", *span, folders="lake store")

    def undo(self, world: World, day: datetime.date) -> None:
        """It runs, and is filled."""
        if world.redis and world.redis.process and world.redis.process.poll() is not None:
            self.heal(world)

    def is_well(self, world: World) -> bool:
        """The server runs; that answers are whole is looked at for each fault."""
        redis = world.redis
        return redis is not None and redis.process is not None and redis.process.poll() is None


class TrafficDrift(Fault):
    """Requests that are not like those of the weeks before."""

    name, alert = "traffic-drift", "drift"
    looks_itself = True
    words = "All requests of a day come from one kind of device."
    first_day = 22

    @classmethod
    def is_possible(cls, world: World) -> bool:
        """Where answers are logged by the drill's days."""
        return world.clock.is_there

    def begin(self, world: World) -> None:
        """From the day's first request on."""
        world.traffic.device = "tablet"

    def undo(self, world: World, day: datetime.date) -> None:
        """The next requests are as usual."""
        world.traffic.device = None

    def happen(self, world: World, day: datetime.date) -> Outcome:
        """The day is served, then looked at."""
        world.land(day)
        run = world.runs.start(world.daily, day)
        state = world.runs.wait(run)
        monitored = world.look_at(day)
        world.runs.wait(monitored)
        self.undo(world, day)
        is_named, by = named(world, monitored, self.alert, reason="device")
        return Outcome(is_named, by, is_healed=state == "success")


@contextlib.contextmanager
def loaded(world: World) -> Iterator[None]:
    """Two callers ask without a pause in the block."""
    stopping = threading.Event()

    def ask_on() -> None:
        while not stopping.is_set():
            world.traffic.ask()

    threads = [threading.Thread(target=ask_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def workers(world: World) -> list[psutil.Process]:
    """The processes that answer."""
    found = []
    for process in world.process("endpoint").children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "serving.processes.worker" in process.cmdline():
                found.append(process)
    return found
