"""What the endpoint serves, and where it answers."""

import dataclasses
from pathlib import Path

from features.places import Place
from features.schema import Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Of one endpoint, in however many processes."""

    schemas: tuple[Schema, ...]
    """Of each model's requests; none has the name of another."""
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
    """Of the only model."""
    compiled: Path | None = None
