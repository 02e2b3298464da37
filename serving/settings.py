"""What the environment decides of the endpoint: limits, who may call, what is logged.

Each value is checked at the start: a server with a setting that it cannot keep does not start.
"""

import dataclasses
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from training.resources import num_cores

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_CANDIDATES = 10_000
MIN_TOKEN_CHARACTERS = 16

Environment = Mapping[str, str]

LOAD_SECONDS = 300.0
"""How long a server may load versions before it gives up and keeps those that it has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one caller, and all of them together, may ask of the server."""

    max_body_bytes: int = MAX_BODY_BYTES
    max_candidates: int = MAX_CANDIDATES
    max_seconds: float = 30.0
    """Time of one request to infer, its body included."""
    max_concurrent: int = 64
    """Requests to infer that are being answered at one time."""
    max_connections: int = 1_000
    """Connections over REST at one time."""
    max_connection_seconds: float = 300.0
    """Age from which a caller is made to connect again, so that new servers get their share."""
    drain_seconds: float = 10.0
    """How long requests that have begun may go on once the server gets SIGTERM."""

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> "Limits":
        """RANKING_DRAIN_SECONDS, and RANKING_MAX_ with the names of the other fields."""
        return cls(
            max_body_bytes=int(
                _number(environment, "RANKING_MAX_BODY_BYTES", MAX_BODY_BYTES, (1, MAX_BODY_BYTES))
            ),
            max_candidates=int(
                _number(environment, "RANKING_MAX_CANDIDATES", MAX_CANDIDATES, (1, MAX_CANDIDATES))
            ),
            max_seconds=_number(environment, "RANKING_MAX_SECONDS", cls.max_seconds, (0.01, 3600)),
            max_concurrent=int(
                _number(environment, "RANKING_MAX_CONCURRENT", cls.max_concurrent, (1, 10_000))
            ),
            max_connections=int(
                _number(environment, "RANKING_MAX_CONNECTIONS", cls.max_connections, (1, 100_000))
            ),
            max_connection_seconds=_number(
                environment,
                "RANKING_MAX_CONNECTION_SECONDS",
                cls.max_connection_seconds,
                (1, 86_400),
            ),
            drain_seconds=_number(
                environment, "RANKING_DRAIN_SECONDS", cls.drain_seconds, (0.1, 3600)
            ),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tls:
    """Files of one side of encrypted connections, in PEM."""

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    """Who must have signed the other side; for a server None asks callers for no certificate."""

    @classmethod
    def of_server(cls, environment: Environment = os.environ) -> "Tls":
        """RANKING_TLS_CERTIFICATE and _KEY; RANKING_TLS_CLIENT_AUTHORITY."""
        tls = cls._read(environment, "RANKING_TLS", "RANKING_TLS_CLIENT_AUTHORITY")
        if tls.authority and not tls.certificate:
            raise ValueError(
                f"RANKING_TLS_CLIENT_AUTHORITY: {tls.authority}; only with RANKING_TLS_CERTIFICATE"
            )
        return tls

    @classmethod
    def of_client(cls, environment: Environment = os.environ) -> "Tls":
        """RANKING_TLS_AUTHORITY; RANKING_TLS_CLIENT_CERTIFICATE and _KEY."""
        return cls._read(environment, "RANKING_TLS_CLIENT", "RANKING_TLS_AUTHORITY")

    @classmethod
    def _read(cls, environment: Environment, prefix: str, authority: str) -> "Tls":
        certificate, key = f"{prefix}_CERTIFICATE", f"{prefix}_KEY"
        tls = cls(
            certificate=_file(environment, certificate),
            key=_file(environment, key),
            authority=_file(environment, authority),
        )
        if bool(tls.certificate) != bool(tls.key):
            raise ValueError(f"{certificate}, {key}: one of them is set; both or neither")
        return tls

    def client_context(self) -> ssl.SSLContext:
        """How a client connects: it checks the server, and shows its certificate if it has one."""
        context = ssl.create_default_context(cafile=self.authority)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logging:
    """Which answers are written down, and where."""

    share: float = 0.0
    """Of all answers; 0 is off."""
    folder: Path = Path()
    flush_seconds: float = 60.0
    """How long an answer waits at most until it is in a file."""

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> "Logging":
        """RANKING_LOG_SHARE, and with it RANKING_LOG_FOLDER and RANKING_LOG_SECONDS."""
        share = _number(environment, "RANKING_LOG_SHARE", 0.0, (0.0, 1.0))
        folder = environment.get("RANKING_LOG_FOLDER", "")
        if share and not folder:
            raise ValueError(f"RANKING_LOG_FOLDER: not set; a folder, as RANKING_LOG_SHARE={share}")
        seconds = _number(environment, "RANKING_LOG_SECONDS", cls.flush_seconds, (0.1, 3600))
        return cls(share=share, folder=Path(folder), flush_seconds=seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """How long a request waits for the online store, and what it gets without it."""

    max_seconds: float = 0.1
    """Of one request, for all that it reads."""
    is_strict: bool = False
    """Whether a request whose features cannot be read gets an error; else it is degraded."""
    max_item_rows: int = 1_000_000
    """Most items that are held in memory; of more, those of a request are read. 0: none."""
    poll_seconds: float = 1.0
    """How often the store is checked for changed items."""
    stale_seconds: float = 30.0
    """Items in memory that were not compared with the store for longer are flagged."""

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> "Store":
        """RANKING_STORE_SECONDS, RANKING_STRICT, and RANKING_ITEMS_ for items in memory."""

        def number(name: str, default: float, low: float, high: float) -> float:
            return _number(environment, f"RANKING_{name}", default, (low, high))

        return cls(
            max_seconds=number("STORE_SECONDS", cls.max_seconds, 0.001, 60),
            is_strict=bool(number("STRICT", 0, 0, 1)),
            max_item_rows=int(number("ITEMS_MAX_ROWS", cls.max_item_rows, 0, 10**9)),
            poll_seconds=number("ITEMS_POLL_SECONDS", cls.poll_seconds, 0.01, 3600),
            stale_seconds=number("ITEMS_STALE_SECONDS", cls.stale_seconds, 0.01, 10**6),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scoring:
    """How the machine's cores are shared out among requests that are to be scored."""

    batch_rows: int = 2_048
    """Most candidates of requests that are scored together; 1: each request alone."""
    workers: int = 0
    """Batches that are scored at one time; 0: as many as there are cores."""
    torch_threads: int = 0
    """Threads of a request that has the server to itself; 0: one for each core. A batch has one."""

    @property
    def num_workers(self) -> int:
        """Batches that are scored at one time."""
        return self.workers or num_cores()

    @property
    def num_threads(self) -> int:
        """Threads of a request that has the server to itself."""
        return self.torch_threads or num_cores()

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> "Scoring":
        """RANKING_BATCH_ROWS, RANKING_SCORING_WORKERS and RANKING_TORCH_THREADS."""
        bounds = {"BATCH_ROWS": (1, 10**6), "SCORING_WORKERS": (0, 64), "TORCH_THREADS": (0, 256)}
        defaults = (cls.batch_rows, cls.workers, cls.torch_threads)
        rows, workers, threads = (
            int(_number(environment, f"RANKING_{name}", default, limit))
            for (name, limit), default in zip(bounds.items(), defaults, strict=True)
        )
        return cls(batch_rows=rows, workers=workers, torch_threads=threads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """All of them; the defaults are those of an empty environment."""

    limits: Limits = Limits()
    tls: Tls = Tls()
    token: str | None = dataclasses.field(default=None, repr=False)
    tracing: Tracing = Tracing()
    logging: Logging = Logging()
    store: Store = Store()
    scoring: Scoring = Scoring()

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> "Settings":
        """What the environment says; ValueError names the variable, its value and its limit."""
        return cls(
            limits=Limits.from_environment(environment),
            tls=Tls.of_server(environment),
            token=token_of(environment),
            tracing=Tracing.from_environment(environment),
            logging=Logging.from_environment(environment),
            store=Store.from_environment(environment),
            scoring=Scoring.from_environment(environment),
        )


def token_of(environment: Environment = os.environ) -> str | None:
    """RANKING_TOKEN, which callers must show; None where it is not set.

    Set but empty is an error: a secret that failed to arrive must not open the server.
    """
    token = environment.get("RANKING_TOKEN")
    if token is None:
        return None
    is_plain = token.isascii() and token.isprintable() and " " not in token
    if len(token) < MIN_TOKEN_CHARACTERS or not is_plain:
        raise ValueError(
            f"RANKING_TOKEN: {len(token)} characters; at least {MIN_TOKEN_CHARACTERS} of printable "
            "ASCII without spaces, or not set at all"
        )
    return token


def _number(
    environment: Environment, name: str, default: float, bounds: tuple[float, float]
) -> float:
    text = environment.get(name)
    if not text:
        return default
    kind = int if isinstance(default, int) else float
    low, high = bounds
    try:
        value = kind(text)
    except ValueError as error:
        raise ValueError(f"{name}: {text!r}; a number from {low} to {high}") from error
    if not low <= value <= high:
        raise ValueError(f"{name}: {text!r}; a number from {low} to {high}")
    return value


def _file(environment: Environment, name: str) -> Path | None:
    text = environment.get(name)
    if text is None:
        return None
    if not Path(text).is_file():
        raise ValueError(f"{name}: {text!r}; a file that exists, or not set at all")
    return Path(text)
