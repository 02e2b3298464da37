"""A worker: one of several processes that answer on the endpoint's ports, led by a supervisor.

    python -m serving.processes.worker DESCRIPTOR      the supervisor starts it

It opens the store for users. Items and models it gets from its supervisor, in shared memory.
"""

import asyncio
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
from serving.inference.load_request import check_scores
from serving.inference.loader import champion_of
from serving.inference.ranker import Ranker
from serving.inference.ranker_repository import RankerRepository
from serving.lookup.item_cache import HeldItems
from serving.lookup.snapshot import Snapshot
from serving.observability.all_processes import AllProcesses
from serving.processes import messages
from serving.processes.channel import Channel
from serving.processes.shared_memory import SharedMoment, mapped
from serving.protocol.inference_request import check_name
from serving.routing.serving_versions import Champion, ServingVersions, WeightedModel
from serving.routing.traffic_split import Share
from serving.server import RankingServer
from serving.settings import Settings
from training.artifact.artifact import attach
from training.artifact.image import Image

_LOG_FORMAT = "%(asctime)s [%(process)d] %(name)s %(message)s"


class FollowerRepository(RankerRepository):
    """Holds what the supervisor has loaded; a load asked of it is one of all workers."""

    def __init__(self, ranker: Ranker, ask: Callable[[object], "asyncio.Future[None]"]) -> None:
        """Args: the model; what asks the supervisor for something."""
        super().__init__(ranker)
        self._ask = ask

    async def load(self, name: str) -> bool:
        """As ``RankerRepository`` has it."""
        check_name(name)
        await self._ask(messages.Load())
        return True

    async def follow(self, name: str) -> dict[str, object]:
        """As ``RankerRepository`` has it."""
        check_name(name)
        await self._ask(messages.Follow())
        return self._ranker.versions.to_dict()


class Worker:
    """What a worker does when its supervisor says so: the group of its server."""

    def __init__(
        self, connection: socket.socket, ranker: Ranker, *, items: HeldItems, num_threads: int
    ) -> None:
        """Nothing is read from the supervisor yet.

        Args:
            connection: To the supervisor.
            ranker: The model.
            items: Where it finds the items.
            num_threads: Of a request that has this process to itself.
        """
        self._ranker = ranker
        self._items = items
        self._num_threads = num_threads
        self._channel = Channel(connection, answer=self._answer, on_end=self._on_end)
        self.repository = FollowerRepository(ranker, self._channel.send)
        self.collector: Collector = AllProcesses(self.repository.shown_versions)
        # One after the other, as they were sent.
        self._in_turn = asyncio.Lock()
        self._loaded: dict[int, Champion] = {}
        self._prepared: tuple[messages.Prepare, dict[int, Champion]] | None = None
        self._has_begun = asyncio.Event()
        self._is_alone = False
        """Whether the supervisor has ended."""

    async def join(self, *, stop: Callable[[str], None], complete: Callable[[], None]) -> None:
        """As ``serving.server.Group`` has it."""
        self._stop, self._complete = stop, complete
        self._channel.start()
        await self._has_begun.wait()
        if self._is_alone:
            raise ConnectionError("supervisor: ended before there was anything to serve")

    def listen(self) -> None:
        """As ``serving.server.Group`` has it."""
        self._channel.send(messages.Listening())

    def _on_end(self) -> None:
        """Without a supervisor no one would replace this process, or have it load."""
        self._is_alone = True
        self._has_begun.set()
        self._stop("the end of its supervisor")

    async def _answer(self, message: object, descriptors: Sequence[int]) -> None:
        if isinstance(message, messages.Stop):
            self._stop("its supervisor")
            return
        async with self._in_turn:
            match message:
                case messages.HoldItems():
                    await self._hold_items(descriptors)
                case messages.Prepare():
                    await asyncio.to_thread(self._prepare, message, descriptors)
                case messages.Commit(generation):
                    await self._commit(generation)
                case messages.Release():
                    self._prepared = None
                case messages.Complete():
                    self._complete()

    async def _hold_items(self, descriptors: Sequence[int]) -> None:
        if not descriptors:
            self._items.hold(None)
            return
        self._items.hold(cast(Snapshot, await asyncio.to_thread(mapped, *descriptors)))
        self._items.show_age()

    def _prepare(self, message: messages.Prepare, descriptors: Sequence[int]) -> None:
        # As a load in a server of one process does.
        torch.set_num_threads(1)
        loaded = {}
        for number, descriptor in zip(message.images, descriptors, strict=True):
            loaded[number] = self._loaded.get(number) or self._attached(descriptor)
        self._prepared = message, loaded

    def _attached(self, descriptor: int) -> Champion:
        image = cast(Image, mapped(descriptor))
        loaded = attach(image, self._ranker.schema, num_threads=1)
        champion = champion_of(loaded, num_threads=self._num_threads)
        check_scores(champion, self._ranker)
        return champion

    async def _commit(self, generation: int) -> None:
        if self._prepared is None or self._prepared[0].generation != generation:
            raise ValueError(f"generation: {generation}; one that was prepared")
        (message, self._loaded), self._prepared = self._prepared, None
        self._ranker.why_not_ready = message.why_not_ready
        self.repository.serve(
            ServingVersions(
                champion=None if message.champion is None else self._loaded[message.champion],
                canary=self._weighted(message.canary),
                shadow=self._weighted(message.shadow),
            )
        )
        await self.repository.warm_up()
        self._has_begun.set()

    def _weighted(self, role: tuple[int, Share] | None) -> WeightedModel | None:
        return WeightedModel(model=self._loaded[role[0]], share=role[1]) if role else None


def main(descriptor: int) -> None:
    """Serve until the supervisor says so, or has ended."""
    # Ctrl-C is for the supervisor, which tells its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=descriptor)
    begin, descriptors = messages.receive(connection)
    assert isinstance(begin, messages.Begin)
    settings = Settings.from_environment().of_worker()
    logging.basicConfig(level=logging.WARNING, format=_LOG_FORMAT)
    logging.getLogger("serving").setLevel(logging.INFO)
    # As in every command; and prometheus_client warns that its files keep what has no series.
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = open_rows(begin.schema, place(begin.store), timeout_seconds=settings.store.max_seconds)
    items = HeldItems(settings.store, equal_at=SharedMoment(*descriptors).get)
    ranker = Ranker(begin.schema, online=rows, items=items, settings=settings)
    worker = Worker(connection, ranker, items=items, num_threads=settings.scoring.num_threads)
    RankingServer(
        ranker,
        repository=worker.repository,
        host=begin.host,
        http_port=begin.http_port,
        grpc_port=begin.grpc_port,
        settings=settings,
        group=worker,
    ).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
