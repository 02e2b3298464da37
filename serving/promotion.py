"""Promotion: the alias ``champion`` moves, and the running endpoint is asked to follow.

No heavy import; the registry is an argument. The alias never moves back in time: a re-run of
an old day must not undo a newer model. Within a day it moves only to a ranker that was shown to be
better than the very champion that it replaces.
"""

import dataclasses
import datetime
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from features.door import FailedError, SkippedError
from serving.settings import Tls, token_of

CHAMPION = "champion"
LOAD_TIMEOUT_SECONDS = 120.0
ANSWER_TIMEOUT_SECONDS = 10.0
_PAUSE_SECONDS = 0.2

logger = logging.getLogger(__name__)


class Versions(Protocol):
    """What promotion asks of the registry."""

    def alias(self, name: str) -> str | None:
        """Version to which an alias points."""
        ...

    def set_alias(self, name: str, version: str | None) -> None:
        """Point an alias at a version; None removes it."""
        ...

    def day_of(self, version: str) -> datetime.date:
        """The day whose run made a version."""
        ...

    def version_of(self, day: datetime.date) -> str:
        """The newest version of a day's run; ValueError where there is none."""
        ...


class PromotionError(FailedError):
    """The endpoint did not follow; the alias and the endpoint are as they were."""


class NoEndpointError(ConnectionError):
    """Nothing answers at the address."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A running server, seen from outside."""

    url: str
    token: str | None = dataclasses.field(default=None, repr=False)
    tls: Tls = dataclasses.field(default_factory=Tls)

    @classmethod
    def from_environment(cls, url: str) -> "Endpoint":
        """The server at an address, with RANKING_TOKEN and the client's certificates."""
        return cls(url, token=token_of(), tls=Tls.of_client())

    def load(self) -> None:
        """Have it load the champion; PromotionError with its reason where it cannot."""
        self._call("/v2/repository/models/ranker/load", method="POST", timeout=LOAD_TIMEOUT_SECONDS)

    def version(self) -> str | None:
        """The version that answers now."""
        content = self._call("/v2/models/ranker", method="GET", timeout=ANSWER_TIMEOUT_SECONDS)
        versions = content.get("versions") or [None]
        return str(versions[0]) if versions[0] else None

    def wait_for(self, version: str) -> None:
        """Return when it answers with a version; PromotionError when it does not in time."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
        while (answered := self.version()) != version:
            if time.monotonic() > deadline:
                raise PromotionError(
                    f"endpoint {self.url}: answers with {answered}; {version} was loaded"
                )
            time.sleep(_PAUSE_SECONDS)

    def _call(self, path: str, *, method: str, timeout: float) -> dict[str, Any]:
        request = urllib.request.Request(self.url.rstrip("/") + path, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        context = self.tls.client_context() if self.url.startswith("https:") else None
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
                content = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")
            raise PromotionError(f"endpoint {self.url}: {error.code}; {reason}") from error
        except urllib.error.URLError as error:
            raise NoEndpointError(f"endpoint {self.url}: {error.reason}") from error
        except (OSError, ValueError) as error:
            raise PromotionError(
                f"endpoint {self.url}: {error}; no answer to {method} {path}"
            ) from error
        return content if isinstance(content, dict) else {}


def read_decision(
    reports: Path, *, dataset: str, day: datetime.date, is_upscaled: bool = False
) -> dict[str, Any]:
    """The gate's decision on a day's candidate, or on the one that grew; ValueError without one."""
    kind = "gate-upscale" if is_upscaled else "gate"
    path = reports / dataset / kind / day.isoformat() / "decision.json"
    if not path.exists():
        raise ValueError(f"decision {path}: does not exist; run `python -m training evaluate`")
    content = json.loads(path.read_text())
    if not isinstance(content, dict) or "decision" not in content:
        raise ValueError(f"decision {path}: no key 'decision'; a JSON object that has it")
    return content


def why_not(decision: Mapping[str, Any]) -> str:
    """Why a decision other than promote leaves nothing to do."""
    reasons = "; ".join(map(str, decision.get("reasons", ())))
    return f"the gate decided {decision['decision']}: {reasons}"


def promote(
    registry: Versions, *, decision: Mapping[str, Any], day: datetime.date, endpoint: Endpoint
) -> dict[str, Any]:
    """Make the day's candidate the champion, where the gate said so, and have it served.

    Args:
        registry: Where the aliases are.
        decision: What the gate decided.
        day: The day whose candidate it decided on.
        endpoint: Where the server is, if one runs.

    Returns:
        What was done: ``version``, ``previous``, ``endpoint`` and whether it is ``served``.

    Raises:
        SkippedError: The gate did not say promote, or the champion is of this day or newer. A
            champion of this day gives way to a ranker that grew and was shown to be better than it;
            where this very version is the champion and the endpoint never followed, that is made
            up for.
        PromotionError: The endpoint failed to load; alias and endpoint are as they were.
    """
    if decision["decision"] != "promote":
        raise SkippedError(why_not(decision))
    version = _candidate(registry, decision, day)
    previous = registry.alias(CHAMPION)
    is_unfinished = previous == version and _lags(endpoint, version)
    if previous is not None and not is_unfinished:
        _require_newer(registry, decision, previous=previous, version=version, day=day)
    registry.set_alias(CHAMPION, version)
    logger.info("alias %s: %s -> %s", CHAMPION, previous, version)
    is_served = _serve(registry, endpoint, version=version, previous=previous)
    return {
        "version": version,
        "previous": previous,
        "endpoint": endpoint.url,
        "served": is_served,
        **({} if is_served else {"note": "no endpoint answers; the next start loads the champion"}),
    }


def _candidate(registry: Versions, decision: Mapping[str, Any], day: datetime.date) -> str:
    """The version that was judged: the decision names it, or it is the newest of its day."""
    version = decision.get("candidate") or registry.version_of(day)
    if not isinstance(version, str):
        raise TypeError(f"candidate: {version!r}; the name of a version")
    if registry.day_of(version) != day:
        raise ValueError(f"candidate {version}: of {registry.day_of(version)}; the day is {day}")
    return version


def _require_newer(
    registry: Versions,
    decision: Mapping[str, Any],
    *,
    previous: str,
    version: str,
    day: datetime.date,
) -> None:
    """SkippedError unless the day is after the champion's, or this beat it on the same day."""
    has_beaten = bool(decision.get("control")) and decision.get("champion") == previous != version
    of = registry.day_of(previous)
    if of < day or (of == day and has_beaten):
        return
    raise SkippedError(
        f"champion {previous} is of {of}; only a day after it may replace it, and this is {day}"
    )


def _lags(endpoint: Endpoint, version: str) -> bool:
    """Whether an endpoint runs that serves another version: a promotion died before its load."""
    try:
        return endpoint.version() != version
    except NoEndpointError:
        return False


def _serve(registry: Versions, endpoint: Endpoint, *, version: str, previous: str | None) -> bool:
    """Whether the endpoint serves the version now; False where there is no endpoint."""
    try:
        endpoint.load()
        endpoint.wait_for(version)
    except NoEndpointError as error:
        logger.warning("%s; the alias has moved", error)
        return False
    except PromotionError as error:
        _roll_back(registry, endpoint, previous)
        raise PromotionError(f"{error}; alias {CHAMPION} is back at {previous}") from error
    return True


def _roll_back(registry: Versions, endpoint: Endpoint, previous: str | None) -> None:
    registry.set_alias(CHAMPION, previous)
    logger.error("rolled back: alias %s is at %s again", CHAMPION, previous)
    if previous is None:
        return
    try:
        endpoint.load()
    except (PromotionError, NoEndpointError) as error:
        # The server keeps its model when a load fails, so this is news, not a second failure.
        logger.warning("reloading %s: %s", previous, error)
