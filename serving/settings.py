"""What the environment decides of the endpoint: limits, who may call, what is logged.

Each value is checked at the start: a server with a setting that it cannot keep does not start.
"""

import dataclasses
import os
import ssl
from typing import Self

from pydantic import Field, FilePath, field_validator
from pydantic_settings import SettingsConfigDict

from features.environment import Environment, Group
from features.prediction_log.settings import Logging, LogKey
from training.resources import memory_bytes, num_cores, quota_cores

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_CANDIDATES = 10_000
MIN_TOKEN_CHARACTERS = 16

BYTES_PER_WORKER = 2**30
"""Memory of the container for each process that answers, where the quota decides their number."""
LOAD_SECONDS = 300.0
"""How long a server may load versions before it gives up and keeps those that it has."""


class Limits(Group):
    """How much one caller, and all of them together, may ask of the server."""

    max_body_bytes: int = Field(
        default=MAX_BODY_BYTES, ge=1, le=MAX_BODY_BYTES, validation_alias="RANKING_MAX_BODY_BYTES"
    )
    """Size of the body of one request."""
    max_candidates: int = Field(
        default=MAX_CANDIDATES, ge=1, le=MAX_CANDIDATES, validation_alias="RANKING_MAX_CANDIDATES"
    )
    """Candidates of one request."""
    max_seconds: float = Field(
        default=30.0, ge=0.01, le=3600, validation_alias="RANKING_MAX_SECONDS"
    )
    """Time of one request to infer, its body included."""
    max_concurrent: int = Field(
        default=64, ge=1, le=10_000, validation_alias="RANKING_MAX_CONCURRENT"
    )
    """Requests to infer that are being answered at one time, by all models together."""
    max_connections: int = Field(
        default=1_000, ge=1, le=100_000, validation_alias="RANKING_MAX_CONNECTIONS"
    )
    """Connections over REST at one time."""
    max_connection_seconds: float = Field(
        default=300.0, ge=1, le=86_400, validation_alias="RANKING_MAX_CONNECTION_SECONDS"
    )
    """Age from which a caller is made to connect again, so that new servers get their share."""
    drain_seconds: float = Field(
        default=10.0, ge=0.1, le=3600, validation_alias="RANKING_DRAIN_SECONDS"
    )
    """How long requests that have begun may go on once the server gets SIGTERM."""


class Tls(Group):
    """Files of one side of encrypted connections, in PEM; a variable that is empty is an error."""

    model_config = SettingsConfigDict(env_ignore_empty=False)

    certificate: FilePath | None = None
    key: FilePath | None = None
    authority: FilePath | None = None

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> Self:
        """Its three variables; a certificate needs its key."""
        tls = super().from_environment(environment)
        if bool(tls.certificate) != bool(tls.key):
            certificate, key, _ = (variable.name for variable in cls.variables())
            raise ValueError(f"{certificate}, {key}: one of them is set; both or neither")
        return tls

    def client_context(self) -> ssl.SSLContext:
        """How a client connects: it checks the server, and shows its certificate if it has one."""
        context = ssl.create_default_context(cafile=self.authority)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


class ServerTls(Tls):
    """The server's side."""

    certificate: FilePath | None = Field(default=None, validation_alias="RANKING_TLS_CERTIFICATE")
    """Certificate with which the server answers over TLS, in PEM."""
    key: FilePath | None = Field(default=None, validation_alias="RANKING_TLS_KEY")
    """Key of that certificate."""
    authority: FilePath | None = Field(
        default=None, validation_alias="RANKING_TLS_CLIENT_AUTHORITY"
    )
    """Who must have signed a caller's certificate; not set, callers need none."""

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> Self:
        """Its three variables; an authority needs a certificate."""
        tls = super().from_environment(environment)
        if tls.authority and not tls.certificate:
            raise ValueError(
                f"RANKING_TLS_CLIENT_AUTHORITY: {tls.authority}; only with RANKING_TLS_CERTIFICATE"
            )
        return tls


class ClientTls(Tls):
    """A caller's side."""

    certificate: FilePath | None = Field(
        default=None, validation_alias="RANKING_TLS_CLIENT_CERTIFICATE"
    )
    """Certificate that the caller shows, in PEM."""
    key: FilePath | None = Field(default=None, validation_alias="RANKING_TLS_CLIENT_KEY")
    """Key of that certificate."""
    authority: FilePath | None = Field(default=None, validation_alias="RANKING_TLS_AUTHORITY")
    """Who must have signed the server's certificate; not set, one whom the system trusts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracing:
    """Whether and where spans of requests go, by OpenTelemetry's own variables."""

    exporter: str = ""
    """``otlp`` or ``console``; empty: there are no spans."""

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> "Tracing":
        """OTEL_TRACES_EXPORTER; without it, otlp where there is an OTEL_EXPORTER_OTLP_ENDPOINT."""
        has_endpoint = any(
            environment.get(f"OTEL_EXPORTER_OTLP_{name}")
            for name in ("ENDPOINT", "TRACES_ENDPOINT")
        )
        exporter = environment.get("OTEL_TRACES_EXPORTER") or ("otlp" if has_endpoint else "none")
        if exporter not in {"otlp", "console", "none"}:
            raise ValueError(f"OTEL_TRACES_EXPORTER: {exporter!r}; otlp, console or none")
        for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
            protocol = environment.get(name) or "http/protobuf"
            if exporter == "otlp" and protocol != "http/protobuf":
                raise ValueError(f"{name}: {protocol!r}; http/protobuf, or not set at all")
        is_disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        return cls(exporter="" if is_disabled or exporter == "none" else exporter)


class Store(Group):
    """How long a request waits for the online store, and what it gets without it."""

    max_seconds: float = Field(
        default=0.1, ge=0.001, le=60, validation_alias="RANKING_STORE_SECONDS"
    )
    """How long one request waits for the online store, for all that it reads."""
    is_strict: bool = Field(default=False, validation_alias="RANKING_STRICT")
    """Whether a request whose features cannot be read gets an error; else it is degraded."""
    max_item_rows: int = Field(
        default=1_000_000, ge=0, le=10**9, validation_alias="RANKING_ITEMS_MAX_ROWS"
    )
    """Most items that are held in memory; of more, those of a request are read. 0: none."""
    poll_seconds: float = Field(
        default=1.0, ge=0.01, le=3600, validation_alias="RANKING_ITEMS_POLL_SECONDS"
    )
    """Time between two looks into the store for changed items."""
    stale_seconds: float = Field(
        default=30.0, ge=0.01, le=10**6, validation_alias="RANKING_ITEMS_STALE_SECONDS"
    )
    """Items in memory that were not compared with the store for longer are flagged."""


class Scoring(Group):
    """How the machine's cores are shared out among requests that are to be scored."""

    batch_rows: int = Field(default=2_048, ge=1, le=10**6, validation_alias="RANKING_BATCH_ROWS")
    """Most candidates of requests that are scored together; 1: each request alone."""
    workers: int = Field(default=0, ge=0, le=64, validation_alias="RANKING_SCORING_WORKERS")
    """Batches that are scored at one time; 0: as many as there are cores."""
    torch_threads: int = Field(default=0, ge=0, le=256, validation_alias="RANKING_TORCH_THREADS")
    """Threads of a request that has the server to itself; 0: one for each core. A batch has one."""

    @property
    def num_workers(self) -> int:
        """Batches that are scored at one time."""
        return self.workers or num_cores()

    @property
    def num_threads(self) -> int:
        """Threads of a request that has the server to itself."""
        return self.torch_threads or num_cores()


class Processes(Group):
    """How many processes answer on the endpoint's ports."""

    workers: int = Field(default=0, ge=0, le=64, validation_alias="RANKING_WORKERS")
    """Processes that answer, each with its part of the cores and of the limits on numbers; 0: the
    whole cores of the container's quota, as far as its memory goes, and 1 where it has no quota."""

    @property
    def num_workers(self) -> int:
        """Processes that answer; 1: the server itself."""
        room = memory_bytes() // BYTES_PER_WORKER
        return self.workers or max(1, min(quota_cores() or 1, room))


class Secret(Group):
    """What callers must show; set but empty is an error: a server must not open by accident."""

    model_config = SettingsConfigDict(env_ignore_empty=False)

    token: str | None = Field(default=None, validation_alias="RANKING_TOKEN", repr=False)
    """Bearer token of each call, at least 16 printable ASCII characters without spaces."""

    @field_validator("token")
    @classmethod
    def _is_a_token(cls, token: str | None) -> str | None:
        if token is None:
            return None
        is_plain = token.isascii() and token.isprintable() and " " not in token
        if len(token) < MIN_TOKEN_CHARACTERS or not is_plain:
            raise ValueError(
                f"{len(token)} characters; at least {MIN_TOKEN_CHARACTERS} of printable ASCII "
                "without spaces, or not set at all"
            )
        return token


GROUPS = (Limits, Secret, ServerTls, Logging, LogKey, Store, Scoring, Processes)
"""What the endpoint reads by variables of ours, in the order of the reference."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """All of them; the defaults are those of an empty environment."""

    limits: Limits = dataclasses.field(default_factory=Limits)
    tls: Tls = dataclasses.field(default_factory=ServerTls)
    token: str | None = dataclasses.field(default=None, repr=False)
    tracing: Tracing = Tracing()
    logging: Logging = dataclasses.field(default_factory=Logging)
    log_key: bytes | None = dataclasses.field(default=None, repr=False)
    """Hashes ids in the log of answers; None: they are written as they are."""
    store: Store = dataclasses.field(default_factory=Store)
    scoring: Scoring = dataclasses.field(default_factory=Scoring)
    processes: Processes = dataclasses.field(default_factory=Processes)

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> Self:
        """What the environment says; ValueError names the variable, its value and its limit."""
        return cls(
            limits=Limits.from_environment(environment),
            tls=ServerTls.from_environment(environment),
            token=Secret.from_environment(environment).token,
            tracing=Tracing.from_environment(environment),
            logging=Logging.from_environment(environment),
            log_key=LogKey.from_environment(environment).secret(),
            store=Store.from_environment(environment),
            scoring=Scoring.from_environment(environment),
            processes=Processes.from_environment(environment),
        )

    def of_worker(self) -> Self:
        """The part that one of several processes has of the cores, and of the limits on numbers."""
        processes = self.processes.num_workers
        cores = max(1, num_cores() // processes)
        limits = {
            name: -(-getattr(self.limits, name) // processes)
            for name in ("max_concurrent", "max_connections")
        }
        scoring = {
            "workers": self.scoring.workers or cores,
            "torch_threads": self.scoring.torch_threads or cores,
        }
        return dataclasses.replace(
            self,
            limits=self.limits.model_copy(update=limits),
            scoring=self.scoring.model_copy(update=scoring),
        )
