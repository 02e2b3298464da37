"""Rows straight from the SQLite file that Feast writes: one query a table, no Feast, no lock.

Each thread has a read-only connection of its own.
"""

import sqlite3
import threading
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

import pyarrow as pa

from features.online_store.codec import PROJECT, content_of, entity_keys, in_order
from features.online_store.reader import OnlineRows
from features.online_store.visibility import EARLIER, newest_columns, with_earlier
from features.places import Place
from features.schema import FeatureTable, Schema

_Stored = tuple[bytes, str, bytes, int, int | None]
"""Key, feature, value, event and ``created`` of one stored value."""
VERSIONS = "ranking_versions"
"""Table of the store with one row a feature table: how often it was written."""
CHANGES = "ranking_changes"
"""Table of the store with one row an entity of a feature table: with which of its versions it was
written last."""
_CACHE_KIBIBYTES = 16_384


class SqliteRows(OnlineRows):
    """Of the SQLite file; every method raises sqlite3.Error where it cannot be read."""

    most_keys = 10_000  # SQLite takes 32,766 parameters

    def __init__(self, schema: Schema, path: Place, *, timeout_seconds: float) -> None:
        """Args: the schema, the database, and how long to wait while a writer holds it."""
        super().__init__(schema)
        self._path = path
        self._timeout = timeout_seconds
        self._inode = _inode(path)
        self._own = threading.local()

    def read(
        self, of: str, ids: Sequence[int | str], *, since: int | None = None
    ) -> dict[str, pa.Array]:
        """One query a table."""
        entity = self._schema.key(of)
        keys = entity_keys(entity.name, entity.dtype, ids)
        columns: dict[str, pa.Array] = {}
        for table in self._tables(of):
            columns |= self._table(table, keys, since)
        return columns

    def _keys(self, of: str, most: int) -> list[bytes]:
        queries = (f'SELECT DISTINCT entity_key FROM "{_name(t)}"' for t in self._tables(of))
        found = self._connection().execute(f"{' UNION '.join(queries)} LIMIT ?", (most,))
        return [key for (key,) in found]

    def version(self, of: str) -> object:
        """The file, and how often each table was written."""
        self._inode = _inode(self._path)
        connection = self._connection()
        names = [table.name for table in self._tables(of)]
        if not _has(connection, VERSIONS):
            # A store that was applied before versions existed: any write may be to these tables.
            return self._inode, connection.execute("PRAGMA data_version").fetchone()
        marks = ", ".join("?" * len(names))
        rows = connection.execute(
            f"SELECT name, version FROM {VERSIONS} WHERE name IN ({marks}) ORDER BY name", names
        )
        return self._inode, tuple(rows.fetchall())

    def changed(self, of: str, since: object) -> list[int] | list[str] | None:
        """By the versions in the store; None too where the file is another one."""
        connection = self._connection()
        if not _has(connection, CHANGES) or not isinstance(since, tuple) or since[0] != self._inode:
            return None
        if not all(isinstance(one, tuple) for one in since[1]):
            return None  # there were no versions then
        before = dict(since[1])
        found: dict[bytes, None] = {}
        for table in self._tables(of):
            rows = connection.execute(
                f"SELECT entity_key FROM {CHANGES} WHERE name = ? AND version > ?",
                (table.name, before.get(table.name, 0)),
            )
            found |= dict.fromkeys(key for (key,) in rows)
        return self._ids(of, list(found))

    def _table(
        self, table: FeatureTable, keys: Sequence[bytes], since: int | None
    ) -> dict[str, pa.Array]:
        names = sorted(column.name for column in table.columns)
        found: dict[bytes, int] = {}
        earlier: dict[bytes, bytes] = {}
        values: dict[str, list[bytes | None]] = {name: [] for name in names}
        events: list[int | None] = []
        created: list[int | None] = []
        for start in range(0, len(keys), self.most_keys):
            some = list(keys[start : start + self.most_keys])
            group = _grouped(self._rows(table, some), [EARLIER, *names])
            found |= {key: index for index, key in enumerate(group.keys, start=len(events))}
            events += group.events
            created += group.created
            for name in names:
                values[name] += group.values[name]
            packed = zip(group.keys, group.values[EARLIER], strict=True)
            earlier |= {key: content_of(value) for key, value in packed if value}
        columns = in_order(keys, found, newest_columns(table, values, events, created))
        packed_rows = {n: earlier[key] for n, key in enumerate(keys) if earlier.get(key)}
        return with_earlier(table, columns, packed_rows, since=since)

    def _rows(self, table: FeatureTable, keys: list[bytes]) -> list[_Stored]:
        marks = ", ".join("?" * len(keys))
        return (
            self._connection()
            .execute(
                "SELECT entity_key, feature_name, value, event_ts, created_ts "
                f'FROM "{_name(table)}" WHERE entity_key IN ({marks}) '
                "ORDER BY entity_key, feature_name",
                keys,
            )
            .fetchall()
        )

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection, to the file that is there now."""
        opened: tuple[int, sqlite3.Connection] | None = getattr(self._own, "opened", None)
        if opened is None or opened[0] != self._inode:
            if opened is not None:
                self._own.opened = None
                opened[1].close()
            address = f"file:{quote(str(self._path))}?mode=ro"
            connection = sqlite3.connect(address, uri=True, timeout=self._timeout)
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
            opened = self._own.opened = (self._inode, connection)
        return opened[1]


class _Group(NamedTuple):
    """Rows of some entities, feature by feature."""

    keys: list[bytes]
    values: dict[str, list[bytes | None]]
    events: list[int | None]
    created: list[int | None]


def _grouped(rows: list[_Stored], names: list[str]) -> _Group:
    """Sorted rows by entity: all at once where every entity has every feature, as is usual."""
    width = len(names)
    num_entities, rest = divmod(len(rows), width)
    keys, features, values, events, created = list(zip(*rows, strict=True)) or [()] * 5
    if not rest and list(features) == names * num_entities:
        columns = {name: list(values[index::width]) for index, name in enumerate(names)}
        times = list(events[::width]), list(created[::width])
        return _Group(list(keys[::width]), columns, *times)
    by_entity: dict[bytes, dict[str, bytes]] = {}
    moments: dict[bytes, tuple[int, int | None]] = {}
    for key, feature, value, event, at in rows:
        by_entity.setdefault(key, {})[feature] = value
        if feature in names:
            moments[key] = event, at
    spread = {name: [by_entity[key].get(name) for key in moments] for name in names}
    events_of, created_of = ([both[n] for both in moments.values()] for n in (0, 1))
    return _Group(list(moments), spread, events_of, created_of)


def _has(connection: sqlite3.Connection, name: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,))
    return found.fetchone() is not None


def _name(table: FeatureTable) -> str:
    return f"{PROJECT}_{table.name}"


def _inode(path: Place) -> int:
    """Inode of the file; 0 where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
