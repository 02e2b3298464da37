"""The rights that a command needs in the service's namespace, asked for before it changes anything.

``infra/kubernetes/base/rollout-role.yaml`` gives exactly these.
"""

from typing import NamedTuple

from kserve.constants.constants import KSERVE_GROUP, KSERVE_PLURAL_INFERENCESERVICE

from serving.release.canary_target import CanaryTargetError
from serving.release.kserve.cluster import Cluster
from serving.release.kserve.service import Mode


class Right(NamedTuple):
    """To do something with objects of a kind; ``pods/proxy`` is a subresource of pods."""

    action: str
    group: str
    resource: str

    def __str__(self) -> str:
        """As errors name it."""
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.action} {kind}"


_CHANGE = tuple(
    Right(action, KSERVE_GROUP, KSERVE_PLURAL_INFERENCESERVICE) for action in ("get", "patch")
)
CREATE = (Right("create", KSERVE_GROUP, KSERVE_PLURAL_INFERENCESERVICE),)
METRICS = (Right("list", "", "pods"), Right("get", "", "pods/proxy"))
_STATE = {
    Mode.STANDARD: (
        Right("get", "apps", "deployments"),
        Right("get", "gateway.networking.k8s.io", "httproutes"),
    ),
    Mode.KNATIVE: (Right("get", "serving.knative.dev", "revisions"),),
}


def require(cluster: Cluster, mode: Mode, *more: Right) -> None:
    """Check the rights to change a service and to see that the change is in force, and more.

    Raises:
        CanaryTargetError: With all that are missing.
    """
    missing = [
        str(right)
        for right in (*_CHANGE, *_STATE[mode], *more)
        if not cluster.may(**right._asdict())
    ]
    if missing:
        raise CanaryTargetError(
            f"rights in namespace {cluster.namespace}: no {', no '.join(missing)}; "
            "those of infra/kubernetes/base/rollout-role.yaml"
        )
