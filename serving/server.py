"""KServe's model server with the rankers in it: REST and gRPC on one address."""

import asyncio
import contextlib
import functools
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import kserve
import uvloop
from kserve.constants.constants import FASTAPI_APP_IMPORT_STRING
from kserve.model_server import app
from kserve.protocol.rest.server import RESTServer
from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from serving.inference.served_models import ServedModels
from serving.observability import metrics, tracing
from serving.settings import Settings, Tls
from serving.transport.data_plane import RankingDataPlane
from serving.transport.grpc_servicer import RankingServicer, create_server
from serving.transport.http_protocol import HttpProtocol
from serving.transport.middleware import Gateway
from serving.transport.ports import reserve
from serving.transport.routes import Routes

if TYPE_CHECKING:
    import grpc
    import uvicorn

CHATTY_LOGGERS = ("kserve.trace", "uvicorn.access")
"""They write three lines a request; /metrics has the same in histograms."""

logger = logging.getLogger(__name__)


class Group(Protocol):
    """The processes that answer on the same ports, as the one that is this server sees them."""

    collector: Collector
    """Who has the metrics of all."""

    async def join(self, *, stop: Callable[[str], None], complete: Callable[[], None]) -> None:
        """Return when there are versions to serve, or the reason why not.

        Args:
            stop: Ends the server; its argument says who wants that.
            complete: To be called when all processes listen.
        """
        ...

    def listen(self) -> None:
        """Say that this process listens."""
        ...


class RankingServer(kserve.ModelServer):
    """KServe's server on one address: its own listens on every interface of the machine."""

    def __init__(
        self,
        models: ServedModels,
        *,
        host: str,
        http_port: int,
        grpc_port: int,
        settings: Settings,
        group: Group | None = None,
    ) -> None:
        """Put it together; without a champion a model's requests are answered with the reason.

        Args:
            models: The models.
            host: The address.
            http_port: Of REST.
            grpc_port: Of gRPC.
            settings: The settings.
            group: The processes that answer on the same ports; None: there is no other.
        """
        super().__init__(
            http_port=http_port,
            grpc_port=grpc_port,
            registered_models=models,
            enable_latency_logging=False,
            grace_period=settings.limits.drain_seconds,
        )
        for name in CHATTY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.host = host
        self.models = models
        self.dataplane = RankingDataPlane(models)
        self._settings = settings
        self._group = group
        self.dataplane.is_complete = group is None
        self._routes = Routes(
            dataplane=self.dataplane,
            models=models,
            settings=settings,
            collector=REGISTRY if group is None else group.collector,
        )

    def start(self, models: list[kserve.Model] | None = None) -> None:
        """Answer until SIGINT or SIGTERM; a model that is not ready yet is no obstacle."""
        if self._group is None:
            for port in (self.http_port, self.grpc_port):
                reserve(self.host, port).close()
            metrics.WORKERS.set(1)
        self._routes.register(app)
        app.add_middleware(Gateway, settings=self._settings)
        tracing.start(self._settings.tracing)
        self.models.start()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self.serve())
        finally:
            self.models.stop()
            tracing.stop()

    async def serve(self) -> None:
        """Both sides, until a signal; then until what had begun is answered, or its time is up."""
        rest, grpc_server = self._rest(), self._grpc()
        stop, stopping = self._stopping(rest)
        if self._group is not None:
            await self._group.join(stop=stop, complete=self._complete)
        await self.models.warm_up()
        await grpc_server.start()
        logger.info(
            "serving %s on %s: REST %d, gRPC %d",
            *(", ".join(self.models.versions), self.host, self.http_port, self.grpc_port),
        )
        _log_settings(self._settings)
        rest_ended = asyncio.create_task(self._answer_rest(rest))
        stop_requested = asyncio.create_task(stopping.wait())
        await asyncio.wait({rest_ended, stop_requested}, return_when=asyncio.FIRST_COMPLETED)
        stop_requested.cancel()
        # Both at one time: neither side begins anything while the other one ends.
        await asyncio.gather(rest_ended, grpc_server.stop(self._settings.limits.drain_seconds))

    async def _answer_rest(self, rest: RESTServer) -> None:
        if self._group is None:
            await rest.start()
            return
        rest.create_application()
        with socket.socket() as shared:
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind((self.host, self.http_port))
            # Uvicorn would listen in a moment; from here on connections wait for it.
            shared.listen(rest.config.backlog)
            self._group.listen()
            await rest._server.serve(sockets=[shared])

    def _complete(self) -> None:
        self.dataplane.is_complete = True

    def _stopping(self, rest: RESTServer) -> tuple[Callable[[str], None], asyncio.Event]:
        """What ends both sides, as SIGINT and SIGTERM do; and the event that it sets.

        Called again, it does not wait for open requests. Uvicorn's own handlers end REST alone, and
        raise the signal again afterwards.
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
        return stop, stopping

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
        servicer = RankingServicer(self.dataplane, models=self.models)
        return create_server(
            servicer,
            settings=self._settings,
            address=f"{self.host}:{self.grpc_port}",
            is_shared=self._group is not None,
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
