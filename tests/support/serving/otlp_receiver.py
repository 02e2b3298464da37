"""A receiver of OTLP over HTTP, as a collector has one: it decodes what comes and keeps it."""

import contextlib
import dataclasses
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclasses.dataclass(frozen=True)
class Span:
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    seconds: float
    attributes: dict[str, Any]
    is_error: bool
    events: list[str]
    service: str


class Receiver:
    """Spans in the order in which they came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.spans: list[Span] = []
        self.paths: set[str] = set()

    def take(self, body: bytes, path: str) -> None:
        self.paths.add(path)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _attributes(group.resource)["service.name"]
            for scope in group.scope_spans:
                self.spans += [_span(span, service) for span in scope.spans]

    def of(self, **attributes: Any) -> tuple[Span, dict[str, Span]]:
        """The server span with these attributes, and the spans below it by name; waits for it."""
        wanted = {f"ranking.{name}": value for name, value in attributes.items()}.items()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for span in list(self.spans):
                if span.kind == 2 and wanted <= span.attributes.items():
                    return span, {s.name: s for s in self.spans if s.trace == span.trace}
            time.sleep(0.05)
        raise AssertionError((attributes, self.spans))


@contextlib.contextmanager
def receiver():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            kept.take(self.rfile.read(int(self.headers["Content-Length"])), self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            """Quietly."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Receiver(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


def _span(span, service):
    return Span(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        attributes=_attributes(span),
        is_error=span.status.code == 2,
        events=[event.name for event in span.events],
        service=service,
    )


def _attributes(message):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in message.attributes}
