"""Ports that several processes of one endpoint share, and no other server may take."""

import socket


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps other servers off a port until it is closed, and is no listener.

    Processes of the same user that set SO_REUSEPORT may listen meanwhile. ValueError where the port
    is not free.
    """
    held = socket.socket()
    # Connections of the server before, of which the kernel still knows, are no obstacle.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((host, port))
    except OSError as error:
        held.close()
        raise ValueError(f"port: {host}:{port}; a free one: {error.strerror}") from error
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return held
