"""Checks of the stack's parts over the network: does one answer, is a port free?"""

import json
import os
import socket
import urllib.request
from typing import Any

from infra.local.settings import HOST

JsonObject = dict[str, Any]
"""What another process wrote as JSON; the keys are that process's."""


def call(url: str, *, method: str = "GET", body: object = None, seconds: float = 30) -> Any:
    """The JSON answer to a JSON request; OSError where there is none."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data=data, method=method, headers={"Content-Type": "application/json"}
    )
    if token := os.environ.get("RANKING_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return json.loads(answer.read() or b"null")


def answers(url: str) -> bool:
    """Whether an address answers with success."""
    try:
        call(url, seconds=5)
    except OSError:
        return False
    return True


def listens(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def require_free_port(port: int, variable: str) -> None:
    """ValueError naming the port where something listens on it already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ValueError(
                f"port {port}: in use; end what listens there (`make down` ends a stack of ours), "
                f"or choose another with {variable}"
            ) from error
