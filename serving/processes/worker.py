"""A worker: one of several processes that answer on the endpoint's ports, led by a supervisor.

    python -m serving.processes.worker DESCRIPTOR      the supervisor starts it

It opens the store for users. Items and models it gets from its supervisor, in shared memory.
"""

import logging
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import cast

import torch
from prometheus_client.registry import Collector

from features.online_store.reader import open_rows
from features.places import place
from features.schema import Schema
from serving.admission import Admission
from serving.inference.ranker import Ranker
from serving.inference.served_models import ServedModels
from serving.lookup.item_cache import HeldItems
from serving.observability.all_processes import AllProcesses
from serving.processes import messages
from serving.processes.channel import Channel
from serving.processes.follower import FollowerRepository
from serving.processes.shared_memory import SharedMoment, mapped
from serving.server import RankingServer
from serving.settings import Settings

_LOG_FORMAT = "%(asctime)s [%(process)d] %(name)s %(message)s"


class Worker:
    """What a worker does when its supervisor says so: the group of its server."""

    def __init__(
        self,
        connection: socket.socket,
        models: Sequence[tuple[Ranker, HeldItems]],
        *,
        admission: Admission,
        num_threads: int,
    ) -> None:
        """Nothing is read from the supervisor yet.

        Args:
            connection: To the supervisor.
            models: The models, and where each finds its items.
            admission: Of all of them.
            num_threads: Of a request that has this process to itself.
        """
        self._channel = Channel(connection, answer=self._answer, on_end=self._on_end)
        self._repositories = {
            ranker.name: FollowerRepository(
                ranker, items, ask=self._channel.send, num_threads=num_threads
            )
            for ranker, items in models
        }
        self.models = ServedModels(list(self._repositories.values()), admission)
        self.collector: Collector = AllProcesses(self.models.shown_versions)
        self._is_alone = False
        """Whether the supervisor has ended."""

    async def join(self, *, stop: Callable[[str], None], complete: Callable[[], None]) -> None:
        """As ``serving.server.Group`` has it."""
        self._stop, self._complete = stop, complete
        self._channel.start()
        for repository in self._repositories.values():
            await repository.has_begun.wait()
        if self._is_alone:
            raise ConnectionError("supervisor: ended before there was anything to serve")

    def listen(self) -> None:
        """As ``serving.server.Group`` has it."""
        self._channel.send(messages.Listening())

    def _on_end(self) -> None:
        """Without a supervisor no one would replace this process, or have it load."""
        self._is_alone = True
        for repository in self._repositories.values():
            repository.has_begun.set()
        self._stop("the end of its supervisor")

    async def _answer(self, message: object, descriptors: Sequence[int]) -> None:
        match message:
            case messages.Stop():
                self._stop("its supervisor")
            case messages.Complete():
                self._complete()
            case messages.OfModel():
                await self._repositories[message.model].do(message, descriptors)


def main(descriptor: int) -> None:
    """Serve until the supervisor says so, or has ended."""
    # Ctrl-C is for the supervisor, which tells its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=descriptor)
    begin, _ = messages.receive(connection)
    assert isinstance(begin, messages.Begin)
    given = [_received(connection) for _ in range(begin.num_models)]
    settings = Settings.from_environment().of_worker()
    logging.basicConfig(level=logging.WARNING, format=_LOG_FORMAT)
    logging.getLogger("serving").setLevel(logging.INFO)
    # As in every command; and prometheus_client warns that its files keep what has no series.
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    admission = Admission(settings.limits, [schema.name for schema, _ in given])
    models = [
        _model(schema, moment, begin=begin, settings=settings, admission=admission)
        for schema, moment in given
    ]
    threads = settings.scoring.num_threads
    worker = Worker(connection, models, admission=admission, num_threads=threads)
    RankingServer(
        worker.models,
        host=begin.host,
        http_port=begin.http_port,
        grpc_port=begin.grpc_port,
        settings=settings,
        group=worker,
    ).start()


def _received(connection: socket.socket) -> tuple[Schema, SharedMoment]:
    message, descriptors = messages.receive(connection)
    assert isinstance(message, messages.Model)
    schema, moment = descriptors
    return cast(Schema, mapped(schema)), SharedMoment(moment)


def _model(
    schema: Schema,
    moment: SharedMoment,
    *,
    begin: messages.Begin,
    settings: Settings,
    admission: Admission,
) -> tuple[Ranker, HeldItems]:
    rows = open_rows(schema, place(begin.store), timeout_seconds=settings.store.max_seconds)
    items = HeldItems(settings.store, equal_at=moment.get, schema=schema)
    return Ranker(schema, online=rows, items=items, settings=settings, admission=admission), items


if __name__ == "__main__":
    main(int(sys.argv[1]))
