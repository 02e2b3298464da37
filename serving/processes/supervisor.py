"""The supervisor: it loads once what its workers share, and leads them; it answers no request."""

import asyncio
import contextlib
import logging
import signal
import weakref
from collections.abc import Coroutine, Iterator
from typing import TypeVar, cast

import torch
from prometheus_client import CollectorRegistry

from features.online_store.reader import open_rows
from features.places import uri
from serving.inference.loader import Models, champion_of
from serving.inference.ranker import Ranker
from serving.inference.repository import ChampionRepository
from serving.lookup.item_cache import LOAD_SECONDS, ItemRefresh
from serving.lookup.snapshot import Snapshot
from serving.observability.all_processes import AllProcesses
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

logger = logging.getLogger(__name__)


class Supervisor:
    """Follows the registry and the store for all workers."""

    def __init__(self, options: Options, settings: Settings) -> None:
        """Nothing is started or loaded yet."""
        torch.set_num_threads(1)
        self._schema = schema = options.schema
        self._settings = settings
        self._begin = messages.Begin(
            schema=schema,
            store=uri(options.store),
            host=options.host,
            http_port=options.http_port,
            grpc_port=options.grpc_port,
        )
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
        self._moment = SharedMoment()
        self._snapshot: Snapshot | None = None
        self._ranker = Ranker(schema, online=rows, settings=settings)
        self._repository = ChampionRepository(
            self._ranker,
            champion_version=self._models.champion_version,
            load_champion=self._load,
            shares=self._models.shares,
            prepared=self._prepared,
        )
        self.registry = CollectorRegistry()
        """Metrics of the supervisor and of all workers."""
        self.registry.register(AllProcesses(self._repository.shown_versions))
        self._images: weakref.WeakKeyDictionary[Champion, tuple[int, SharedObject]] = (
            weakref.WeakKeyDictionary()
        )
        self._num_images = self._generation = 0

    def run(self) -> str | None:
        """Serve until SIGINT or SIGTERM; returns the version of the champion at the end.

        Raises:
            ValueError: Workers end again and again.
        """
        asyncio.run(self._run())
        return self._ranker.version

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        number = self._settings.processes.num_workers
        self._workers = Workers(
            self._begin, number=number, moment=self._moment, on_change=self._change
        )
        stopping = asyncio.Event()
        for one in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(one, self._on_signal, one, stopping)
        logger.info("%d workers on %s", number, self._begin.host)
        self._workers.start()
        ends = [asyncio.ensure_future(self._workers.failed.wait())]
        ends.append(asyncio.ensure_future(stopping.wait()))
        # While they start, what they are to serve is loaded.
        loading = asyncio.ensure_future(asyncio.to_thread(self._load_first))
        await asyncio.wait([loading, *ends], return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await self._workers.stop(self._settings.limits.drain_seconds)
        self._refresh.stop()
        if self._workers.failed.is_set():
            raise ValueError("workers: ended again and again; the log says why")

    def _on_signal(self, number: signal.Signals, stopping: asyncio.Event) -> None:
        """End; a second signal does not wait for open requests."""
        logger.info("stopped by %s", number.name)
        if stopping.is_set():
            self._workers.kill()
        stopping.set()

    def _load_first(self) -> None:
        self._refresh.start()
        self._repository.load_if_there_is_one()
        if self._ranker.version is None:
            self._say_why_not()

    def _say_why_not(self) -> None:
        with self._prepared(ServingVersions()):
            pass

    async def _change(self, message: object) -> None:
        """What a worker was asked for, for all of them."""
        is_load = isinstance(message, messages.Load)
        change = self._repository.load_now if is_load else self._repository.follow_now
        try:
            await self._repository.change(change)
        except RequestError:
            if self._ranker.version is None:
                await asyncio.to_thread(self._say_why_not)
            raise

    def _load(self, version: str) -> Champion:
        """A version in memory that workers can map; the first copy of it is dropped."""
        shared = SharedObject(self._models.open(version).image)
        image = cast(Image, mapped(shared.descriptor))
        champion = champion_of(attach(image, self._schema, num_threads=1), num_threads=1)
        self._num_images += 1
        self._images[champion] = self._num_images, shared
        return champion

    @contextlib.contextmanager
    def _prepared(self, versions: ServingVersions) -> Iterator[None]:
        """As ``ChampionRepository`` has it: loaded by all workers, and served from the end on."""
        self._wait(self._workers.prepare(self._plan(versions)))
        try:
            yield
        except BaseException:
            self._loop.call_soon_threadsafe(self._workers.release)
            raise
        self._wait(self._workers.commit())

    def _wait(self, coroutine: Coroutine[object, object, Result]) -> Result:
        """What a coroutine of the event loop returns, for a thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _plan(self, versions: ServingVersions) -> Plan:
        weighted = (one.model for one in (versions.canary, versions.shadow) if one)
        images = dict(self._images[model] for model in (versions.champion, *weighted) if model)
        self._generation += 1
        message = messages.Prepare(
            generation=self._generation,
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
            self._loop.call_soon_threadsafe(self._workers.hold_items, shared)
        self._moment.set(equal_at)
