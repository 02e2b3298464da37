"""A canary's target on one machine: the registry's alias ``canary`` and the server that follows.

Whose requests the canary answers is decided by a hash of the user's id, salted by the pair of
versions: a user who had it at 5 % has it at 25 %, and another rollout begins with other users.
"""

import dataclasses

from serving.release.canary_target import CanaryTarget, CanaryTargetError, Reading
from serving.release.endpoint_client import (
    Endpoint,
    EndpointError,
    NoEndpointError,
    UnreachableError,
)
from serving.release.metrics_window import samples
from serving.routing import traffic_split
from serving.routing.traffic_split import Share, Versions
from training.registry.aliases import CANARY, CHAMPION


@dataclasses.dataclass(kw_only=True)
class LocalTarget(CanaryTarget):
    """A registry and an endpoint, and the version that is tried on them.

    A server on one machine may have no traffic at all.
    """

    registry: Versions
    endpoint: Endpoint
    pause_seconds: float = 0.5
    quiet_seconds: float | None = 2.0
    _control: str = dataclasses.field(default="", init=False)
    _given: Share | None = dataclasses.field(default=None, init=False)

    def _find_control(self) -> str:
        """The champion, which the endpoint is made to serve.

        A canary of the same version that a killed process left behind begins again.
        """
        control = self.registry.alias(CHAMPION)
        if control is None:
            raise ValueError(f"alias {CHAMPION}: not set; a canary needs a control")
        if control == self.version:
            raise ValueError(f"version: {self.version}; it is the champion already")
        self._given = traffic_split.read_share(self.registry, CANARY)
        if self._given and self._given.percent and self._given.version != self.version:
            raise ValueError(
                f"canary: {self._given.version} has {self._given.percent:g} %; "
                "promote it or roll it back first"
            )
        if self.endpoint.version() != control:
            self.endpoint.load()
            self.endpoint.wait_for(control)
        self._control = control
        return control

    def shift(self, percent: int, *, timeout_seconds: float) -> None:
        """Write the share down, unless another rollout or a person moved it or the champion.

        The endpoint then follows: it verifies and warms the canary before it may answer.
        """
        champion = self.registry.alias(CHAMPION)
        share = traffic_split.read_share(self.registry, CANARY)
        if champion != self._control:
            raise CanaryTargetError(f"champion: {champion}; the control, {self._control}")
        if share != self._given:
            raise CanaryTargetError(f"canary: {share}; {self._given}, which this rollout gave")
        salt = f"{self._control}>{self.version}"
        self._given = Share(version=self.version, percent=percent, salt=salt)
        traffic_split.write_share(self.registry, CANARY, self._given)
        wanted = {"version": self.version, "percent": self._given.percent}
        try:
            seen = self.endpoint.follow(timeout_seconds=timeout_seconds)
        except NoEndpointError as error:
            raise CanaryTargetError(f"{error}; {self.version} cannot get {percent} %") from error
        except EndpointError as error:
            raise CanaryTargetError(f"{self.version}: not ready; {error}") from error
        if seen.get(CANARY) != wanted:
            # The alias was moved between our writing and the server's reading.
            raise CanaryTargetError(f"endpoint: canary {seen.get(CANARY)}; {wanted} was asked for")

    def read(self) -> tuple[Reading, Reading]:
        """Metrics of both versions, of the one server, which may be restarting."""
        try:
            text = self.endpoint.metrics()
        except (NoEndpointError, EndpointError) as error:
            raise CanaryTargetError(str(error)) from error
        canary, control = (
            {self.endpoint.url: samples(text, model=self.endpoint.model, version=version)}
            for version in (self.version, self._control)
        )
        return canary, control

    def roll_back(self) -> None:
        """Take the alias away, if it is ours still, and have the endpoint follow."""
        if self.registry.alias(CANARY) == self.version:
            traffic_split.clear_share(self.registry, CANARY)
        try:
            self.endpoint.follow()
        except (NoEndpointError, UnreachableError):
            return  # Nothing serves; the next start finds no canary.
        except EndpointError as error:
            raise CanaryTargetError(str(error)) from error
