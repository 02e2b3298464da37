"""What a fault is: how it happens on a day, by which alert it must be named, how it is healed."""

import abc
import contextlib
import dataclasses
import datetime
from collections.abc import Iterator
from typing import ClassVar

from infra.drills.life.runs import Run
from infra.drills.life.world import World


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a fault."""

    is_named: bool
    named_by: str
    """The alert and its runbook, or what else said so; what was seen instead, where nothing did."""
    is_healed: bool


class Fault(abc.ABC):
    """A fault of one kind on one day."""

    name: ClassVar[str]
    words: ClassVar[str]
    """What goes wrong, in a sentence."""
    alert: ClassVar[str]
    """That must name it."""
    looks_itself: ClassVar[bool] = False
    """Whether it has the monitors look at the day already."""
    first_day: ClassVar[int] = 1
    """Number of the first day on which it can be."""

    @classmethod
    def is_possible(cls, world: World) -> bool:
        """Whether this machine has what it takes."""
        return True

    def begin(self, world: World) -> None:  # noqa: B027 - most faults begin later
        """What is so before the first request of the day."""

    @abc.abstractmethod
    def happen(self, world: World, day: datetime.date) -> Outcome:
        """It happens, is named and healed; the day's run is done in the end."""

    def undo(self, world: World, day: datetime.date) -> None:  # noqa: B027 - as above
        """Leave nothing of it behind, wherever ``happen`` ended."""


class RunFault(Fault):
    """A fault that the day's own run meets, and that is taken away before the run is repeated."""

    task: ClassVar[str] = ""
    """That raises the alert; empty: any."""
    reason: ClassVar[str] = ""
    """Words that the alert's error must have."""
    clears_all: ClassVar[bool] = False
    """Whether the whole run is done again after healing, not only what failed."""

    def prepare(self, world: World, day: datetime.date) -> None:
        """What is so when the day's run begins; here the day has landed."""
        world.land(day)

    @contextlib.contextmanager
    def meanwhile(self, world: World) -> Iterator[None]:
        """What happens while the run works."""
        yield

    def heal(self, world: World, day: datetime.date) -> None:
        """Take the cause away, as a person does who has read the runbook."""

    def undo(self, world: World, day: datetime.date) -> None:
        """The cause is away."""
        self.heal(world, day)

    def happen(self, world: World, day: datetime.date) -> Outcome:
        """The day's run meets the fault, the cause is taken away, the run ends well."""
        self.prepare(world, day)
        run = world.runs.start(world.daily, day)
        with self.meanwhile(world):
            world.runs.wait(run)
        is_named, by = named(world, run, self.alert, task=self.task, reason=self.reason)
        self.heal(world, day)
        world.runs.clear(run, only_failed=not self.clears_all)
        return Outcome(is_named, by, is_healed=world.runs.wait(run) == "success")


def named(
    world: World, run: Run, alert: str, *, task: str = "", reason: str = ""
) -> tuple[bool, str]:
    """Whether a run raised an alert, which has a runbook; and what it raised.

    Args:
        world: In which it ran.
        run: The run.
        alert: That is expected.
        task: That must have raised it; empty: any.
        reason: Words that its error must have.
    """
    raised = world.runs.alerts(run)
    for one in raised:
        is_it = one.name == alert and one.task.startswith(task) and reason in one.error
        if is_it and world.has_runbook(one.runbook):
            return True, f"{one.name} ({one.runbook}) by {one.task}: {one.error[:160]}"
    return False, f"raised: {sorted({f'{one.name} by {one.task}' for one in raised})}"
