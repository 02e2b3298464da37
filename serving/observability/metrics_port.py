"""A port for metrics alone, without a token, for what cannot send one.

The API server's proxy, by which a canary on a cluster reads its pods, keeps the caller's token for
itself; a scraper may have none either. Only the cluster's network protects the port.
"""

import contextlib
import logging
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

from serving.settings import Tls

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def open_port(
    host: str, port: int | None, *, tls: Tls, registry: CollectorRegistry = REGISTRY
) -> Iterator[None]:
    """Answer every path with all metrics of a registry; no port: none.

    Args:
        host: The address to listen on.
        port: The port.
        tls: The server's side. Callers need no certificate here.
        registry: By default that of the process.
    """
    if port is None:
        yield
        return
    certificate, key = (str(path) if path else None for path in (tls.certificate, tls.key))
    httpd, thread = start_http_server(port, host, registry, certfile=certificate, keyfile=key)
    logger.info("metrics on %s:%d, without a token", host, port)
    try:
        yield
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
