"""Requests to the Kubernetes API: credentials, time-outs, and what each failure means.

What may pass by itself (no connection, 5xx, time-outs, an expired token, a stale read) is an error
of its own; who calls knows how often and until when to try again.
"""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from serving.release.canary_target import CanaryTargetError

_APPLY, _JSON = "application/apply-patch+yaml", "application/json"
Live = dict[str, Any]


class UnavailableError(CanaryTargetError):
    """The API server did not answer, or not now."""


class StaleError(UnavailableError):
    """The object has changed since it was read; it is to be read again."""


class NotFoundError(CanaryTargetError):
    """There is no such object, or no such kind of objects."""


class Api:
    """An API server.

    Args:
        connect: A client with an address and credentials; called again when they have expired.
    """

    def __init__(self, connect: Callable[[], client.ApiClient]) -> None:
        self._connect = connect
        self._client = connect()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Live | None = None,
        timeout_seconds: float,
    ) -> str:
        """The text of an answer, of created objects (201) like of those that were there (200).

        Raises:
            UnavailableError: No answer in time, or one that may be another one later.
            NotFoundError: 404.
            CanaryTargetError: All else, with the server's own words.
        """
        resource = f"{method} {path.removeprefix('/apis/')}"

        def ask() -> str:
            answer = self._client.call_api(
                *(path, method),
                query_params=list((query or {}).items()),
                header_params={
                    "Accept": _JSON,
                    "Content-Type": _APPLY if method == "PATCH" else _JSON,
                },
                body=body,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=timeout_seconds,
            )
            return str(answer.data.decode())

        try:
            try:
                return ask()
            except client.ApiException as error:
                if error.status != HTTPStatus.UNAUTHORIZED:
                    raise
                # The client reads a token's file once; it may have been renewed since.
                self._client = self._connect()
                return ask()
        except client.ApiException as error:
            if not error.status:
                raise UnavailableError(f"{resource}: {error}") from error
            raise _error_of(resource, error.status, error.body or "") from error
        except (HTTPError, OSError) as error:
            raise UnavailableError(f"{resource}: {error}") from error


def connect(*, kubeconfig: str | None, context: str | None) -> client.ApiClient:
    """A client by a kubeconfig's context or, inside a pod without one, by the pod's account."""
    configuration = client.Configuration()
    try:
        config.load_kube_config(kubeconfig, context, client_configuration=configuration)
    except config.ConfigException as error:
        try:
            config.load_incluster_config(configuration)
        except config.ConfigException:
            raise CanaryTargetError(f"kubeconfig {kubeconfig or 'default'}: {error}") from error
    # Who calls knows better how often and until when.
    configuration.retries = False
    return client.ApiClient(configuration)


def _error_of(resource: str, status: int, text: str) -> CanaryTargetError:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    content = found if isinstance(found, dict) else {}
    causes = (content.get("details") or {}).get("causes") or []
    conflicts = [one for one in causes if one.get("reason") == "FieldManagerConflict"]
    if conflicts:
        fields = "; ".join(f"{one.get('field')}: {one.get('message')}" for one in conflicts)
        return CanaryTargetError(f"{resource}: {fields}; --force takes the fields over")
    message = f"{resource}: {status}; {content.get('message') or text}"
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(message)
    if status == HTTPStatus.CONFLICT:
        return StaleError(message)
    passing = {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}
    is_passing = status in passing or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return (UnavailableError if is_passing else CanaryTargetError)(message)
