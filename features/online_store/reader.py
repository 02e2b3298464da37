"""The rows of the online store that the environment names, read without Feast."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from features.online_store.config import redis_of
from features.online_store.sqlite_reader import SqliteRows
from features.schema import Role, Schema


class OnlineRows(Protocol):
    """Reads a data set's online store; may be used from several threads.

    Whatever a method raises, the store could not be read.
    """

    def read(
        self, role: Role, ids: Sequence[int | str], *, since: int | None = None
    ) -> dict[str, pa.Array]:
        """Stored columns of these ids, in order; null where unknown.

        Args:
            role: Whose tables.
            ids: Of whom.
            since: Epoch microseconds before which no request is; None: any request.

        Returns:
            For each table its columns, its event timestamp (``table.timestamp_column``) and from
            when the row counts (``table.visible_at_column``). Where a newer row may have to wait,
            earlier ones follow, and ``table.earlier_column`` holds the index of the one before.
        """
        ...

    def read_all(
        self, role: Role, *, most: int
    ) -> tuple[list[int] | list[str], dict[str, pa.Array]]:
        """All ids of a role and ``read`` of them; TooManyRowsError where they are more."""
        ...

    def version(self, role: Role) -> object:
        """What changes whenever a table of a role is written."""
        ...

    def changed(self, role: Role, since: object) -> list[int] | list[str] | None:
        """Ids of a role that were written since that ``version``; None where it is not known."""
        ...


def open_rows(
    schema: Schema,
    store_dir: Path,
    *,
    timeout_seconds: float,
    environment: Mapping[str, str] = os.environ,
) -> OnlineRows:
    """Open the store of a data set for reading.

    Args:
        schema: The data set's schema.
        store_dir: The Feast stores, where the SQLite file is.
        timeout_seconds: How long to wait for the store.
        environment: With RANKING_ONLINE, see ``features.online_store.config``.

    Raises:
        ValueError: Nothing was applied there, or the variable names no store.
    """
    redis = redis_of(environment)
    if redis is not None:
        # Imported here: a machine with the SQLite store needs no Redis client.
        from features.online_store.redis_reader import RedisRows

        return RedisRows(schema, redis, timeout_seconds=timeout_seconds)
    registry = store_dir / schema.name / "registry.db"
    if not registry.exists():
        raise ValueError(f"store {registry}: does not exist; run `python -m features apply`")
    return SqliteRows(schema, registry.with_name("online.db"), timeout_seconds=timeout_seconds)
