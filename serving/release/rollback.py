"""The way back on the local endpoint: from a canary, or to an earlier champion.

Each champion's version has a tag with the champion before it, so the way goes on, step by step, to
the first one. What was taken back is tagged too: re-running its day must not promote it again.
"""

import logging
from pathlib import Path

from features.cli import FailedError, SkippedError
from serving.release.endpoint_client import Endpoint, EndpointError, NoEndpointError
from serving.release.promotion import BY_HAND, go_back, served
from serving.routing import traffic_split
from serving.routing.traffic_split import Versions
from training.registry import aliases
from training.registry.aliases import CANARY, CHAMPION

_NO_ENDPOINT = "no endpoint answers; the next start loads the champion"

logger = logging.getLogger(__name__)


class RollbackError(FailedError):
    """There is no way back, or the endpoint did not take it; all is as it was."""


def roll_back(
    registry: Versions, *, to: str | None, endpoint: Endpoint, artifacts: Path
) -> dict[str, object]:
    """Undo the newest change: a canary ends, else the champion gives way to the one before it.

    Args:
        registry: Where the aliases are.
        to: The version that is to be champion, if it is not the one before.
        endpoint: Where the server is, if one runs.
        artifacts: The folder of the data set's artifacts.

    Returns:
        What was done: ``from``, ``to``, ``endpoint`` and whether it is ``served``.

    Raises:
        RollbackError: Nothing to go back to, or the endpoint failed to load it.
        SkippedError: The version is the champion already.
    """
    champion = registry.alias(CHAMPION)
    if champion is None:
        raise RollbackError(f"alias {CHAMPION}: not set; nothing to go back from")
    if to is None and (canary := registry.alias(CANARY)):
        return _without_canary(registry, endpoint, canary=canary, champion=champion)
    target = to or registry.tag(champion, aliases.PREVIOUS)
    if target is None:
        raise RollbackError(f"champion {champion}: none came before it; --to names another version")
    if target == champion:
        raise SkippedError(f"version {target}: is the champion already")
    _require_registered(registry, target)
    if not (artifacts / target).is_dir():
        raise RollbackError(f"artifact {artifacts / target}: is gone; --to names another version")
    is_served = _install(registry, endpoint, target=target, champion=champion)
    return _summary(champion, target, endpoint=endpoint, is_served=is_served)


def _require_registered(registry: Versions, version: str) -> None:
    """Before anything is changed: no alias can point at what the registry does not know."""
    try:
        registry.tag(version, aliases.ROLLED_BACK)
    except ValueError as error:
        raise RollbackError(f"{error}; --to names a version that was exported here") from error


def _without_canary(
    registry: Versions, endpoint: Endpoint, *, canary: str, champion: str
) -> dict[str, object]:
    traffic_split.clear_share(registry, CANARY)
    registry.set_tag(canary, aliases.ROLLED_BACK, BY_HAND)
    logger.info("canary %s: taken away; %s has all requests", canary, champion)
    try:
        endpoint.follow()
    except EndpointError as error:
        reason = f"{error}; {canary} has no share any more, which the next start finds"
        raise RollbackError(reason) from error
    except NoEndpointError:
        return _summary(canary, champion, endpoint=endpoint, is_served=False)
    return _summary(canary, champion, endpoint=endpoint, is_served=True)


def _install(registry: Versions, endpoint: Endpoint, *, target: str, champion: str) -> bool:
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
    registry.set_tag(champion, aliases.ROLLED_BACK, BY_HAND)
    registry.set_tag(target, aliases.ROLLED_BACK, None)
    return is_served


def _summary(start: str, end: str, *, endpoint: Endpoint, is_served: bool) -> dict[str, object]:
    note = {} if is_served else {"note": _NO_ENDPOINT}
    return {"from": start, "to": end, "endpoint": endpoint.url, "served": is_served, **note}
