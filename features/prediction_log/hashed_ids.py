"""Ids as keyed hashes: equal ids stay equal, and only who has the key can tell whose they are."""

import hashlib
import hmac
from collections.abc import Callable


class IdHash:
    """Hashes ids with one secret key."""

    def __init__(self, key: bytes) -> None:
        """Args: the secret."""
        self._key = key
        self.key_id = self._digest("key", "")[:8]
        """Tells keys apart without giving them away: logs of two keys have different hashes."""

    def user(self, user_id: int | str) -> str:
        """The hash of a user's id: 64 hexadecimal digits."""
        return self._digest("user", str(user_id))

    def request(self, request_id: str) -> str:
        """The hash of a request's id; of a text that is a user's id, too, another one."""
        return self._digest("request", request_id)

    def _digest(self, kind: str, text: str) -> str:
        content = f"{kind}\n{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, content, hashlib.sha256).hexdigest()


def user_key(hashed: IdHash | None) -> Callable[[int | str], str]:
    """What ``user_key`` of the log holds for a user's id."""
    return str if hashed is None else hashed.user
