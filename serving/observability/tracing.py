"""OpenTelemetry spans of requests, when the environment asks for them; otherwise they cost nothing.

One server span a request that works, not for health, metadata or metrics, and below it a span for
each stage. The SDK reads the rest of its environment itself: endpoint, headers, sampler, resource.
Nothing of it is imported before ``start``.
"""

import contextlib
import contextvars
import dataclasses
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from serving.settings import Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

SERVICE = "ranking-endpoint"
FLUSH_SECONDS = 3.0
_GRPC_FAULTS = frozenset({"UNKNOWN", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Codes that are the server's failure; any other error is the caller's."""
_NOTHING = contextlib.nullcontext()


@dataclasses.dataclass
class _Active:
    """What makes spans; None while they are off."""

    provider: "TracerProvider | None" = None
    tracer: "Tracer | None" = None


logger = logging.getLogger(__name__)
_ACTIVE = _Active()
_REQUEST: contextvars.ContextVar["Span | None"] = contextvars.ContextVar(
    "request_span", default=None
)
"""The server span; tasks and threads that a request starts see it too."""
_SHARED: contextvars.ContextVar[Sequence[contextvars.Context]] = contextvars.ContextVar(
    "shared_spans", default=()
)


def start(tracing: Tracing) -> None:
    """Make spans from now on, where the settings turn them on."""
    if not tracing.exporter:
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    has_name = "OTEL_SERVICE_NAME" in os.environ
    has_name |= "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if has_name else {"service.name": SERVICE})
    # Ended by the server itself, in time for its last spans.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter(tracing)))
    _ACTIVE.provider, _ACTIVE.tracer = provider, provider.get_tracer("serving")


def stop() -> None:
    """Send what has ended and was not sent yet, and make no more.

    A collector that does not answer delays the end by FLUSH_SECONDS and no more: the SDK itself
    would try for half a minute.
    """
    provider, _ACTIVE.provider, _ACTIVE.tracer = _ACTIVE.provider, None, None
    if provider is not None:
        sending = threading.Thread(target=provider.shutdown, daemon=True)
        sending.start()
        sending.join(FLUSH_SECONDS)
        if sending.is_alive():
            logger.warning("spans: not all sent within %g seconds", FLUSH_SECONDS)


def is_on() -> bool:
    """Whether spans are made."""
    return _ACTIVE.tracer is not None


@contextlib.contextmanager
def request(name: str, headers: Mapping[str, str], **attributes: str) -> Iterator[None]:
    """The server span of one request, below the caller's span if ``traceparent`` names one.

    Args:
        name: The operation.
        headers: Of the request, in lower case.
        attributes: Known from the start, with ``__`` for a dot.
    """
    from opentelemetry.trace import SpanKind, use_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    caller = TraceContextTextMapPropagator().extract(dict(headers))
    said = {key.replace("__", "."): value for key, value in attributes.items()}
    assert _ACTIVE.tracer is not None
    span_ = _ACTIVE.tracer.start_span(name, context=caller, kind=SpanKind.SERVER, attributes=said)
    token = _REQUEST.set(span_)
    try:
        with use_span(span_, True, record_exception=False, set_status_on_exception=False):
            yield
    finally:
        _REQUEST.reset(token)


def span(name: str) -> contextlib.AbstractContextManager[object]:
    """A part of the request; nothing outside of a request and while spans are off."""
    if _ACTIVE.tracer is None:
        return _NOTHING
    if contexts := _SHARED.get():
        return _stamped(name, contexts)
    if _open_span() is None:
        return _NOTHING
    manager: contextlib.AbstractContextManager[object] = _ACTIVE.tracer.start_as_current_span(
        name, set_status_on_exception=False
    )
    return manager


@contextlib.contextmanager
def shared(contexts: Sequence[contextvars.Context]) -> Iterator[None]:
    """What is done now is done for several requests: each ``span`` inside is one of each of them.

    Args:
        contexts: The requests'.
    """
    token = _SHARED.set(contexts)
    try:
        yield
    finally:
        _SHARED.reset(token)


@contextlib.contextmanager
def _stamped(name: str, contexts: Sequence[contextvars.Context]) -> Iterator[None]:
    started = time.time_ns()
    try:
        yield
    finally:
        ended = time.time_ns()
        for context in contexts:
            context.run(_span_of_then, name, started, ended)


def _span_of_then(name: str, started: int, ended: int) -> None:
    if _ACTIVE.tracer is not None and _open_span() is not None:
        _ACTIVE.tracer.start_span(name, start_time=started).end(ended)


def describe(**attributes: str | int | bool) -> None:
    """Say of the request what is known of it now; names are prefixed with ``ranking.``."""
    span_ = _open_span()
    if span_ is not None:
        span_.set_attributes({f"ranking.{name}": value for name, value in attributes.items()})


def answered(status: int, reason: str = "") -> None:
    """Record the status of a REST request and, where it got an error, why."""
    is_fault = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    _end("http.response.status_code", int(status), reason=reason, is_fault=is_fault)


def answered_grpc(code: str, number: int, reason: str = "") -> None:
    """Record the code of a gRPC request and, where it got an error, why."""
    _end("rpc.grpc.status_code", number, reason=reason, is_fault=code in _GRPC_FAULTS)


def failed(error: BaseException) -> None:
    """Keep the traceback of a failure of ours."""
    span_ = _open_span()
    if span_ is not None:
        span_.record_exception(error)


def _open_span() -> "Span | None":
    """The server span; none outside of a request, and none of one that was answered meanwhile."""
    span_ = _REQUEST.get()
    return span_ if span_ is not None and span_.is_recording() else None


def _end(attribute: str, value: int, *, reason: str, is_fault: bool) -> None:
    span_ = _open_span()
    if span_ is None:
        return
    span_.set_attribute(attribute, value)
    if reason:
        span_.set_attribute("ranking.error", reason)
    if is_fault:
        from opentelemetry.trace import StatusCode

        span_.set_status(StatusCode.ERROR, reason)


def _exporter(tracing: Tracing) -> "SpanExporter":
    if tracing.exporter == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
