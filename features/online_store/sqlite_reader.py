"""Rows straight from the SQLite file that Feast writes: one query a table, no Feast, no lock.

Each thread has a read-only connection of its own.
"""

import dataclasses
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from features.online_store.codec import (
    PROJECT,
    TooManyRowsError,
    content_of,
    entity_keys,
    ids_of,
    in_order,
)
from features.online_store.visibility import EARLIER, joined_columns, newest_columns, with_earlier
from features.schema import FeatureTable, Role, Schema

_Stored = tuple[bytes, str, bytes, int, int | None]
"""Key, feature, value, event and ``created`` of one stored value."""
VERSIONS = "ranking_versions"
"""Table of the store with one row a feature table: how often it was written."""
CHANGES = "ranking_changes"
"""Table of the store with one row an entity of a feature table: with which of its versions it was
written last."""
_MOST_KEYS = 10_000
"""Keys of one query; SQLite takes 32,766 parameters."""
_CACHE_KIBIBYTES = 16_384


class SqliteRows:
    """Reads a data set's online store; may be used from several threads."""

    def __init__(self, schema: Schema, path: Path, *, timeout_seconds: float = 5.0) -> None:
        """Args: the schema, the database, and how long to wait while a writer holds it."""
        self._schema = schema
        self._path = path
        self._timeout = timeout_seconds
        self._inode = _inode(path)
        self._own = threading.local()

    def read(
        self, role: Role, ids: Sequence[int | str], *, since: int | None = None
    ) -> dict[str, pa.Array]:
        """Stored columns of every table of a role, for each id in the order given.

        Args:
            role: Whose tables.
            ids: Of whom.
            since: Epoch microseconds before which no request is: rows that none can see from then
                on are left out.

        Returns:
            For each table its columns, its event timestamp and from when the row counts, null
            where the store has no row; earlier rows as ``features.online_store.visibility`` appends
            them. Availability and time-to-live are for the caller to apply.

        Raises:
            sqlite3.Error: The store cannot be read.
        """
        entity = self._schema.entity(role)
        keys = entity_keys(entity.name, entity.dtype, ids)
        columns: dict[str, pa.Array] = {}
        for table in self._schema.tables:
            if table.role is role:
                columns |= self._table(table, keys, since)
        return columns

    def read_all(
        self, role: Role, *, most: int
    ) -> tuple[list[int] | list[str], dict[str, pa.Array]]:
        """All entities of a role that have a row in any table, and ``read`` of them.

        Raises:
            TooManyRowsError: There are more entities than ``most``.
            sqlite3.Error: The store cannot be read.
        """
        entity = self._schema.entity(role)
        tables = [table for table in self._schema.tables if table.role is role]
        union = " UNION ".join(
            f'SELECT DISTINCT entity_key FROM "{_name(table)}"' for table in tables
        )
        found = self._connection().execute(f"{union} LIMIT ?", (most + 1,)).fetchall()
        if len(found) > most:
            raise TooManyRowsError(f"{role} rows: more than {most}")
        ids = ids_of(entity.name, entity.dtype, [key for (key,) in found])
        some = [ids[start : start + _MOST_KEYS] for start in range(0, len(ids), _MOST_KEYS)] or [[]]
        parts = [self.read(role, part) for part in some]
        columns: dict[str, pa.Array] = {}
        for table in tables:
            columns |= joined_columns(table, parts, [len(part) for part in some])
        return ids, columns

    def version(self, role: Role) -> object:
        """What changes whenever a table of a role is written; cheap enough for every second.

        Raises:
            sqlite3.Error: The store cannot be read.
        """
        self._inode = _inode(self._path)
        connection = self._connection()
        names = [table.name for table in self._schema.tables if table.role is role]
        has_versions = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = ?", (VERSIONS,)
        ).fetchone()
        if not has_versions:
            # A store that was applied before versions existed: any write may be to these tables.
            return self._inode, connection.execute("PRAGMA data_version").fetchone()
        marks = ", ".join("?" * len(names))
        rows = connection.execute(
            f"SELECT name, version FROM {VERSIONS} WHERE name IN ({marks}) ORDER BY name", names
        )
        return self._inode, tuple(rows.fetchall())

    def changed(self, role: Role, since: object) -> list[int] | list[str] | None:
        """Entities of a role that were written since a version; None where it is not known.

        Raises:
            sqlite3.Error: The store cannot be read.
        """
        connection = self._connection()
        has_changes = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = ?", (CHANGES,)
        ).fetchone()
        if not has_changes or not isinstance(since, tuple) or since[0] != self._inode:
            return None
        if not all(isinstance(one, tuple) for one in since[1]):
            return None  # there were no versions then
        before = dict(since[1])
        found: dict[bytes, None] = {}
        for table in self._schema.tables:
            if table.role is role:
                rows = connection.execute(
                    f"SELECT entity_key FROM {CHANGES} WHERE name = ? AND version > ?",
                    (table.name, before.get(table.name, 0)),
                )
                found |= dict.fromkeys(key for (key,) in rows)
        entity = self._schema.entity(role)
        return ids_of(entity.name, entity.dtype, list(found))

    def _table(
        self, table: FeatureTable, keys: Sequence[bytes], since: int | None
    ) -> dict[str, pa.Array]:
        names = sorted(column.name for column in table.columns)
        found: dict[bytes, int] = {}
        earlier: dict[bytes, bytes] = {}
        values: dict[str, list[bytes | None]] = {name: [] for name in names}
        events: list[int | None] = []
        created: list[int | None] = []
        for start in range(0, len(keys), _MOST_KEYS):
            some = list(keys[start : start + _MOST_KEYS])
            for group in _groups(self._rows(table, some), [EARLIER, *names]):
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


@dataclasses.dataclass(frozen=True)
class _Group:
    """Rows of some entities, feature by feature."""

    keys: list[bytes]
    values: dict[str, list[bytes | None]]
    events: list[int | None]
    created: list[int | None]


def _groups(rows: list[_Stored], names: list[str]) -> list[_Group]:
    """Sorted rows by entity: all at once where every entity has every feature, as is usual."""
    if not rows:
        return []
    width = len(names)
    keys, features, values, events, created = zip(*rows, strict=True)
    num_entities, rest = divmod(len(rows), width)
    if not rest and list(features) == names * num_entities:
        columns = {name: list(values[index::width]) for index, name in enumerate(names)}
        times = list(events[::width]), list(created[::width])
        return [_Group(list(keys[::width]), columns, *times)]
    by_entity: dict[bytes, dict[str, bytes]] = {}
    moments: dict[bytes, tuple[int, int | None]] = {}
    for key, feature, value, event, at in rows:
        by_entity.setdefault(key, {})[feature] = value
        if feature in names:
            moments[key] = event, at
    known = [key for key in by_entity if key in moments]
    spread = {name: [by_entity[key].get(name) for key in known] for name in names}
    times = [moments[key][0] for key in known], [moments[key][1] for key in known]
    return [_Group(known, spread, *times)]


def _name(table: FeatureTable) -> str:
    return f"{PROJECT}_{table.name}"


def _inode(path: Path) -> int:
    """Inode of the file; 0 where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
