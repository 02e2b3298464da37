"""Feast's Redis store, except that an older row never replaces a newer one.

In a module of its own, so that a machine with the SQLite store needs no
Redis client.
"""

import features.online_store.feast_import  # noqa: F401 - before anything of Feast

# isort: split
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from feast.infra.online_stores.helpers import _redis_key
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from google.protobuf.timestamp_pb2 import Timestamp

from features.online_store.codec import bytes_value, content_of
from features.online_store.redis_reader import (
    changes_key,
    hashed,
    order_field,
    order_text,
    times_of,
    version_key,
)
from features.online_store.visibility import EARLIER, Offered, Row, merged, row_of

if TYPE_CHECKING:
    from feast import FeatureView, RepoConfig
    from redis import Redis

_ENTITIES_AT_ONCE = 1_000
_MOST_TRIES = 100
_WRITE = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
"""
# One step: a reader of the version finds all entities that changed with it.
_RECORD_CHANGES = """
local version = redis.call('INCR', KEYS[1])
for _, key in ipairs(ARGV) do redis.call('ZADD', KEYS[2], version, key) end
return version
"""


class NewestRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Configuration of the store below, as ``feature_store.yaml`` names it."""

    type: Literal["features.online_store.feast_redis.NewestRedisOnlineStore"] = (
        "features.online_store.feast_redis.NewestRedisOnlineStore"
    )
    path: str = ""
    """Not read: the one repository file names the settings of both stores."""


class NewestRedisOnlineStore(RedisOnlineStore):
    """Keeps the newest row: by event time, then by ``created``; and those that answer until then.

    Feast's compares event times only, so that a corrected row of the same moment is left out, and
    reads before it writes, so that of two writers the older may win. Here a script in the server
    writes only where no other writer has written since the read; else the entity is read again.
    """

    def online_write_batch(
        self,
        config: "RepoConfig",
        table: "FeatureView",
        data: Sequence[Offered],
        progress: Callable[[int], object] | None,
    ) -> None:
        """Add rows and raise the table's version: copies of it in memory are stale from now on."""
        client = self._get_client(config.online_store)
        offered: dict[bytes, list[Row]] = {}
        for one in data:
            key = _redis_key(config.project, one[0], 3)
            offered.setdefault(key, []).append(row_of(*one[1:]))
        keys = list(offered)
        version_keys = [kind(config.project, table.name) for kind in (version_key, changes_key)]
        record_changes = client.register_script(_RECORD_CHANGES)
        for start in range(0, len(keys), _ENTITIES_AT_ONCE):
            some = keys[start : start + _ENTITIES_AT_ONCE]
            _add(client, table.name, {key: offered[key] for key in some})
            record_changes(keys=version_keys, args=some)
        if progress:
            progress(len(data))


def _add(client: "Redis", table: str, offered: dict[bytes, list[Row]]) -> None:
    """Write each entity again until no other writer came in between.

    Raises:
        ValueError: Other writers keep writing the same entities.
    """
    script = client.register_script(_WRITE)
    for _ in range(_MOST_TRIES):
        stored = _read(client, table, offered)
        with client.pipeline(transaction=False) as pipe:
            for key, rows in offered.items():
                writes, newest, earlier = stored[key]
                fields = _fields(table, *merged(newest, earlier, rows))
                script(keys=[key], args=[_writes_field(table), writes, *fields], client=pipe)
            is_written = pipe.execute()
        pairs = zip(offered.items(), is_written, strict=True)
        offered = {key: rows for (key, rows), written in pairs if not written}
        if not offered:
            return
    raise ValueError(f"table {table}: {len(offered)} rows not written; others write them too")


def _read(
    client: "Redis", table: str, offered: dict[bytes, list[Row]]
) -> dict[bytes, tuple[bytes, Row | None, bytes]]:
    """Of each entity how often it was written, its newest row and the packed earlier ones."""
    names = sorted({name for rows in offered.values() for row in rows for name in row.values})
    fields = [hashed(f"{table}:{name}") for name in names]
    first = [_writes_field(table), order_field(table), hashed(f"{table}:{EARLIER}")]
    with client.pipeline(transaction=False) as pipe:
        for key in offered:
            pipe.hmget(key, [*first, *fields])
        answers = pipe.execute()
    found = {}
    for key, (writes, order, earlier, *values) in zip(offered, answers, strict=True):
        there = {
            name: value for name, value in zip(names, values, strict=True) if value is not None
        }
        newest = Row(*times_of(order), there) if order else None
        found[key] = (writes or b"", newest, content_of(earlier) if earlier else b"")
    return found


def _fields(table: str, newest: Row, earlier: bytes) -> Iterator[bytes | str]:
    """Names and contents in turn, first what orders the rows, then what Feast itself writes."""
    yield order_field(table)
    yield order_text(newest.order)
    yield f"_ts:{table}"
    seconds, micros = divmod(newest.event, 1_000_000)
    yield Timestamp(seconds=seconds, nanos=micros * 1_000).SerializeToString()
    for name, value in {**newest.values, EARLIER: bytes_value(earlier)}.items():
        yield hashed(f"{table}:{name}")
        yield value


def _writes_field(table: str) -> str:
    return f"_writes:{table}"
