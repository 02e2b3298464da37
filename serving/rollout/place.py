"""What a canary needs of the place where it is tried: a service on a cluster, or one server."""

from typing import Protocol

from features.door import FailedError
from serving.rollout.observation import Samples

Reading = dict[str, Samples]
"""Counters by pod or server."""


class PlaceError(FailedError):
    """The place refused, or could not be reached; the text says what and why."""


class ConflictError(PlaceError):
    """Somebody else steers the same thing."""


class NotReadyError(PlaceError):
    """What was asked for is not so in time; the text says what is missing."""


class Place(Protocol):
    """Where one version is tried beside the one that serves."""

    @property
    def version(self) -> str:
        """What is tried."""
        ...

    @property
    def pause_seconds(self) -> float:
        """Between two looks."""
        ...

    def begin(self) -> str:
        """The control, in words; nothing changes.

        Raises:
            ValueError: No canary of this version can begin here.
        """
        ...

    def ask(self, percent: int) -> object:
        """Ask for a share of the traffic; what ``wait`` needs to know it by."""
        ...

    def wait(self, asked: object, *, percent: int, timeout_seconds: float) -> None:
        """Return when the share is in force and the canary ready; NotReadyError when it is not."""
        ...

    def read(self) -> tuple[Reading, Reading]:
        """Counters of the canary, and of the control, until now."""
        ...

    def roll_back(self) -> None:
        """Give all traffic to the control, whatever the canary's state."""
        ...
