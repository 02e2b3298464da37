"""What the policy decided is done: the registry's aliases move, and the endpoint follows."""

from features.places import Place
from serving.policy.decision import Decision, Serving
from serving.policy.table import Action
from serving.release.endpoint_client import Endpoint
from serving.release.rollback import roll_back
from serving.routing.traffic_split import Versions
from training.registry import aliases

_MOST_CHARACTERS = 500
"""Of a reason in a tag."""


def versions_of(registry: Versions) -> Serving:
    """Which versions answer on the local server, and which did before."""
    champion = registry.alias(aliases.CHAMPION)
    previous = registry.tag(champion, aliases.PREVIOUS) if champion else None
    return Serving(champion, registry.alias(aliases.CANARY), previous)


def act(
    decision: Decision,
    serving: Serving,
    *,
    registry: Versions,
    endpoint: Endpoint,
    artifacts: Place,
) -> dict[str, object]:
    """Take the decision's step; alerts and new trainings are for whoever reads the summary.

    Args:
        decision: What follows.
        serving: Which versions answered when it was made.
        registry: Where the aliases are.
        endpoint: Where the server is, if one runs.
        artifacts: The folder of the data set's artifacts.

    Returns:
        What ``roll_back`` returns; nothing for other actions.

    Raises:
        RollbackError: There is no way back, or the endpoint did not take it; all is as it was.
        SkippedError: The version does not answer any more.
    """
    if decision.action is not Action.ROLL_BACK:
        return {}
    # A canary that is innocent must not end because the champion is broken.
    to = None if decision.version == serving.canary else serving.previous
    reason = f"by the policy: {decision.why}"[:_MOST_CHARACTERS]
    return roll_back(
        registry,
        to=to,
        endpoint=endpoint,
        artifacts=artifacts,
        reason=reason,
        expected=decision.version,
    )
