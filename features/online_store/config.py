"""Which online store is used, and where Feast's registry is: files, or Redis and a database."""

import dataclasses
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from features.places import Place, is_local, uri

VARIABLE = "RANKING_ONLINE"
REGISTRY = "RANKING_REGISTRY"
_LIMIT = "sqlite, or redis://[:password@]host[:port][/database], or rediss:// for TLS"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Redis:
    """Address and credentials of a Redis server."""

    host: str
    port: int = 6379
    database: int = 0
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    is_encrypted: bool = False

    @property
    def connection_string(self) -> str:
        """The same as Feast writes it."""
        parts = [f"{self.host}:{self.port}", f"db={self.database}"]
        parts += [f"username={self.username}"] if self.username else []
        parts += [f"password={self.password}"] if self.password else []
        return ",".join([*parts, *(["ssl=true"] if self.is_encrypted else [])])

    @property
    def options(self) -> dict[str, object]:
        """The same as redis-py takes it."""
        return {
            "host": self.host,
            "port": self.port,
            "db": self.database,
            "username": self.username,
            "password": self.password,
        }


def redis_of(environment: Mapping[str, str]) -> Redis | None:
    """RANKING_ONLINE: None for ``sqlite``, which is the default.

    Raises:
        ValueError: It is neither; the value is not repeated, for it may hold a password.
    """
    text = environment.get(VARIABLE) or "sqlite"
    if text == "sqlite":
        return None
    try:
        url = urlsplit(text)
        port, database = url.port or 6379, int(url.path.strip("/") or 0)
    except ValueError as error:
        raise ValueError(f"{VARIABLE}: not readable; {_LIMIT}") from error
    if url.scheme not in {"redis", "rediss"} or not url.hostname or url.query:
        raise ValueError(f"{VARIABLE}: scheme {url.scheme!r}; {_LIMIT}")
    password = unquote(url.password) if url.password else None
    if password and "," in password:
        raise ValueError(f"{VARIABLE}: a comma in the password; Feast's settings cannot hold one")
    return Redis(
        host=url.hostname,
        port=port,
        database=database,
        username=unquote(url.username) if url.username else None,
        password=password,
        is_encrypted=url.scheme == "rediss",
    )


def redis_at(store_dir: Place, environment: Mapping[str, str]) -> Redis | None:
    """``redis_of``; None: the SQLite file of this folder.

    Raises:
        ValueError: As there, or the place cannot hold a SQLite file.
    """
    redis = redis_of(environment)
    if redis is None and not is_local(store_dir):
        raise ValueError(
            f"{VARIABLE}: sqlite; a file on a disk, and the store is {uri(store_dir)}: set "
            f"{VARIABLE} to redis://host:port, or --store to a folder"
        )
    return redis


def online_address(store_dir: Place, environment: Mapping[str, str]) -> str:
    """The online store of a data set, whose folder this is, without credentials; for people."""
    redis = redis_at(store_dir, environment)
    if redis is None:
        return uri(store_dir)
    return f"redis://{redis.host}:{redis.port}/{redis.database}"


def registry_at(store_dir: Place, environment: Mapping[str, str]) -> dict[str, str]:
    """Feast's settings of a data set's registry, whose folder this is: RANKING_REGISTRY, or a file.

    Raises:
        ValueError: It is a database, and the online store the SQLite file, whose tables have the
            same names for every data set; or as ``redis_of``.
    """
    database = environment.get(REGISTRY)
    if not database:
        return {"registry_type": "file", "path": uri(store_dir / "registry.db")}
    if redis_of(environment) is None:
        raise ValueError(f"{REGISTRY}: a database; with {VARIABLE}=redis://host:port only")
    return {"registry_type": "sql", "path": database}
