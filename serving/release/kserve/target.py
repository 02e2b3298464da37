"""A canary's target on Kubernetes: one ``InferenceService``."""

import dataclasses

from serving.release.canary_target import CanaryTarget, Outcome, Reading
from serving.release.kserve import traffic
from serving.release.kserve.cluster import Cluster, Live
from serving.release.kserve.service import Model
from serving.release.metrics_window import samples


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

    def __post_init__(self) -> None:
        """Take both from what they belong to."""
        self.version, self.pause_seconds = self.model.version, self.cluster.pause_seconds

    def _find_control(self) -> str:
        live = self.cluster.read()
        canary = traffic.canary_version(live)
        if under_way := traffic.canary_share(live):
            raise ValueError(
                f"canary: {canary} has {under_way} %; promote it or roll it back first"
            )
        if canary is None and traffic.stable_version(live) == self.version:
            raise ValueError(f"version: {self.version}; it is the stable one already")
        return traffic.control_of(live)

    def ask(self, percent: int) -> Live:
        """The object with the share, applied."""
        desired = traffic.with_share(
            self.cluster.read(), self.model, percent=percent, image=self.image
        )
        return self.cluster.apply(desired, force=self.force)

    def wait(self, change: Live, *, percent: int, timeout_seconds: float) -> None:
        """Return when KServe has seen the change, and the canary is ready with its share."""
        self.cluster.wait(
            lambda live: traffic.has_share(live, self.model.revision, percent=percent),
            after=change,
            what=f"ready with {percent} % for {self.version}",
            timeout_seconds=timeout_seconds,
        )

    def read(self) -> tuple[Reading, Reading]:
        """Metrics of the pods of the canary, and of the control."""
        both = traffic.pod_labels(self.cluster.read())
        canary, control = (
            {pod: samples(text) for pod, text in self.cluster.pod_metrics(labels).items()}
            for labels in both
        )
        return canary, control

    def roll_back(self) -> None:
        """Take all traffic from the canary."""
        take_back(self.cluster)

    def conclude(self, outcome: Outcome, reason: str = "") -> None:
        """Annotate the service too, for ``promote``."""
        if outcome is Outcome.PASSED:
            live = self.cluster.read()
            passed = traffic.passed(live, self.model, image=self.image)
            self.cluster.apply(passed, force=self.force)
        super().conclude(outcome, reason)


def take_back(cluster: Cluster) -> Live:
    """Take all traffic from a service's canary, whoever changed it last; what was applied."""
    applied = cluster.apply(traffic.rolled_back(cluster.read()), force=True)
    if traffic.canary_share(applied):
        applied = cluster.apply(traffic.taken_over(applied), force=True)
        applied = cluster.apply(traffic.rolled_back(applied), force=True)
    return applied
