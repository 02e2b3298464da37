"""Who is to serve, as the registry says: champion, canary with a share, challenger in the shadow.

Standard library only, for the server and for the commands that steer it. A share lies in a tag of
the version behind the alias, so that one write changes it and a restart finds it.
"""

import dataclasses
import hashlib
import json
from typing import Protocol

from training.registry.aliases import CANARY, SHADOW

_ALL = 100


class Versions(Protocol):
    """What the registry must offer."""

    def alias(self, name: str) -> str | None:
        """Version to which an alias points."""
        ...

    def set_alias(self, name: str, version: str | None) -> None:
        """Point an alias at a version; None removes it."""
        ...

    def tag(self, version: str, name: str) -> str | None:
        """What a tag of a version says; None where it has none of that name."""
        ...

    def set_tag(self, version: str, name: str, value: str | None) -> None:
        """Set a tag of a version; None removes it."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """A version's part of the requests.

    ``percent`` is from 0 to 100. ``salt`` says whose requests: the same key with the same salt is
    covered by every share from some percentage on.
    """

    version: str
    percent: float
    salt: str = ""

    def __post_init__(self) -> None:
        """ValueError for what is no share."""
        if not 0 <= self.percent <= _ALL:
            raise ValueError(f"percent: {self.percent}; from 0 to {_ALL}")

    def covers(self, key: str) -> bool:
        """Whether the requests of a key, such as a user's id, are in the share."""
        text = f"{self.salt}\n{key}".encode("utf-8", "surrogatepass")
        place = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        return place * _ALL < self.percent * 2**64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shares:
    """The canary and the challenger with their parts of the requests; None where there is none."""

    canary: Share | None = None
    shadow: Share | None = None


def read_shares(registry: Versions) -> Shares:
    """Both, as the registry says now."""
    return Shares(canary=read_share(registry, CANARY), shadow=read_share(registry, SHADOW))


def read_share(registry: Versions, alias: str) -> Share | None:
    """The version behind an alias and its share; None where nothing has the alias.

    Raises:
        ValueError: The tag is not what ``write_share`` writes.
    """
    version = registry.alias(alias)
    if version is None:
        return None
    text = registry.tag(version, _tag_of(alias))
    try:
        content = json.loads(text) if text else {"percent": 0}
        return Share(version=version, **content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"tag {_tag_of(alias)} of {version}: {text!r}; {error}") from error


def write_share(registry: Versions, alias: str, share: Share) -> None:
    """Give a version an alias and a share.

    The share is written first: at no moment has the version an older share of its own.
    """
    content = {"percent": share.percent, "salt": share.salt}
    registry.set_tag(share.version, _tag_of(alias), json.dumps(content))
    if registry.alias(alias) != share.version:
        registry.set_alias(alias, share.version)


def clear_share(registry: Versions, alias: str) -> str | None:
    """Take an alias and its share away; returns who had it."""
    version = registry.alias(alias)
    if version is not None:
        registry.set_alias(alias, None)
        registry.set_tag(version, _tag_of(alias), None)
    return version


def _tag_of(alias: str) -> str:
    return f"{alias}_share"
