"""Connections to a server below HTTP, for callers that send slowly, leave, or stay."""

import contextlib
import socket
from collections.abc import Iterator

from support.serving.running_server import Server


def address(server: Server) -> tuple[str, int]:
    """Host and port of REST."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    return host, int(port)


@contextlib.contextmanager
def sockets(server: Server, number: int) -> Iterator[list[socket.socket]]:
    """So many connections, in a block."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(address(server))) for _ in range(number)
        ]


def head(content: bytes, path: str = "/v2/models/stand-in/infer") -> bytes:
    """Request line and headers of a POST with this body."""
    lines = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{lines}Content-Length: {len(content)}\r\n\r\n".encode()
