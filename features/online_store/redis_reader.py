"""Rows straight from the Redis server that Feast writes to: one round trip a read, no Feast.

Feast keeps a hash for each entity: its key is the entity's and the project's name, its fields are
the hashes of ``table:column``; ``_order:table`` has the times of the row.
"""

import re
import ssl
import struct
import time
from collections.abc import Sequence

import mmh3
import pyarrow as pa
import redis

from features.online_store.codec import content_of, entity_keys, key_prefix, redis_project
from features.online_store.config import Redis
from features.online_store.reader import OnlineRows
from features.online_store.visibility import EARLIER, newest_columns, with_earlier
from features.schema import FeatureTable, Schema

_CONNECTIONS = 64
_DIGITS = 18
_BEFORE_1970 = 10**17
"""Added to moments, so that none is negative."""
_SCANNED_AT_ONCE = 5_000


def order_field(table: str) -> str:
    """Field of an entity by which our writes to a table are ordered."""
    return f"_order:{table}"


def order_text(order: tuple[int, int]) -> str:
    """Event and ``created`` as texts of one length, ordered as the numbers are."""
    return "".join(f"{moment + _BEFORE_1970:0{_DIGITS}d}" for moment in order)


def times_of(order: bytes) -> tuple[int, int]:
    """Event and ``created`` of a text that ``order_text`` made."""
    return int(order[:_DIGITS]) - _BEFORE_1970, int(order[_DIGITS:]) - _BEFORE_1970


def hashed(name: str) -> bytes:
    """Feast's name of a field: Murmur3, little-endian."""
    return struct.pack("<I", mmh3.hash(name, signed=False))


def version_key(project: str, table: str) -> str:
    """Key of a table's version: how often it was written."""
    return f"ranking_version:{project}:{table}"


def changes_key(project: str, table: str) -> str:
    """Key of a sorted set: for each entity, the table's version at its last write."""
    return f"ranking_changes:{project}:{table}"


class RedisRows(OnlineRows):
    """Over pooled connections; every method raises redis.RedisError where the server is late."""

    most_keys = 1_000

    def __init__(self, schema: Schema, server: Redis, *, timeout_seconds: float) -> None:
        """Args: the schema, where the server is, and how long to wait for each of its answers."""
        super().__init__(schema)
        self._project = redis_project(schema)
        self._timeout = timeout_seconds
        kind = redis.SSLConnection if server.is_encrypted else redis.Connection
        self._pool = redis.BlockingConnectionPool(
            connection_class=kind,
            max_connections=_CONNECTIONS,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            # No retry: the time budget is for one attempt.
            retry=None,
            retry_on_error=[],
            **({"ssl_cert_reqs": ssl.CERT_REQUIRED} if server.is_encrypted else {}),
            **server.options,
        )

    def read(
        self, of: str, ids: Sequence[int | str], *, since: int | None = None
    ) -> dict[str, pa.Array]:
        """One round trip for all tables."""
        entity = self._schema.key(of)
        suffix = self._project.encode()
        keys = [key + suffix for key in entity_keys(entity.name, entity.dtype, ids)]
        tables = self._tables(of)
        fields: list[bytes] = []
        for table in tables:
            names = [column.name for column in table.columns]
            fields += [hashed(f"{table.name}:{name}") for name in (*names, EARLIER)]
            fields.append(order_field(table.name).encode())
        answers = list(zip(*self._fetch(keys, fields), strict=True)) or [()] * len(fields)
        columns: dict[str, pa.Array] = {}
        start = 0
        for table in tables:
            end = start + len(table.columns) + 2
            columns |= _columns(table, answers[start:end], since)
            start = end
        return columns

    def _keys(self, of: str, most: int) -> list[bytes]:
        entity = self._schema.key(of)
        prefix, suffix = key_prefix(entity.name, entity.dtype), self._project.encode()
        pattern = literally(prefix) + b"*" + literally(suffix)
        found: dict[bytes, None] = {}
        client = redis.Redis(connection_pool=self._pool)
        # A scan may name a key twice.
        for key in client.scan_iter(pattern, count=_SCANNED_AT_ONCE):
            found[key[: -len(suffix)]] = None
            if len(found) == most:
                break
        return list(found)

    def version(self, of: str) -> object:
        """How often each table was written."""
        names = [table.name for table in self._tables(of)]
        client = redis.Redis(connection_pool=self._pool)
        keys = [version_key(self._project, name) for name in names]
        return tuple(client.mget(keys))

    def changed(self, of: str, since: object) -> list[int] | list[str] | None:
        """By the versions in the store; None too where they are lower than they were."""
        names = [table.name for table in self._tables(of)]
        now = self.version(of)
        if not isinstance(since, tuple) or not isinstance(now, tuple):
            return None
        client = redis.Redis(connection_pool=self._pool)
        found: dict[bytes, None] = {}
        for name, before, after in zip(names, since, now, strict=True):
            # A lower version: another server, or one that has lost its data.
            if int(after or 0) < int(before or 0):
                return None
            key = changes_key(self._project, name)
            found |= dict.fromkeys(client.zrangebyscore(key, f"({int(before or 0)}", "+inf"))
        suffix = len(self._project.encode())
        return self._ids(of, [key[:-suffix] for key in found])

    def _fetch(self, keys: list[bytes], fields: list[bytes]) -> list[list[bytes | None]]:
        """For each key its fields' contents.

        The commands are put together here: redis-py's pipeline takes longer to pack five hundred
        of them than the server to answer.
        """
        head = b"*%d\r\n$5\r\nHMGET\r\n" % (len(fields) + 2)
        tail = b"".join(b"\r\n$%d\r\n%b" % (len(field), field) for field in fields) + b"\r\n"
        connection = self._pool.get_connection()
        deadline = time.monotonic() + self._timeout
        answers = []
        try:
            for start in range(0, len(keys), self.most_keys):
                some = keys[start : start + self.most_keys]
                commands = [b"%b$%d\r\n%b%b" % (head, len(key), key, tail) for key in some]
                connection.send_packed_command([b"".join(commands)])
                for _ in some:
                    answers.append(connection.read_response(disable_decoding=True))
                self._check(deadline)
        except BaseException:
            # Answers may still come in, and the next user of the connection must not read them.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)
        return answers

    def _check(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise redis.TimeoutError(f"read: not done within {self._timeout:g} seconds")


def _columns(
    table: FeatureTable, answers: Sequence[Sequence[bytes | None]], since: int | None
) -> dict[str, pa.Array]:
    """A table's columns: of each, then of the earlier rows, then of the order, what was stored."""
    *stored, earlier, orders = answers
    names = [column.name for column in table.columns]
    values = {name: list(content) for name, content in zip(names, stored, strict=True)}
    times = [times_of(order) if order else (None, None) for order in orders]
    events, created = [event for event, _ in times], [at for _, at in times]
    contents = {index: content_of(value) for index, value in enumerate(earlier) if value}
    packed = {index: content for index, content in contents.items() if content}
    return with_earlier(table, newest_columns(table, values, events, created), packed, since=since)


def literally(text: bytes) -> bytes:
    """A pattern that matches only this text."""
    return re.sub(rb"([\\*?\[\]^-])", rb"\\\1", text)
