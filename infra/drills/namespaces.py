"""Two hosts on one machine: network namespaces joined by a cable that can be cut."""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

ADDRESSES = ("10.77.0.1", "10.77.0.2")
_NAMED = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_INTERFACE = "cable0"


class Namespaces:
    """Hosts 0 and 1, each with a network of its own and nothing else of its own."""

    def __init__(self) -> None:
        """Name them; nothing is made."""
        self._names = [f"ranking-{os.getpid()}-{number}" for number in range(len(ADDRESSES))]

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Make both and the cable; at the end nothing of them is left, nor of what runs in them.

        Raises:
            PermissionError: This process may not make namespaces, or there is no ``ip``.
        """
        try:
            for name in self._names:
                _ip("netns", "add", name)
            first, second = self._names
            ends = (_INTERFACE, "netns", first), ("name", _INTERFACE, "netns", second)
            _ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
            for name, address in zip(self._names, ADDRESSES, strict=True):
                _ip("-n", name, "address", "add", f"{address}/24", "dev", _INTERFACE)
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "link", "set", _INTERFACE, "up")
            yield
        finally:
            for number, name in enumerate(self._names):
                if (_NAMED / name).exists():
                    self.kill(number)
                    _ip("netns", "delete", name)

    @contextlib.contextmanager
    def inside(self, number: int) -> Iterator[None]:
        """What this thread starts within is on that host."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open() as own:
            with (_NAMED / self._names[number]).open() as other:
                _enter(libc, other.fileno())
            try:
                yield
            finally:
                _enter(libc, own.fileno())

    def kill(self, number: int) -> None:
        """SIGKILL for all that runs on a host, as if it had lost its power."""
        for pid in _ip("netns", "pids", self._names[number]).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def cut(self) -> None:
        """Let nothing through, in silence; both ends still think that they are connected."""
        self._set_cable("down")

    def mend(self) -> None:
        """Let everything through again."""
        self._set_cable("up")

    def _set_cable(self, state: str) -> None:
        _ip("-n", self._names[0], "link", "set", _INTERFACE, state)


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> str:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise PermissionError("network namespaces: no `ip`, of the package iproute2") from error
    except subprocess.CalledProcessError as error:
        text = f"network namespaces: ip {' '.join(arguments)}: {error.stderr.strip()}"
        raise PermissionError(f"{text}; CAP_SYS_ADMIN and CAP_NET_ADMIN are needed") from error
    return done.stdout
