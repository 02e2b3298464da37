"""The supervisor: it loads once what its workers share, and leads them; it answers no request."""

import asyncio
import logging
import signal

import torch
from prometheus_client import CollectorRegistry

from features.places import uri
from serving.admission import Admission
from serving.inference.served_models import ServedModels
from serving.observability.all_processes import AllProcesses
from serving.processes import messages
from serving.processes.options import Options
from serving.processes.shared_model import SharedModel
from serving.processes.workers import Workers
from serving.settings import Settings

logger = logging.getLogger(__name__)


class Supervisor:
    """Follows the registries and the store for all workers."""

    def __init__(self, options: Options, settings: Settings) -> None:
        """Nothing is started or loaded yet."""
        torch.set_num_threads(1)
        self._settings = settings
        self._begin = messages.Begin(
            num_models=len(options.schemas),
            store=uri(options.store),
            host=options.host,
            http_port=options.http_port,
            grpc_port=options.grpc_port,
        )
        self._models = {
            schema.name: SharedModel(schema, options, settings) for schema in options.schemas
        }
        repositories = [model.repository for model in self._models.values()]
        self._served = ServedModels(repositories, Admission(settings.limits))
        self.registry = CollectorRegistry()
        """Metrics of the supervisor and of all workers."""
        self.registry.register(AllProcesses(self._served.shown_versions))

    def run(self) -> dict[str, str | None]:
        """Serve until SIGINT or SIGTERM; returns the champion of each model at the end.

        Raises:
            ValueError: Workers end again and again.
        """
        asyncio.run(self._run())
        return self._served.versions

    async def _run(self) -> None:
        loop, number = asyncio.get_running_loop(), self._settings.processes.num_workers
        models = {name: model.begin for name, model in self._models.items()}
        workers = Workers(self._begin, models, number=number, on_change=self._change)
        for model in self._models.values():
            model.lead(workers, loop)
        stopping = asyncio.Event()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self._on_signal, one, stopping, workers)
        logger.info("%d workers on %s: %s", number, self._begin.host, ", ".join(self._models))
        workers.start()
        ends = [asyncio.ensure_future(workers.failed.wait())]
        ends.append(asyncio.ensure_future(stopping.wait()))
        # While they start, what they are to serve is loaded.
        loading = asyncio.ensure_future(asyncio.to_thread(self._load_first))
        await asyncio.wait([loading, *ends], return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await workers.stop(self._settings.limits.drain_seconds)
        for model in self._models.values():
            model.stop()
        if workers.failed.is_set():
            raise ValueError("workers: ended again and again; the log says why")

    def _load_first(self) -> None:
        for model in self._models.values():
            model.load_first()

    async def _change(self, message: messages.OfModel) -> None:
        await self._models[message.model].change(message)

    def _on_signal(self, number: signal.Signals, stopping: asyncio.Event, workers: Workers) -> None:
        """End; a second signal does not wait for open requests."""
        logger.info("stopped by %s", number.name)
        if stopping.is_set():
            workers.kill()
        stopping.set()
