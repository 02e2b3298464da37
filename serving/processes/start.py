"""Serve in one process or in several, as RANKING_WORKERS says.

What is imported here at once is light: before it makes a metric a process must have decided whether
its metrics are in files.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import values

from features.imports import without_collection
from serving.observability.metrics_port import open_port
from serving.processes.options import Options
from serving.settings import Settings
from serving.transport.ports import reserve


def serve(options: Options) -> dict[str, str | None]:
    """Serve until SIGINT or SIGTERM; returns the champion of each model at the end.

    Raises:
        ValueError: A port is not free, a setting cannot be kept, or workers end again and again.
    """
    settings, host = Settings.from_environment(), options.host
    if settings.processes.num_workers == 1:
        with without_collection():
            from serving.processes.single import open_server
        running = open_server(options)
        with open_port(host, options.metrics_port, tls=settings.tls):
            running.start()
        return running.models.versions
    with (
        reserve(host, options.http_port),
        reserve(host, options.grpc_port),
        _metrics_folder(host, options.http_port),
    ):
        with without_collection():
            from serving.processes.supervisor import Supervisor
        supervisor = Supervisor(options, settings)
        of_all = supervisor.registry
        with open_port(host, options.metrics_port, tls=settings.tls, registry=of_all):
            return supervisor.run()


@contextlib.contextmanager
def _metrics_folder(host: str, port: int) -> Iterator[None]:
    """A folder for the metrics of all processes; what a killed supervisor has left goes."""
    prefix = f"ranking-metrics-{host}-{port}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        # It decides at its import, which was before: the commands read metrics of servers.
        values.ValueClass = values.get_value_class()
        yield
