"""What the endpoint serves, and where it answers."""

import dataclasses
from pathlib import Path

from features.places import Place
from features.schema import Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Of one endpoint, in however many processes."""

    schema: Schema
    """Of the requests."""
    store: Place
    """Of the online store."""
    artifacts: Place
    """As ``serving.inference.loader.Models`` has it, and so are the other folders."""
    tracking: Path
    host: str
    http_port: int
    grpc_port: int
    metrics_port: int | None = None
    """Of metrics alone, without a token."""
    model: Place | None = None
    compiled: Path | None = None
