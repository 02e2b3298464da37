"""What a supervisor and its workers say to each other, over a socket pair of each worker."""

import dataclasses
import pickle
import socket
from collections.abc import Sequence

from serving.routing.traffic_split import Share

MAX_BYTES = 128 * 1024
"""Of a message: what is large lies in shared memory."""
MAX_DESCRIPTORS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Begin:
    """The first message to a worker."""

    num_models: int
    """So many messages ``Model`` follow."""
    store: str
    """URI of the online store."""
    host: str
    http_port: int
    grpc_port: int


@dataclasses.dataclass(frozen=True)
class OfModel:
    """A message about one model; those about one and the same are worked on in their order."""

    model: str


@dataclasses.dataclass(frozen=True)
class Model(OfModel):
    """To a worker: have this model; with the descriptors of its schema and its items' moment."""


@dataclasses.dataclass(frozen=True)
class HoldItems(OfModel):
    """To a worker: use these items from now on; with the descriptor of a ``Snapshot``, or none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepare(OfModel):
    """To a worker: load these versions, and go on serving what it has.

    With the descriptor of each image that is named.
    """

    generation: int
    images: tuple[int, ...]
    """Numbers of the images; what a worker has under a number it does not load again."""
    champion: int | None
    canary: tuple[int, Share] | None
    shadow: tuple[int, Share] | None
    why_not_ready: str


@dataclasses.dataclass(frozen=True)
class Commit(OfModel):
    """To a worker: serve what was prepared."""

    generation: int


@dataclasses.dataclass(frozen=True)
class Release(OfModel):
    """To a worker: drop what was prepared."""


@dataclasses.dataclass(frozen=True)
class Complete:
    """To a worker: all workers listen."""


@dataclasses.dataclass(frozen=True)
class Stop:
    """To a worker: end, once what has begun is answered."""


@dataclasses.dataclass(frozen=True)
class Listening:
    """To the supervisor: the worker answers requests."""


@dataclasses.dataclass(frozen=True)
class Load(OfModel):
    """To the supervisor: have all workers serve the champion of this moment."""


@dataclasses.dataclass(frozen=True)
class Follow(OfModel):
    """To the supervisor: have all workers serve the canary and the challenger of this moment."""


def send(to: socket.socket, message: object, descriptors: Sequence[int] = ()) -> None:
    """Send one message whole; BlockingIOError where the other side does not read."""
    content = pickle.dumps(message)
    if len(content) > MAX_BYTES:
        raise ValueError(f"message {message!r:.200}: {len(content)} bytes; at most {MAX_BYTES}")
    socket.send_fds(to, [content], list(descriptors))


def receive(where: socket.socket) -> tuple[object, list[int]]:
    """The next message and its descriptors; EOFError where the other side has ended."""
    content, descriptors, _, _ = socket.recv_fds(where, MAX_BYTES, MAX_DESCRIPTORS)
    if not content:
        raise EOFError
    return pickle.loads(content), descriptors
