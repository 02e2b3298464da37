"""A user's rows in the online store, found and removed past Feast, bytes and all."""

import contextlib
import dataclasses
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

from features.online_store.codec import PROJECT, content_of, decoded, ids_of, key_prefix
from features.online_store.config import redis_at
from features.online_store.sqlite_reader import CHANGES, VERSIONS
from features.online_store.visibility import EARLIER, unpacked
from features.places import Place
from features.schema import Dtype, Schema

_WAIT_SECONDS = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredUser:
    """How a user's rows are known among what a store has."""

    schema: Schema
    user_id: int | str
    has_user: Callable[[str, int | str], bool]
    """Whether an id, of what a table is ``of``, is the user's or has the user's id in it."""
    lists: Mapping[str, Dtype]
    """Columns of others' rows that are lists of users."""

    def own(self, keys: Iterable[bytes]) -> set[bytes]:
        """The keys of entities that are the user, or that the user's id is a part of."""
        all_keys, found = list(keys), set()
        for of, column in self.schema.key_columns():
            prefix = key_prefix(column.name, column.dtype)
            mine = [key for key in all_keys if key.startswith(prefix)]
            ids: Sequence[int | str] = ids_of(column.name, column.dtype, mine)
            found |= {key for key, one in zip(mine, ids, strict=True) if self.has_user(of, one)}
        return found

    def is_named(self, column: str, value: bytes | None) -> bool:
        """Whether a stored value is a list with the user in it, or earlier rows with one."""
        if not value:
            return False
        if column == EARLIER:
            rows = unpacked(content_of(value))
            return any(
                self.is_named(name, row.values.get(name)) for row in rows for name in self.lists
            )
        (users,) = decoded(column, self.lists[column], [value]).to_pylist()
        return self.user_id in (users or ())


def erase_rows(
    user: StoredUser,
    store_dir: Place,
    *,
    dry_run: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, int]:
    """Remove a user's rows; returns of how many entities, by table, or by server.

    Rows of others whose lists name the user go as well: a ``materialize`` brings them back as the
    lake has them. Servers go on reading. In the SQLite file what is deleted is overwritten, and the
    file is written anew: readers may wait for it as for any writer.

    Args:
        user: Whose.
        store_dir: The Feast stores.
        dry_run: Only count.
        environment: Says which store it is.

    Raises:
        ValueError: As ``redis_at``.
        OSError: The store cannot be reached, or another writer holds it for a minute.
    """
    if server := redis_at(store_dir, environment):
        # Here: a machine with the SQLite store needs no Redis client.
        from features.online_store.erase_redis import erase_redis

        return erase_redis(user, server, dry_run=dry_run)
    file = store_dir / user.schema.name / "online.db"
    if not file.exists():
        return {}
    try:
        with contextlib.closing(sqlite3.connect(str(file), timeout=_WAIT_SECONDS)) as connection:
            return _erase_sqlite(user, connection, dry_run=dry_run)
    except sqlite3.Error as error:
        raise OSError(f"store {file}: not erased: {error}; run the command again") from error


def _erase_sqlite(
    user: StoredUser, connection: sqlite3.Connection, *, dry_run: bool
) -> dict[str, int]:
    connection.execute("PRAGMA secure_delete = ON")
    listed = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%entity_key%'"
    found = {}
    for (name,) in connection.execute(listed).fetchall():
        rows = connection.execute(f'SELECT DISTINCT entity_key FROM "{name}"')
        keys = user.own(key for (key,) in rows)
        if name != CHANGES:
            keys |= _naming(user, connection, name)
        if keys:
            shown = name if name == CHANGES else name.removeprefix(f"{PROJECT}_")
            found[shown] = len(keys)
        if keys and not dry_run:
            _delete(connection, name, sorted(keys))
    if not dry_run:
        # Also pages that were freed by others, and not overwritten.
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return found


def _naming(user: StoredUser, connection: sqlite3.Connection, name: str) -> set[bytes]:
    """Entities of a table of which a stored list names the user."""
    found = set()
    for column in (*user.lists, EARLIER) if user.lists else ():
        rows = connection.execute(
            f'SELECT entity_key, value FROM "{name}" WHERE feature_name = ?', (column,)
        )
        found |= {key for key, value in rows if user.is_named(column, value)}
    return found


def _delete(connection: sqlite3.Connection, name: str, keys: Sequence[bytes]) -> None:
    """Remove entities of a table, and raise its version: copies in memory are stale."""
    with connection:
        connection.executemany(
            f'DELETE FROM "{name}" WHERE entity_key = ?', [(key,) for key in keys]
        )
        has_versions = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = ?", (VERSIONS,)
        ).fetchone()
        if has_versions:
            connection.execute(
                f"UPDATE {VERSIONS} SET version = version + 1 WHERE name = ?",
                (name.removeprefix(f"{PROJECT}_"),),
            )
