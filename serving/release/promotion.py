"""Promotion: the alias ``champion`` moves, and the running endpoint follows.

No heavy import; the registry is an argument. The alias never moves back in time: a re-run of
an old day must not undo a newer model. Within a day it moves only to a ranker that was shown to be
better than the very champion that it replaces.
"""

import datetime
import json
import logging
from collections.abc import Mapping
from typing import Protocol

from features.cli import FailedError, SkippedError
from features.lineage import observed
from features.places import Place
from serving.release.endpoint_client import Endpoint, EndpointError, NoEndpointError
from serving.routing import traffic_split
from training.registry import aliases
from training.registry.aliases import CANARY, CHAMPION

NOT_SERVED = "no endpoint answers; the next start loads the champion"
BY_HAND = "yes"
"""What the tag of a version has after a rollback by hand; a canary writes why."""

logger = logging.getLogger(__name__)


class Versions(traffic_split.Versions, Protocol):
    """What promotion asks of the registry."""

    def day_of(self, version: str) -> datetime.date:
        """The day whose run made a version."""
        ...

    def version_of(self, day: datetime.date) -> str:
        """The newest version of a day's run; ValueError where there is none."""
        ...


class WentBackError(SkippedError):
    """The version's canary went back."""


class PromotionError(FailedError):
    """The endpoint did not follow; the alias and the endpoint are as they were."""


def read_decision(
    reports: Place, *, dataset: str, day: datetime.date, is_upscaled: bool = False
) -> dict[str, object]:
    """The gate's decision to promote a day's candidate, or the one that grew.

    Raises:
        ValueError: There is no decision.
        SkippedError: It was another one.
    """
    kind = "gate-upscale" if is_upscaled else "gate"
    path = reports / dataset / kind / day.isoformat() / "decision.json"
    if not path.exists():
        raise ValueError(f"decision {path}: does not exist; run `python -m training evaluate`")
    content = json.loads(path.read_text())
    if not isinstance(content, dict) or "decision" not in content:
        raise ValueError(f"decision {path}: no key 'decision'; a JSON object that has it")
    if content["decision"] != "promote":
        reasons = "; ".join(map(str, content.get("reasons", ())))
        raise SkippedError(f"the gate decided {content['decision']}: {reasons}")
    return content


def promote(
    registry: Versions,
    *,
    decision: Mapping[str, object],
    day: datetime.date,
    endpoint: Endpoint,
    again: bool = False,
) -> dict[str, object]:
    """Make the day's candidate the champion, and have it served.

    Args:
        registry: Where the aliases are.
        decision: What the gate decided: to promote.
        day: The day whose candidate it decided on.
        endpoint: Where the server is, if one runs.
        again: Promote a version that was rolled back, too.

    Returns:
        What was done: ``version``, ``previous``, ``endpoint``, whether it is ``served``, and what
        its ``canary`` came to: the gate alone decided where that is not ``passed``.

    Raises:
        SkippedError: As ``candidate_of``; but where this very version is the champion and the
            endpoint never followed, that is made up for.
        PromotionError: The endpoint failed to load; alias and endpoint are as they were.
    """
    version = candidate_of(registry, decision=decision, day=day, again=again, endpoint=endpoint)
    previous = registry.alias(CHAMPION)
    verdict = registry.tag(version, aliases.VERDICT)
    install(registry, version)
    try:
        is_served = served(endpoint, version)
    except EndpointError as error:
        go_back(registry, endpoint, previous)
        raise PromotionError(f"{error}; alias {CHAMPION} is back at {previous}") from error
    return {
        "version": version,
        "previous": previous,
        "endpoint": endpoint.url,
        "served": is_served,
        "canary": verdict or "not tried",
        **({} if is_served else {"note": NOT_SERVED}),
    }


def candidate_of(
    registry: Versions,
    *,
    decision: Mapping[str, object],
    day: datetime.date,
    again: bool = False,
    endpoint: Endpoint | None = None,
) -> str:
    """The version of a day that may become the champion; it may be the champion already.

    Raises:
        SkippedError: The version was rolled back, or the champion is of this day or newer. A
            champion of this day gives way to a ranker that grew and was shown to be better than it.
            The champion itself passes where the endpoint lags behind.
    """
    # The one that was judged: the decision names it, or it is the newest of its day.
    version = str(decision.get("candidate") or registry.version_of(day))
    if registry.day_of(version) != day:
        raise ValueError(f"candidate {version}: of {registry.day_of(version)}; the day is {day}")
    previous = registry.alias(CHAMPION)
    if previous == version and endpoint is not None and _lags(endpoint, version):
        return version
    rolled_back = registry.tag(version, aliases.ROLLED_BACK)
    insist = "--again promotes it all the same"
    if rolled_back == BY_HAND and not again:
        raise SkippedError(f"version {version}: was rolled back; {insist}")
    if rolled_back and not again:
        raise WentBackError(f"version {version}: was rolled back {rolled_back}; {insist}")
    if previous is None:
        return version
    has_beaten = bool(decision.get("control")) and decision.get("champion") == previous != version
    of = registry.day_of(previous)
    if of < day or (of == day and has_beaten):
        return version
    raise SkippedError(
        f"champion {previous} is of {of}; only a day after it may replace it, and this is {day}"
    )


def install(registry: Versions, version: str) -> None:
    """Move the alias to a version, note who had it, and end the version's canary.

    The canary's share goes first: should the load fail, all requests are the old champion's.
    """
    previous = registry.alias(CHAMPION)
    if previous not in {None, version}:
        registry.set_tag(version, aliases.PREVIOUS, previous)
    registry.set_tag(version, aliases.ROLLED_BACK, None)
    if registry.alias(CANARY) == version:
        traffic_split.clear_share(registry, CANARY)
    registry.set_alias(CHAMPION, version)
    logger.info("alias %s: %s -> %s", CHAMPION, previous, version)


def _lags(endpoint: Endpoint, version: str) -> bool:
    """Whether an endpoint runs that serves another version: a promotion died before its load."""
    try:
        return endpoint.version() != version
    except NoEndpointError:
        return False


def served(endpoint: Endpoint, version: str) -> bool:
    """Have the endpoint load the champion; False where none answers; EndpointError else."""
    try:
        endpoint.load()
        endpoint.wait_for(version)
    except NoEndpointError as error:
        logger.warning("%s; the alias has moved", error)
        return False
    where = f"{endpoint.url}/v2/models/{endpoint.model}"
    observed.wrote(
        observed.Dataset(
            where=where, kind=observed.Kind.MODEL, sub_kind="ENDPOINT", version=version
        )
    )
    return True


def go_back(registry: traffic_split.Versions, endpoint: Endpoint, previous: str | None) -> None:
    """Point the alias where it was, after a load that failed."""
    registry.set_alias(CHAMPION, previous)
    logger.error("alias %s is at %s again", CHAMPION, previous)
    if previous is None:
        return
    try:
        endpoint.load()
    except (EndpointError, NoEndpointError) as error:
        # The server keeps its model when a load fails, so this is news, not a second failure.
        logger.warning("reloading %s: %s", previous, error)
