"""What a canary needs of its target: a service on a cluster, or one server."""

import enum
from typing import Protocol

from features.cli import FailedError
from serving.release.metrics_window import Samples
from serving.routing.traffic_split import Versions
from training.registry import aliases

Reading = dict[str, Samples]
"""Metrics by pod or server."""
_MOST_CHARACTERS = 500
"""Of a reason in a tag."""


class Outcome(enum.StrEnum):
    """What a try comes to."""

    PASSED = "passed"
    BROKEN = "broken"
    """A check was shown to be broken."""
    UNDECIDED = "undecided"
    """A check was not shown to be kept in four times the requests, or in the step's time."""
    NO_TRAFFIC = "no traffic"
    """Too few requests came for any verdict."""


class CanaryTargetError(FailedError):
    """The target returned an error, or could not be reached; the text says what and why."""


class ConflictError(CanaryTargetError):
    """Another person or program changes the same thing."""


class NotReadyError(CanaryTargetError):
    """The share is not in force in time; the text says what is missing."""


class CanaryTarget(Protocol):
    """Where one version is tried while another one serves."""

    @property
    def version(self) -> str:
        """What is tried."""
        ...

    @property
    def pause_seconds(self) -> float:
        """Between two looks."""
        ...

    @property
    def quiet_seconds(self) -> float | None:
        """After so long with far too few requests there is no traffic, which is no failure here.

        None: to be without traffic is a failure.
        """
        ...

    def begin(self) -> str:
        """The control, in words; nothing changes.

        Raises:
            ValueError: No canary of this version can begin here.
        """
        ...

    def ask(self, percent: int) -> object:
        """Ask for a share of the traffic; the change that ``wait`` waits for."""
        ...

    def wait(self, change: object, *, percent: int, timeout_seconds: float) -> None:
        """Return when the share is in force and the canary ready; NotReadyError when it is not."""
        ...

    def read(self) -> tuple[Reading, Reading]:
        """Metrics of the canary, and of the control, until now."""
        ...

    def roll_back(self) -> None:
        """Give all traffic to the control, whatever the canary's state."""
        ...

    def conclude(self, outcome: Outcome, reason: str = "") -> None:
        """Write down what the try came to, where a promotion looks for it."""
        ...


def note(registry: Versions, version: str, outcome: Outcome, reason: str) -> None:
    """Have the registry say what a version's canary came to.

    One that did not hold is marked as rolled back, as by hand: a re-run must not promote it.
    """
    registry.set_tag(version, aliases.VERDICT, outcome.value)
    if outcome in {Outcome.BROKEN, Outcome.UNDECIDED}:
        text = f"by its canary: {reason}"
        registry.set_tag(version, aliases.ROLLED_BACK, text[:_MOST_CHARACTERS])
