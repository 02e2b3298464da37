"""What a canary needs of its target: a service on a cluster, or one server."""

import abc
import dataclasses
import enum

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
    """The target fails, is not ready, or is changed by another one; the text says what and why."""


class TargetLostError(CanaryTargetError):
    """The target was deleted, or has another rollout's canary: nothing of this one is left."""


@dataclasses.dataclass(kw_only=True)
class CanaryTarget(abc.ABC):
    """Where one version is tried while another one serves.

    Args:
        version: What is tried.
        registry: Whose version it is; None: of none, as far as is known here.
        pause_seconds: Between two looks.
        quiet_seconds: After so long with far too few requests there is no traffic, which is no
            failure here. None: to be without traffic is a failure.
    """

    version: str
    registry: Versions | None
    pause_seconds: float
    quiet_seconds: float | None

    def begin(self) -> str:
        """The control, in words; no share changes.

        Raises:
            ValueError: No canary of this version can begin here.
        """
        control = self._find_control()
        if self.registry is not None:
            self.registry.set_tag(self.version, aliases.VERDICT, None)
        return control

    @abc.abstractmethod
    def _find_control(self) -> str: ...

    @abc.abstractmethod
    def shift(self, percent: int, *, timeout_seconds: float) -> None:
        """Give the canary a share of the traffic; return when it is ready and has it.

        Raises:
            TargetLostError: Somebody else's change came first.
            CanaryTargetError: It is not so in time, or was rejected.
        """

    @abc.abstractmethod
    def read(self) -> tuple[Reading, Reading]:
        """Metrics of the canary, and of the control, until now."""

    @abc.abstractmethod
    def roll_back(self) -> None:
        """Give all traffic to the control, whatever the canary's state; return when it has it.

        Raises:
            TargetLostError: There is nothing to take back any more.
            CanaryTargetError: It could not be done or shown; another attempt may do it.
        """

    def conclude(self, outcome: Outcome, reason: str = "") -> None:
        """Have the registry say what the try came to.

        A version that did not hold is marked as rolled back, as by hand: a re-run must not promote
        it.
        """
        if self.registry is None:
            return
        self.registry.set_tag(self.version, aliases.VERDICT, outcome.value)
        if outcome in {Outcome.BROKEN, Outcome.UNDECIDED}:
            text = f"by its canary: {reason}"
            self.registry.set_tag(self.version, aliases.ROLLED_BACK, text[:_MOST_CHARACTERS])
