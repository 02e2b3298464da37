"""A canary's target on Kubernetes: one ``InferenceService``."""

import dataclasses
import time
import uuid
from collections.abc import Callable, Mapping

from serving.release.canary_target import (
    CanaryTarget,
    CanaryTargetError,
    Outcome,
    Reading,
    TargetLostError,
)
from serving.release.kserve import access, changes, spec, state
from serving.release.kserve.api import Live
from serving.release.kserve.cluster import Cluster
from serving.release.kserve.service import Model
from serving.release.metrics_window import samples

_ATTEMPT_SECONDS = 30.0
"""For one attempt to take the traffic back, which then begins again."""
_PASSED_SECONDS = 300.0
"""For the mark of one that has passed, which is not to go back for a server that restarts."""


@dataclasses.dataclass(kw_only=True)
class ServiceTarget(CanaryTarget):
    """A service, and the model that is tried on it.

    Args:
        cluster: The service.
        model: What is tried.
        image: Another image than the stable one's.
        force: Take over fields that others manage.
    """

    cluster: Cluster
    model: Model
    image: str | None = None
    force: bool = False
    version: str = dataclasses.field(init=False)
    pause_seconds: float = dataclasses.field(init=False)
    quiet_seconds: None = None
    _rollout: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex, init=False)
    _has_begun: bool = dataclasses.field(default=False, init=False)
    _control: state.Control = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Take both from what they belong to."""
        self.version, self.pause_seconds = self.model.version, self.cluster.pause_seconds

    def _find_control(self) -> str:
        """The control, after a check of all that a later step or the promotion would fail for."""
        live = self.cluster.service()
        access.require(self.cluster, spec.mode_of(live), *access.METRICS)
        spec.require_none_under_way(live)
        self._control = state.control_of(self.cluster, live)
        if self._control.version == self.version:
            raise ValueError(f"version: {self.version}; it is the stable one already")
        if reason := state.pending_route(self.cluster, live):
            raise CanaryTargetError(f"service {self.cluster}: cannot split its traffic; {reason}")
        for dry_run in (
            lambda live: self._with_share(live, 0),
            lambda live: changes.promoted(self._with_share(live, spec.ALL)),
        ):
            self.cluster.change(dry_run, force=self.force, is_dry_run=True)
        if not self._metrics(live, self._control.pod_labels):
            raise CanaryTargetError(f"service {self.cluster}: no pod of the control is ready; one")
        return self._control.version

    def shift(self, percent: int, *, timeout_seconds: float) -> None:
        """Apply the share, and return when the pods are ready and the route gives it to them."""
        deadline = time.monotonic() + timeout_seconds
        self.cluster.change(
            lambda live: self._with_share(self._free_or_own(live), percent),
            force=self.force,
            timeout_seconds=timeout_seconds,
        )
        self._has_begun = True
        self.cluster.wait(
            lambda: state.pending_share(self.cluster, self._read_own(), percent=percent),
            what=f"ready with {percent} % for {self.version}",
            timeout_seconds=deadline - time.monotonic(),
        )

    def read(self) -> tuple[Reading, Reading]:
        """Metrics of the pods of the canary, and of the control."""
        live = self._read_own()
        canary, control = state.canary_labels(live), self._control.pod_labels
        return self._metrics(live, canary), self._metrics(live, control)

    def roll_back(self) -> None:
        """Take all traffic from the canary, if it is this rollout's, and see that it has none."""
        take_back(self.cluster, rollout=self._rollout, timeout_seconds=_ATTEMPT_SECONDS)

    def conclude(self, outcome: Outcome, reason: str = "") -> None:
        """Annotate the service too, for ``promote``."""
        if outcome is Outcome.PASSED:
            self.cluster.change(
                lambda live: changes.passed(
                    self._free_or_own(live), self.model, rollout=self._rollout, image=self.image
                ),
                force=self.force,
                timeout_seconds=_PASSED_SECONDS,
            )
        super().conclude(outcome, reason)

    def _with_share(self, live: Live, percent: int) -> Live:
        return changes.with_share(
            live, self.model, percent=percent, rollout=self._rollout, image=self.image
        )

    def _free_or_own(self, live: Live) -> Live:
        """A service whose canary is this rollout's or, before its first change, without one."""
        if spec.rollout_of(live) == self._rollout:
            return live
        if self._has_begun:
            raise _lost(self.cluster, live)
        spec.require_none_under_way(live)
        return live

    def _read_own(self) -> Live:
        return self._free_or_own(self.cluster.service())

    def _metrics(self, live: Live, pod_labels: Mapping[str, str]) -> Reading:
        scheme, port = spec.metrics_address(live)
        texts = self.cluster.pod_metrics(pod_labels, scheme=scheme, port=port)
        return {pod: samples(text) for pod, text in texts.items()}


def take_back(cluster: Cluster, *, rollout: str | None, timeout_seconds: float) -> None:
    """Take all traffic from a service's canary, whoever changed it last, and see that it has none.

    Args:
        cluster: The service.
        rollout: Whose canary it must be; None: any.
        timeout_seconds: For the change, and for the traffic to follow it.

    Raises:
        TargetLostError: The service is gone, or its canary is another rollout's.
        CanaryTargetError: It could not be changed, or its traffic has not followed.
    """

    def of_rollout(live: Live) -> bool:
        """Whether there is a canary to take back."""
        if not spec.is_under_way(live):
            return False
        if rollout not in {None, spec.rollout_of(live)}:
            raise _lost(cluster, live)
        return True

    def apply(change: Callable[[Live], Live]) -> None:
        cluster.change(
            lambda live: change(live) if of_rollout(live) else None,
            force=True,
            timeout_seconds=timeout_seconds,
        )

    apply(changes.taken_over)
    apply(changes.rolled_back)
    cluster.wait(
        lambda: state.pending_rollback(cluster, cluster.service()),
        what="without traffic for its canary",
        timeout_seconds=timeout_seconds,
    )


def _lost(cluster: Cluster, live: Live) -> TargetLostError:
    version = spec.canary_version(live) if spec.is_under_way(live) else None
    now = f"its canary is {version}, of another rollout" if version else "its canary was taken away"
    return TargetLostError(f"service {cluster}: {now}; it is left as it is")
