"""A canary's target on Kubernetes: one ``InferenceService``."""

import dataclasses

from serving.release.canary_target import Outcome, Reading, note
from serving.release.kserve import traffic
from serving.release.kserve.cluster import Cluster
from serving.release.kserve.manifest import Model
from serving.release.metrics_window import samples
from serving.routing.traffic_split import Versions
from training.registry import aliases


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServiceTarget:
    """A service, and the model that is tried on it.

    Args:
        cluster: The service.
        model: What is tried.
        image: Another image than the stable one's.
        force: Take over fields that others manage.
        registry: Whose version it is; None: of none, as far as is known here.
    """

    cluster: Cluster
    model: Model
    image: str | None = None
    force: bool = False
    registry: Versions | None = None

    @property
    def version(self) -> str:
        """What is tried."""
        return self.model.version

    @property
    def pause_seconds(self) -> float:
        """Between two looks."""
        return self.cluster.pause_seconds

    @property
    def quiet_seconds(self) -> float | None:
        """None: on a cluster a canary without requests is a failure."""
        return None

    def begin(self) -> str:
        """The control, in words; ValueError where no canary can begin."""
        live = self.cluster.read()
        under_way = traffic.canary_share(live)
        if under_way:
            raise ValueError(
                f"canary: {traffic.canary_version(live)} has {under_way} %; "
                "promote it or roll it back first"
            )
        is_stable = traffic.canary_version(live) is None
        if is_stable and traffic.stable_version(live) == self.version:
            raise ValueError(f"version: {self.version}; it is the stable one already")
        if self.registry is not None:
            self.registry.set_tag(self.version, aliases.VERDICT, None)
        return traffic.control_of(live)

    def ask(self, percent: int) -> object:
        """Apply the object with the share; its generation."""
        desired = traffic.with_share(
            self.cluster.read(), self.model, percent=percent, image=self.image
        )
        return self.cluster.apply(desired, force=self.force)["metadata"]["generation"]

    def wait(self, change: object, *, percent: int, timeout_seconds: float) -> None:
        """Return when KServe has seen the generation, and the canary is ready with its share."""
        assert isinstance(change, int)
        self.cluster.wait(
            lambda live: traffic.has_share(live, self.model, percent=percent),
            generation=change,
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
        """Annotate the service, for ``promote``; tag the version, where there is a registry."""
        if outcome is Outcome.PASSED:
            live = self.cluster.read()
            passed = traffic.passed(live, self.model, image=self.image)
            self.cluster.apply(passed, force=self.force)
        if self.registry is not None:
            note(self.registry, self.version, outcome, reason)


def take_back(cluster: Cluster) -> int:
    """Take all traffic from a service's canary, whoever changed it last; the generation."""
    applied = cluster.apply(traffic.rolled_back(cluster.read()), force=True)
    if traffic.canary_share(applied):
        applied = cluster.apply(traffic.taken_over(applied), force=True)
        applied = cluster.apply(traffic.rolled_back(applied), force=True)
    return int(applied["metadata"]["generation"])
