"""The way back on the local endpoint: from a canary, or to an earlier champion.

Each champion's version has a tag with the champion before it, so the way goes on, step by step, to
the first one. What was taken back is tagged too: re-running its day must not promote it again.
"""

import logging

from features.cli import FailedError, SkippedError
from features.places import Place
from serving.release.endpoint_client import Endpoint, EndpointError, NoEndpointError
from serving.release.promotion import BY_HAND, NOT_SERVED, go_back, served
from serving.routing import traffic_split
from serving.routing.traffic_split import Versions
from training.registry import aliases
from training.registry.aliases import CANARY, CHAMPION

logger = logging.getLogger(__name__)


class RollbackError(FailedError):
    """There is no way back, or the endpoint did not take it; all is as it was."""


def roll_back(
    registry: Versions,
    *,
    to: str | None,
    endpoint: Endpoint,
    artifacts: Place,
    reason: str = BY_HAND,
    expected: str | None = None,
) -> dict[str, object]:
    """Undo the newest change: a canary ends, else the champion gives way to the one before it.

    Args:
        registry: Where the aliases are.
        to: The version that is to be champion, if it is not the one before.
        endpoint: Where the server is, if one runs.
        artifacts: The folder of the data set's artifacts.
        reason: Why; the tag of what is taken back has it.
        expected: The version that is to be taken back; None: whatever is newest.

    Returns:
        What was done: ``from``, ``to``, ``endpoint`` and whether it is ``served``.

    Raises:
        RollbackError: Nothing to go back to, or the endpoint failed to load it.
        SkippedError: The version is the champion already, or another one than expected answers.
    """
    champion = registry.alias(CHAMPION)
    if champion is None:
        raise RollbackError(f"alias {CHAMPION}: not set; nothing to go back from")
    canary = None if to else registry.alias(CANARY)
    if expected not in {None, canary or champion}:
        raise SkippedError(f"version {expected}: answers no more; nothing is taken back")
    if canary is not None:
        way = {"from": canary, "to": champion}
        is_served = _without_canary(registry, endpoint, canary=canary, reason=reason)
    else:
        target = to or registry.tag(champion, aliases.PREVIOUS)
        if target is None:
            raise RollbackError(
                f"champion {champion}: none came before it; --to names another version"
            )
        _require_usable(registry, target, champion=champion, artifacts=artifacts)
        way = {"from": champion, "to": target}
        is_served = _install(registry, endpoint, target, champion=champion, reason=reason)
    note = {} if is_served else {"note": NOT_SERVED}
    return {**way, "endpoint": endpoint.url, "served": is_served, **note}


def _require_usable(registry: Versions, version: str, *, champion: str, artifacts: Place) -> None:
    """Before anything is changed: no alias can point at what the registry does not know."""
    if version == champion:
        raise SkippedError(f"version {version}: is the champion already")
    try:
        registry.tag(version, aliases.ROLLED_BACK)
    except ValueError as error:
        raise RollbackError(f"{error}; --to names a version that was exported here") from error
    if not (artifacts / version).is_dir():
        raise RollbackError(f"artifact {artifacts / version}: is gone; --to names another version")


def _without_canary(registry: Versions, endpoint: Endpoint, *, canary: str, reason: str) -> bool:
    """Whether the endpoint serves without it now."""
    traffic_split.clear_share(registry, CANARY)
    registry.set_tag(canary, aliases.ROLLED_BACK, reason)
    logger.info("canary %s: taken away; the champion has all requests", canary)
    try:
        endpoint.follow()
    except EndpointError as error:
        left = f"{canary} has no share any more, which the next start finds"
        raise RollbackError(f"{error}; {left}") from error
    except NoEndpointError:
        return False
    return True


def _install(
    registry: Versions, endpoint: Endpoint, target: str, *, champion: str, reason: str
) -> bool:
    """Whether the endpoint serves the target now; what fails leaves aliases as they were."""
    canary = traffic_split.read_share(registry, CANARY)
    traffic_split.clear_share(registry, CANARY)
    registry.set_alias(CHAMPION, target)
    logger.info("alias %s: %s -> %s", CHAMPION, champion, target)
    try:
        is_served = served(endpoint, target)
    except EndpointError as error:
        if canary is not None:
            traffic_split.write_share(registry, CANARY, canary)
        go_back(registry, endpoint, champion)
        raise RollbackError(f"{error}; alias {CHAMPION} is back at {champion}") from error
    # Only now: a version that is champion still has not been rolled back.
    registry.set_tag(champion, aliases.ROLLED_BACK, reason)
    registry.set_tag(target, aliases.ROLLED_BACK, None)
    return is_served
