"""A stand-in for a Kubernetes API on loopback: server, clients' file, and loops that look at it."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import yaml
from kmock import KubernetesEmulator, Server

Api = TypeVar("Api", bound=KubernetesEmulator)
log = logging.getLogger(__name__)


@contextlib.contextmanager
def served(kind: Callable[[], Api]) -> Iterator[Api]:
    """An API of a kind, in a thread; its ``address`` is where."""
    started, ended = threading.Event(), threading.Event()
    held: list[Api] = []

    async def serve() -> None:
        async with kind() as handler, Server(handler):
            handler.start()
            handler.address = str(handler.url).rstrip("/")
            held.append(handler)
            started.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield held[0]
    finally:
        ended.set()
        thread.join(10)


@contextlib.contextmanager
def repeating(look: Callable[[], object], *, seconds: float) -> Iterator[list[Exception]]:
    """Call something again and again in a thread, as controllers look at an API.

    Yields:
        What has ended it; empty while it goes on.

    Raises:
        Exception: The same, at the end of the block.
    """
    stopped = threading.Event()
    errors: list[Exception] = []

    def loop() -> None:
        while not stopped.wait(seconds):
            try:
                look()
            except Exception as error:
                log.exception("a control loop has ended")
                errors.append(error)
                return

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield errors
    finally:
        stopped.set()
        thread.join()
    if errors:
        raise errors[0]


def write_kubeconfig(file: Path, address: str, user: Mapping[str, str]) -> None:
    """Name an API as the only one, and who asks it."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": address}}],
        "users": [{"name": "me", "user": dict(user)}],
    }
    file.write_text(yaml.safe_dump(config))
