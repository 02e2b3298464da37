"""A model of a running server, seen from outside: what it serves, and that it is to look again.

No heavy import: the commands that use it start quickly.
"""

import dataclasses
import json
import time
from http import HTTPStatus

from features.cli import FailedError
from serving.settings import LOAD_SECONDS, ClientTls, Secret, Tls

DEFAULT_URL, NOWHERE = "http://127.0.0.1:8081", "none"
LOAD_TIMEOUT_SECONDS = LOAD_SECONDS + 60.0
"""How long its client waits for the answer: never less, or both would go different ways."""
ANSWER_TIMEOUT_SECONDS = 10.0
_PAUSE_SECONDS = 0.2


class EndpointError(FailedError):
    """The endpoint returned an error or an unexpected result; the text says what and why."""


class UnreachableError(EndpointError):
    """Nothing answers at an address at which there was to be a server."""


class NoEndpointError(ConnectionError):
    """Nothing answers, where that may be so."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A model of a running server, seen from outside.

    ``is_required``: that it does not answer is a failure, and not a machine without a server. A
    server that does not have the model is none for it.
    """

    url: str
    model: str
    """The name of its data set."""
    token: str | None = dataclasses.field(default=None, repr=False)
    tls: Tls = dataclasses.field(default_factory=Tls)
    is_required: bool = False

    @classmethod
    def from_environment(cls, url: str | None, *, model: str) -> "Endpoint":
        """A model of the server at an address, with RANKING_TOKEN and the client's certificates.

        A named address must have a server. None: the server of this machine, if there is one;
        ``none``: there is no server, and none is called.
        """
        is_required = url not in {None, NOWHERE}
        url = url or DEFAULT_URL
        return cls(
            url,
            model,
            token=Secret.from_environment().token,
            tls=ClientTls.from_environment(),
            is_required=is_required,
        )

    def load(self) -> None:
        """Have it load the champion; EndpointError with its reason where it cannot."""
        self._call(f"{self._stored}/load", method="POST", timeout=LOAD_TIMEOUT_SECONDS)

    def version(self) -> str | None:
        """The champion's version, which answers now; None without one."""
        path = f"/v2/models/{self.model}"
        content = self._call(path, method="GET", timeout=ANSWER_TIMEOUT_SECONDS)
        versions = content.get("versions")
        return str(versions[0]) if isinstance(versions, list) and any(versions[:1]) else None

    def follow(self, *, timeout_seconds: float = LOAD_TIMEOUT_SECONDS) -> dict[str, object]:
        """Have it load the registry's canary and challenger; the versions that serve then."""
        return self._call(f"{self._stored}/versions", method="POST", timeout=timeout_seconds)

    def serving_versions(self) -> dict[str, object]:
        """Champion, canary and shadow: versions and shares."""
        return self._call(f"{self._stored}/versions", method="GET", timeout=ANSWER_TIMEOUT_SECONDS)

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

    @property
    def _stored(self) -> str:
        return f"/v2/repository/models/{self.model}"

    def _call(self, path: str, *, method: str, timeout: float) -> dict[str, object]:
        answer = self._read(path, method=method, timeout=timeout)
        try:
            content = json.loads(answer)
        except ValueError as error:
            raise EndpointError(f"endpoint {self.url}: {error}; no JSON from {path}") from error
        return content if isinstance(content, dict) else {}

    def _absent(self, why: str, limit: str) -> Exception:
        where = f"endpoint {self.url}: {why}"
        return UnreachableError(f"{where}; {limit}") if self.is_required else NoEndpointError(where)

    def _read(self, path: str, *, method: str, timeout: float) -> bytes:
        if self.url == NOWHERE:
            raise NoEndpointError(f"endpoint {NOWHERE}: no server is called")
        import httpx  # 0.1 s, for which a command that calls no server need not wait

        try:
            answer = httpx.request(
                method,
                self.url.rstrip("/") + path,
                headers={"Authorization": f"Bearer {self.token}"} if self.token else {},
                timeout=timeout,
                verify=self.url.startswith("https:") and self.tls.client_context(),
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._absent(str(error), "a server that answers there") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EndpointError(
                f"endpoint {self.url}: {error}; no answer to {method} {path}"
            ) from error
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise self._absent(f"404; {answer.text}", f"a server with the model {self.model}")
        if not answer.is_success:
            raise EndpointError(f"endpoint {self.url}: {answer.status_code}; {answer.text}")
        return answer.content
