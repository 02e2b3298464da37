"""Rows straight from the Redis server that Feast writes to: one round trip a read, no Feast.

Feast keeps a hash for each entity: its key is the entity's and the project's name, its fields are
the hashes of ``table:column``, and ``_ts:table`` is the event time.
"""

import ssl
import struct
import time
from collections.abc import Sequence
from typing import Any

import mmh3
import pyarrow as pa
import redis

from features.schema import Role, Schema
from features.stored import (
    TooManyRowsError,
    entity_keys,
    ids_of,
    key_prefix,
    redis_project,
    stored_columns,
)
from features.stores import Redis

_ENTITIES_AT_ONCE = 1_000
_CONNECTIONS = 64
_SCANNED_AT_ONCE = 5_000


def order_field(table: str) -> str:
    """Field of an entity by which our writes to a table are ordered."""
    return f"_order:{table}"


def version_key(project: str, table: str) -> str:
    """Key of how often a table was written."""
    return f"ranking_version:{project}:{table}"


class RedisRows:
    """Reads a data set's online store over pooled connections; may be used from several threads."""

    def __init__(self, schema: Schema, place: Redis, *, timeout_seconds: float = 5.0) -> None:
        """Args: the schema, where the server is, and how long to wait for each of its answers."""
        self._schema = schema
        self._project = redis_project(schema)
        self._timeout = timeout_seconds
        kind = redis.SSLConnection if place.is_encrypted else redis.Connection
        self._pool = redis.BlockingConnectionPool(
            connection_class=kind,
            max_connections=_CONNECTIONS,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            # A server that is gone is not asked twice: the budget is for one attempt.
            retry=None,
            retry_on_error=[],
            **({"ssl_cert_reqs": ssl.CERT_REQUIRED} if place.is_encrypted else {}),
            **place.options,
        )

    def read(self, role: Role, ids: Sequence[int | str]) -> dict[str, pa.Array]:
        """Stored columns of every table of a role, for each id in the order given.

        Returns:
            For each table its columns and its event timestamp (``<table>__event_timestamp``), null
            where the store has no row. Time-to-live is for the caller to apply.

        Raises:
            redis.RedisError: The server does not answer, or not in time.
        """
        entity = self._schema.entity(role)
        suffix = self._project.encode()
        keys = [key + suffix for key in entity_keys(entity.name, entity.dtype, ids)]
        tables = [table for table in self._schema.tables if table.role is role]
        fields: list[bytes] = []
        for table in tables:
            fields += [_hashed(f"{table.name}:{column.name}") for column in table.columns]
            fields.append(f"_ts:{table.name}".encode())
        answers = list(zip(*self._fetch(keys, fields), strict=True)) or [()] * len(fields)
        columns: dict[str, pa.Array] = {}
        start = 0
        for table in tables:
            end = start + len(table.columns)
            names = [column.name for column in table.columns]
            values = dict(zip(names, answers[start:end], strict=True))
            moments = [_moment(stamp) if stamp else None for stamp in answers[end]]
            columns |= stored_columns(table, values, moments)
            start = end + 1
        return columns

    def read_all(
        self, role: Role, *, most: int
    ) -> tuple[list[int] | list[str], dict[str, pa.Array]]:
        """All entities of a role that have a row in any table, and ``read`` of them.

        Raises:
            TooManyRowsError: There are more entities than ``most``.
            redis.RedisError: The server does not answer, or not in time.
        """
        entity = self._schema.entity(role)
        prefix, suffix = key_prefix(entity.name, entity.dtype), self._project.encode()
        pattern = _literally(prefix) + b"*" + _literally(suffix)
        found: dict[bytes, None] = {}
        client = redis.Redis(connection_pool=self._pool)
        # A scan may name a key twice.
        for key in client.scan_iter(pattern, count=_SCANNED_AT_ONCE):
            found[key[: -len(suffix)]] = None
            if len(found) > most:
                raise TooManyRowsError(f"{role} rows: more than {most}")
        ids = ids_of(entity.name, entity.dtype, list(found))
        parts = [
            self.read(role, ids[start : start + _ENTITIES_AT_ONCE])
            for start in range(0, len(ids), _ENTITIES_AT_ONCE)
        ] or [self.read(role, [])]
        return ids, {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}

    def version(self, role: Role) -> object:
        """What changes whenever a table of a role is written; cheap enough for every second.

        Raises:
            redis.RedisError: The server does not answer, or not in time.
        """
        names = [table.name for table in self._schema.tables if table.role is role]
        client = redis.Redis(connection_pool=self._pool)
        keys = [version_key(self._project, name) for name in names]
        return tuple(client.mget(keys))

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
            for start in range(0, len(keys), _ENTITIES_AT_ONCE):
                some = keys[start : start + _ENTITIES_AT_ONCE]
                commands = [b"%b$%d\r\n%b%b" % (head, len(key), key, tail) for key in some]
                connection.send_packed_command([b"".join(commands)])
                for _ in some:
                    answers.append(connection.read_response(disable_decoding=True))
                self._check(deadline)
        except BaseException:
            # Answers that are still to come belong to nobody.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)
        return answers

    def _check(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise redis.TimeoutError(f"read: not done within {self._timeout:g} seconds")


def _hashed(name: str) -> bytes:
    """Feast's name of a field: Murmur3, little-endian."""
    return struct.pack("<I", mmh3.hash(name, signed=False))


def _moment(stamp: bytes) -> int:
    """Epoch microseconds of a stored protobuf Timestamp: seconds and nanoseconds, as varints."""
    fields: dict[int, int] = {1: 0, 2: 0}
    place = 0
    while place < len(stamp):
        number, value, shift = stamp[place] >> 3, 0, 0
        while True:
            place += 1
            value |= (stamp[place] & 0x7F) << shift
            shift += 7
            if stamp[place] < 0x80:
                break
        fields[number] = value - (1 << 64) if value >> 63 else value
        place += 1
    return fields[1] * 1_000_000 + fields[2] // 1_000


def _literally(text: bytes) -> bytes:
    """A pattern that matches only this text."""
    special: Any = b"\\*?[]^-"
    return b"".join(b"\\%c" % octet if octet in special else b"%c" % octet for octet in text)
