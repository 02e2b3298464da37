"""A model as a worker has it: what it serves is what the supervisor has loaded."""

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

import torch

from serving.inference.load_request import check_scores
from serving.inference.loader import champion_of
from serving.inference.ranker import Ranker
from serving.inference.ranker_repository import RankerRepository
from serving.lookup.item_cache import HeldItems, Snapshot
from serving.processes import messages
from serving.processes.shared_memory import mapped
from serving.routing.serving_versions import Champion, ServingVersions, WeightedModel
from serving.routing.traffic_split import Share
from training.artifact.artifact import attach
from training.artifact.image import Image


class FollowerRepository(RankerRepository):
    """Holds what the supervisor has loaded; a load asked of it is one of all workers."""

    def __init__(
        self,
        ranker: Ranker,
        items: HeldItems,
        *,
        ask: Callable[[object], "asyncio.Future[None]"],
        num_threads: int,
    ) -> None:
        """Nothing is held yet.

        Args:
            ranker: The model.
            items: Where it finds the items.
            ask: Asks the supervisor for something.
            num_threads: Of a request that has this process to itself.
        """
        super().__init__(ranker)
        self._items = items
        self._ask = ask
        self._num_threads = num_threads
        # One after the other, as they were sent.
        self._in_turn = asyncio.Lock()
        self._loaded: dict[int, Champion] = {}
        self._prepared: tuple[messages.Prepare, dict[int, Champion]] | None = None
        self.has_begun = asyncio.Event()
        """Set when there are versions to serve, or the reason why not."""

    async def load(self) -> None:
        """As ``RankerRepository`` has it."""
        await self._ask(messages.Load(self.ranker.name))

    async def follow(self) -> dict[str, object]:
        """As ``RankerRepository`` has it."""
        await self._ask(messages.Follow(self.ranker.name))
        return self.ranker.versions.to_dict()

    async def do(self, message: messages.OfModel, descriptors: Sequence[int]) -> None:
        """What the supervisor asks for."""
        async with self._in_turn:
            match message:
                case messages.HoldItems():
                    await self._hold_items(descriptors)
                case messages.Prepare():
                    await asyncio.to_thread(self._prepare, message, descriptors)
                case messages.Commit(generation=generation):
                    await self._commit(generation)
                case messages.Release():
                    self._prepared = None

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
        loaded = attach(image, self.ranker.schema, num_threads=1)
        champion = champion_of(loaded, num_threads=self._num_threads)
        check_scores(champion, self.ranker)
        return champion

    async def _commit(self, generation: int) -> None:
        if self._prepared is None or self._prepared[0].generation != generation:
            raise ValueError(f"generation: {generation}; one that was prepared")
        (message, self._loaded), self._prepared = self._prepared, None
        self.ranker.why_not_ready = message.why_not_ready
        self.serve(
            ServingVersions(
                champion=None if message.champion is None else self._loaded[message.champion],
                canary=self._weighted(message.canary),
                shadow=self._weighted(message.shadow),
            )
        )
        await self.warm_up()
        self.has_begun.set()

    def _weighted(self, role: tuple[int, Share] | None) -> WeightedModel | None:
        return WeightedModel(model=self._loaded[role[0]], share=role[1]) if role else None
