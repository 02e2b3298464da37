"""A model as the supervisor has it: its items and its versions are in memory that workers map."""

import asyncio
import contextlib
import itertools
import weakref
from collections.abc import Coroutine, Iterator
from typing import TypeVar, cast

from features.online_store.reader import open_rows
from features.schema import Schema
from serving.inference.loader import Models, champion_of
from serving.inference.ranker import Ranker
from serving.inference.repository import ChampionRepository
from serving.lookup.item_cache import LOAD_SECONDS, ItemRefresh, Snapshot
from serving.processes import messages
from serving.processes.options import Options
from serving.processes.shared_memory import SharedMoment, SharedObject, mapped
from serving.processes.workers import Plan, Workers
from serving.protocol.errors import RequestError
from serving.routing.serving_versions import Champion, ServingVersions, WeightedModel
from serving.routing.traffic_split import Share
from serving.settings import Settings
from training.artifact.artifact import attach
from training.artifact.image import Image

Result = TypeVar("Result")


class SharedModel:
    """Follows one data set's registry and store for all workers."""

    def __init__(self, schema: Schema, options: Options, settings: Settings) -> None:
        """Nothing is started or loaded yet."""
        self._schema = schema
        self._models = Models(
            schema,
            artifacts=options.artifacts,
            tracking=options.tracking,
            model=options.model,
            compiled=options.compiled,
        )
        # All items take longer to read than a request may wait.
        rows = open_rows(schema, options.store, timeout_seconds=LOAD_SECONDS)
        self._refresh = ItemRefresh(schema, rows, settings.store, on_look=self._on_look)
        self._shared_schema, self._moment = SharedObject(schema), SharedMoment()
        self._snapshot: Snapshot | None = None
        self._ranker = Ranker(schema, online=rows, settings=settings)
        self.repository = ChampionRepository(
            self._ranker,
            champion_version=self._models.champion_version,
            load_champion=self._load,
            shares=self._models.shares,
            prepared=self._prepared,
        )
        self._images: weakref.WeakKeyDictionary[Champion, tuple[int, SharedObject]] = (
            weakref.WeakKeyDictionary()
        )
        self._image_numbers, self._generations = itertools.count(1), itertools.count(1)

    @property
    def begin(self) -> tuple[SharedObject, SharedMoment]:
        """What a worker is to know of it at its start: its schema, and how old its items are."""
        return self._shared_schema, self._moment

    def lead(self, workers: Workers, loop: asyncio.AbstractEventLoop) -> None:
        """Have these workers follow from now on.

        Args:
            workers: The workers.
            loop: From which they are used.
        """
        self._workers, self._loop = workers, loop

    def load_first(self) -> None:
        """Load the items and the champion, or have the workers say why there is none."""
        self._refresh.start()
        self.repository.load_if_there_is_one()
        if self._ranker.version is None:
            self._say_why_not()

    def stop(self) -> None:
        """Look into the store no more."""
        self._refresh.stop()

    async def change(self, message: messages.OfModel) -> None:
        """What a worker was asked for, for all of them."""
        is_load = isinstance(message, messages.Load)
        change = self.repository.load_now if is_load else self.repository.follow_now
        try:
            await self.repository.change(change)
        except RequestError:
            if self._ranker.version is None:
                await asyncio.to_thread(self._say_why_not)
            raise

    def _say_why_not(self) -> None:
        with self._prepared(ServingVersions()):
            pass

    def _load(self, version: str) -> Champion:
        """A version in memory that workers can map; the first copy of it is dropped."""
        shared = SharedObject(self._models.open(version).image)
        image = cast(Image, mapped(shared.descriptor))
        champion = champion_of(attach(image, self._schema, num_threads=1), num_threads=1)
        self._images[champion] = next(self._image_numbers), shared
        return champion

    @contextlib.contextmanager
    def _prepared(self, versions: ServingVersions) -> Iterator[None]:
        """As ``ChampionRepository`` has it: loaded by all workers, and served from the end on."""
        self._wait(self._workers.prepare(self._plan(versions)))
        try:
            yield
        except BaseException:
            self._loop.call_soon_threadsafe(self._workers.release, self._schema.name)
            raise
        self._wait(self._workers.commit(self._schema.name))

    def _wait(self, coroutine: Coroutine[object, object, Result]) -> Result:
        """What a coroutine of the event loop returns, for a thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _plan(self, versions: ServingVersions) -> Plan:
        weighted = (one.model for one in (versions.canary, versions.shadow) if one)
        images = dict(self._images[model] for model in (versions.champion, *weighted) if model)
        message = messages.Prepare(
            self._schema.name,
            generation=next(self._generations),
            images=tuple(images),
            champion=self._images[versions.champion][0] if versions.champion else None,
            canary=self._weighted(versions.canary),
            shadow=self._weighted(versions.shadow),
            why_not_ready=self._ranker.why_not_ready,
        )
        return Plan(message, list(images.values()))

    def _weighted(self, role: WeightedModel | None) -> tuple[int, Share] | None:
        return (self._images[role.model][0], role.share) if role else None

    def _on_look(self, snapshot: Snapshot | None, equal_at: float) -> None:
        """After each look into the store, in its thread."""
        if snapshot is not self._snapshot:
            shared = None if snapshot is None else SharedObject(snapshot)
            # What this process compares and renews is in that memory too.
            self._snapshot = cast(Snapshot, mapped(shared.descriptor)) if shared else None
            self._refresh.held.snapshot = self._snapshot
            name = self._schema.name
            self._loop.call_soon_threadsafe(self._workers.hold_items, name, shared)
        self._moment.set(equal_at)
