"""Feast's Redis store, except that an older row never replaces a newer one.

Apart from ``features.store``, so that a machine with the SQLite store needs no Redis client.
"""

import datetime
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from google.protobuf.timestamp_pb2 import Timestamp

from features.redis_rows import order_field, version_key

_ROWS_AT_ONCE = 1_000
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_BEFORE_1970 = 10**17
"""Added to moments, so that as texts of one length they are ordered as they are as numbers."""
_WRITE = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored and stored > ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
"""

Row = tuple[Any, dict[str, Any], datetime.datetime, datetime.datetime | None]


class NewestRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Configuration of the store below, as ``feature_store.yaml`` names it."""

    type: Literal["features.redis_store.NewestRedisOnlineStore"] = (
        "features.redis_store.NewestRedisOnlineStore"
    )
    path: str = ""
    """Not read: the one repository file names the settings of both stores."""


class NewestRedisOnlineStore(RedisOnlineStore):
    """Writes a row only where none is stored that is newer: by event time, then by ``created``.

    Feast's compares event times only, so that a corrected row of the same moment is left out, and
    reads before it writes, so that of two writers the older may win. Here a script in the server
    compares and writes as one step.
    """

    def online_write_batch(
        self, config: Any, table: Any, data: Sequence[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Offer rows, and count: a copy of the table in memory is old from now on."""
        client = self._get_client(config.online_store)
        script = client.register_script(_WRITE)
        for start in range(0, len(data), _ROWS_AT_ONCE):
            some = data[start : start + _ROWS_AT_ONCE]
            with client.pipeline(transaction=False) as pipe:
                for entity_key, values, moment, created in some:
                    key = _redis_key(config.project, entity_key, 3)
                    fields = _fields(table.name, values, moment, created)
                    script(keys=[key], args=[*fields], client=pipe)
                pipe.execute()
            if progress:
                progress(len(some))
        client.incr(version_key(config.project, table.name))


def _fields(
    table: str,
    values: dict[str, Any],
    moment: datetime.datetime,
    created: datetime.datetime | None,
) -> Iterable[bytes | str]:
    """Names and contents in turn, first what orders the rows, then what Feast itself writes."""
    event = _micros(moment)
    yield order_field(table)
    yield f"{event + _BEFORE_1970:018d}{(_micros(created) if created else 0) + _BEFORE_1970:018d}"
    stamp = Timestamp(seconds=event // 1_000_000, nanos=event % 1_000_000 * 1_000)
    yield f"_ts:{table}"
    yield stamp.SerializeToString()
    for name, value in values.items():
        yield _mmh3(f"{table}:{name}")
        yield value.SerializeToString()


def _micros(moment: datetime.datetime) -> int:
    """Feast hands over naive times in UTC, or aware ones."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return (aware - _EPOCH) // _MICROSECOND
