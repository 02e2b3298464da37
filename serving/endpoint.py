"""A running server, seen from outside: what it serves, and that it is to look again.

No heavy import: the verbs that use it start quickly.
"""

import dataclasses
import json
import time
import urllib.error
import urllib.request
from typing import Any

from features.door import FailedError
from serving.settings import Tls, token_of

LOAD_TIMEOUT_SECONDS = 120.0
ANSWER_TIMEOUT_SECONDS = 10.0
_PAUSE_SECONDS = 0.2
_MODEL = "/v2/repository/models/ranker"


class EndpointError(FailedError):
    """The endpoint refused, or did not do as it was told; the text says what and why."""


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
        """Have it load the champion; EndpointError with its reason where it cannot."""
        self._call(f"{_MODEL}/load", method="POST", timeout=LOAD_TIMEOUT_SECONDS)

    def version(self) -> str | None:
        """The champion's version, which answers now; None without one."""
        content = self._call("/v2/models/ranker", method="GET", timeout=ANSWER_TIMEOUT_SECONDS)
        versions = content.get("versions") or [None]
        return str(versions[0]) if versions[0] else None

    def follow(self, *, timeout_seconds: float = LOAD_TIMEOUT_SECONDS) -> dict[str, Any]:
        """Have it look who stands beside the champion; the lineup that it has then."""
        return self._call(f"{_MODEL}/lineup", method="POST", timeout=timeout_seconds)

    def lineup(self) -> dict[str, Any]:
        """Champion, canary and shadow: versions and shares."""
        return self._call(f"{_MODEL}/lineup", method="GET", timeout=ANSWER_TIMEOUT_SECONDS)

    def metrics(self) -> str:
        """Its Prometheus text."""
        return self._read("/metrics", method="GET", timeout=ANSWER_TIMEOUT_SECONDS).decode()

    def wait_for(self, version: str) -> None:
        """Return when it answers with a version; EndpointError when it does not in time."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
        while (answered := self.version()) != version:
            if time.monotonic() > deadline:
                raise EndpointError(
                    f"endpoint {self.url}: answers with {answered}; {version} was loaded"
                )
            time.sleep(_PAUSE_SECONDS)

    def _call(self, path: str, *, method: str, timeout: float) -> dict[str, Any]:
        answer = self._read(path, method=method, timeout=timeout)
        try:
            content = json.loads(answer)
        except ValueError as error:
            raise EndpointError(f"endpoint {self.url}: {error}; no JSON from {path}") from error
        return content if isinstance(content, dict) else {}

    def _read(self, path: str, *, method: str, timeout: float) -> bytes:
        request = urllib.request.Request(self.url.rstrip("/") + path, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        context = self.tls.client_context() if self.url.startswith("https:") else None
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")
            raise EndpointError(f"endpoint {self.url}: {error.code}; {reason}") from error
        except urllib.error.URLError as error:
            raise NoEndpointError(f"endpoint {self.url}: {error.reason}") from error
        except (OSError, ValueError) as error:
            raise EndpointError(
                f"endpoint {self.url}: {error}; no answer to {method} {path}"
            ) from error
