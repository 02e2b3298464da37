"""A user's rows on a Redis server, found by a scan of the data set's keys, and removed."""

import contextlib
from collections.abc import Iterator

import redis

from features.online_store.codec import redis_project
from features.online_store.config import Redis
from features.online_store.erase import StoredUser
from features.online_store.redis_reader import (
    changes_key,
    hashed,
    literally,
    order_field,
    version_key,
)
from features.online_store.visibility import EARLIER
from features.schema import FeatureTable

_WAIT_SECONDS = 60
_SCANNED_AT_ONCE = 5_000


def erase_redis(user: StoredUser, server: Redis, *, dry_run: bool) -> dict[str, int]:
    """Remove a user's entities; returns how many, and of how many others rows that name the user.

    Raises:
        OSError: The server cannot be reached.
    """
    kind = redis.SSLConnection if server.is_encrypted else redis.Connection
    pool = redis.ConnectionPool(
        connection_class=kind, socket_timeout=_WAIT_SECONDS, **server.options
    )
    try:
        with contextlib.closing(redis.Redis(connection_pool=pool)) as client:
            return _erase(user, client, dry_run=dry_run)
    except redis.RedisError as error:
        raise OSError(f"store {server.host}:{server.port}: not erased: {error}") from error
    finally:
        pool.disconnect()


def _erase(user: StoredUser, client: redis.Redis, *, dry_run: bool) -> dict[str, int]:
    project = redis_project(user.schema)
    suffix = project.encode()
    stored = list(client.scan_iter(b"*" + literally(suffix), count=_SCANNED_AT_ONCE))
    noted = {
        table.name: client.zrange(changes_key(project, table.name), 0, -1)
        for table in user.schema.tables
    }
    every = {*stored, *(key for keys in noted.values() for key in keys)}
    short = {key[: -len(suffix)]: key for key in every if key.endswith(suffix)}
    own = {short[key] for key in user.own(short)}
    naming = list(_naming(user, client, [key for key in stored if key not in own]))
    if not dry_run:
        for table in user.schema.tables:
            changed = own.intersection(noted[table.name]) | {k for k, t in naming if t == table}
            _delete(
                client, project, table, own, [k for k, t in naming if t == table], bool(changed)
            )
    counts = {"entities": len(own), "entities_naming": len({key for key, _ in naming})}
    return {name: number for name, number in counts.items() if number}


def _naming(
    user: StoredUser, client: redis.Redis, keys: list[bytes]
) -> Iterator[tuple[bytes, FeatureTable]]:
    """Other entities and the tables of theirs of which a stored list names the user."""
    for table in user.schema.tables if user.lists else ():
        columns = [name for name in user.lists if any(c.name == name for c in table.columns)]
        for column in (*columns, EARLIER) if columns else ():
            field = hashed(f"{table.name}:{column}")
            for key in keys:
                if client.type(key) == b"hash" and user.is_named(column, client.hget(key, field)):
                    yield key, table


def _delete(
    client: redis.Redis,
    project: str,
    table: FeatureTable,
    own: set[bytes],
    naming: list[bytes],
    is_changed: bool,
) -> None:
    """Remove the user's entities whole, and of others the fields of a table."""
    names = (*(column.name for column in table.columns), EARLIER)
    fields = [order_field(table.name), f"_ts:{table.name}", f"_writes:{table.name}"]
    hashes = [hashed(f"{table.name}:{name}") for name in names]
    with client.pipeline(transaction=True) as pipe:
        for key in own:
            pipe.unlink(key)
            pipe.zrem(changes_key(project, table.name), key)
        for key in naming:
            pipe.hdel(key, *fields, *hashes)
        if is_changed:
            pipe.incr(version_key(project, table.name))
        pipe.execute()
