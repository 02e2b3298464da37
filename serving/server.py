"""KServe's model server with the ranker in it: REST and gRPC on one address.

``RankingServer`` takes what it works with as arguments; ``open_server`` opens the real store,
registry and artifacts and is the only function that knows them.
"""

import asyncio
import contextlib
import functools
import logging
import signal
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

import kserve
import uvloop
from kserve.constants.constants import FASTAPI_APP_IMPORT_STRING
from kserve.model_server import app
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.server import RESTServer

from features.places import Place
from features.schema import Schema
from serving.inference.ranker import Ranker
from serving.inference.repository import ChampionExtension, ChampionRepository
from serving.lookup.item_cache import ItemRefresh
from serving.observability import tracing
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import NAME, check_name
from serving.settings import Settings, Tls
from serving.transport.grpc_servicer import RankingServicer, create_server
from serving.transport.http_protocol import HttpProtocol
from serving.transport.middleware import Gateway
from serving.transport.routes import Routes

if TYPE_CHECKING:
    import grpc
    import uvicorn

LOAD_SECONDS = 10.0
"""How long the store may take to answer when all items are loaded."""
EXTENSIONS = ("binary_tensor_data", "model_repository")
"""As the protocol names them; KServe has a name of its own for the second."""
CHATTY_LOGGERS = ("kserve.trace", "uvicorn.access")
"""They write three lines a request; /metrics has the same in histograms."""

logger = logging.getLogger(__name__)


class RankingDataPlane(DataPlane):
    """Corrects KServe's data plane, which is always ready and has no version in its metadata.

    Its errors have the endpoint's one form.
    """

    def __init__(self, ranker: Ranker, *, repository: ChampionRepository) -> None:
        """Args: the model and the repository that holds it."""
        super().__init__(repository)
        self._ranker = ranker
        self.is_draining = False
        """Whether the server is about to end."""

    async def ready(self) -> bool:
        """Whether a model can answer, and goes on doing so."""
        return self._ranker.version is not None and not self.is_draining

    def get_model_from_registry(self, name: str) -> kserve.Model:
        """The ranker by its name; RequestError (404) for every other."""
        check_name(name)
        return self._ranker

    def metadata(self) -> dict[str, object]:
        """KServe's name and version, and what the endpoint has beyond the protocol's core."""
        metadata: dict[str, object] = super().metadata()
        return {**metadata, "extensions": [*EXTENSIONS, *cast(list[str], metadata["extensions"])]}

    async def model_metadata(self, model_name: str) -> dict[str, object]:
        """Inputs and outputs with type and shape, and the versions that answer."""
        metadata: dict[str, object] = await super().model_metadata(model_name)
        versions = [model.version for model in self._ranker.versions.answering]
        return {**metadata, "platform": "wukong", "versions": versions}


class RankingServer(kserve.ModelServer):
    """KServe's server on one address: its own listens on every interface of the machine."""

    def __init__(
        self,
        ranker: Ranker,
        *,
        repository: ChampionRepository,
        host: str,
        http_port: int,
        grpc_port: int,
        settings: Settings,
    ) -> None:
        """Load the champion; without one, every request is answered with the reason.

        Args: the model, the repository that holds it, the address, and the settings.
        """
        try:
            repository.load_now()
        except RequestError as error:
            # Up without a model: /v2/health/ready says so, and the next load can mend it.
            logger.warning("serving without a model: %s", error)
        super().__init__(
            http_port=http_port,
            grpc_port=grpc_port,
            registered_models=repository,
            enable_latency_logging=False,
            grace_period=settings.limits.drain_seconds,
        )
        for name in CHATTY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.host = host
        self.ranker = ranker
        self.dataplane = RankingDataPlane(ranker, repository=repository)
        self.model_repository_extension = ChampionExtension(repository)
        self._repository = repository
        self._settings = settings
        self._routes = Routes(
            dataplane=self.dataplane,
            ranker=ranker,
            repository=repository,
            settings=settings,
        )

    def start(self, models: list[kserve.Model] | None = None) -> None:
        """Answer until SIGINT or SIGTERM; a model that is not ready yet is no obstacle."""
        for port in (self.http_port, self.grpc_port):
            _check_free(self.host, port)
        self._routes.register(app)
        app.add_middleware(Gateway, settings=self._settings)
        tracing.start(self._settings.tracing)
        self.ranker.log.start()
        self.ranker.shadow.start()
        self.ranker.pairs.start()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self.serve())
        finally:
            self.ranker.shadow.stop()
            self.ranker.pairs.stop()
            self.ranker.log.stop()
            tracing.stop()

    async def serve(self) -> None:
        """Both sides, until a signal; then until what had begun is answered, or its time is up."""
        rest, grpc_server = self._rest(), self._grpc()
        stopping = self._stop_on_signals(rest)
        await self._repository.warm_up()
        await grpc_server.start()
        logger.info(
            "serving %s on %s: REST %d, gRPC %d", NAME, self.host, self.http_port, self.grpc_port
        )
        _log_settings(self._settings)
        rest_ended = asyncio.create_task(rest.start())
        stop_requested = asyncio.create_task(stopping.wait())
        await asyncio.wait({rest_ended, stop_requested}, return_when=asyncio.FIRST_COMPLETED)
        stop_requested.cancel()
        # Both at one time: neither side begins anything while the other one ends.
        await asyncio.gather(rest_ended, grpc_server.stop(self._settings.limits.drain_seconds))

    def _stop_on_signals(self, rest: RESTServer) -> asyncio.Event:
        """Have SIGINT and SIGTERM end both sides; a second one does not wait for open requests.

        Uvicorn's own handlers end REST alone, and raise the signal again afterwards.
        """
        stopping = asyncio.Event()
        uvicorn = rest._server
        uvicorn.capture_signals = contextlib.nullcontext

        def stop(name: str) -> None:
            logger.info("stopped by %s", name)
            uvicorn.force_exit = uvicorn.should_exit
            self.dataplane.is_draining = uvicorn.should_exit = True
            stopping.set()

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop, number.name)
        return stopping

    def _rest(self) -> RESTServer:
        rest = RESTServer(
            FASTAPI_APP_IMPORT_STRING,
            self.dataplane,
            self.model_repository_extension,
            self.http_port,
            grace_period=self.grace_period,
        )
        rest.config.host = self.host
        rest.config.http = functools.partial(HttpProtocol, limits=self._settings.limits)
        rest.config.ws = "none"
        _encrypt(rest.config, self._settings.tls)
        return rest

    def _grpc(self) -> "grpc.aio.Server":
        servicer = RankingServicer(
            self.dataplane, ranker=self.ranker, extension=self.model_repository_extension
        )
        return create_server(
            servicer, settings=self._settings, address=f"{self.host}:{self.grpc_port}"
        )


def open_server(
    schema: Schema,
    *,
    store: Place,
    artifacts: Place,
    tracking: Path,
    host: str,
    http_port: int,
    grpc_port: int,
    model: Place | None = None,
    compiled: Path | None = None,
) -> RankingServer:
    """The server on the real online store, registry and artifacts, set by the environment.

    ``model`` and ``compiled`` are as ``serving.inference.loader.Models`` has them.
    """
    import torch

    from features.online_store.reader import open_rows
    from serving.inference.loader import Models

    settings = Settings.from_environment()
    models = Models(
        schema,
        artifacts=artifacts,
        tracking=tracking,
        model=model,
        compiled=compiled,
        num_threads=settings.scoring.num_threads,
    )
    # Of whatever is no request that is alone: training.artifact.scorer says why.
    torch.set_num_threads(1)
    rows = open_rows(schema, store, timeout_seconds=settings.store.max_seconds)
    # All items take longer to read than a request may wait.
    all_rows = open_rows(schema, store, timeout_seconds=LOAD_SECONDS)
    items = ItemRefresh(schema, all_rows, settings.store)
    items.start()
    ranker = Ranker(schema, online=rows, items=items, settings=settings)
    repository = ChampionRepository(
        ranker,
        champion_version=models.champion_version,
        load_champion=models.load,
        shares=models.shares,
    )
    return RankingServer(
        ranker,
        repository=repository,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        settings=settings,
    )


def _encrypt(config: "uvicorn.Config", tls: Tls) -> None:
    """Set uvicorn's side; KServe's server takes the first two of the four."""
    if tls.certificate is None:
        return
    config.ssl_certfile, config.ssl_keyfile = str(tls.certificate), str(tls.key)
    if tls.authority is not None:
        config.ssl_ca_certs, config.ssl_cert_reqs = str(tls.authority), ssl.CERT_REQUIRED


def _log_settings(settings: Settings) -> None:
    tls, limits = settings.tls, settings.limits
    logger.info(
        "callers: token %s, TLS %s, client certificates %s; at most %d bytes, %d candidates, "
        "%g seconds, %d at one time; answers logged: %g; spans: %s",
        "asked for" if settings.token else "not asked for",
        "on" if tls.certificate else "off",
        "asked for" if tls.authority else "not asked for",
        limits.max_body_bytes,
        limits.max_candidates,
        limits.max_seconds,
        limits.max_concurrent,
        settings.logging.share,
        settings.tracing.exporter or "none",
    )


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(f"port: {host}:{port}; a free one: {error.strerror}") from error
