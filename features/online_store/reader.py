"""The rows of the online store that the environment names, read without Feast."""

import abc
import os
from collections.abc import Mapping, Sequence

import pyarrow as pa

from features.online_store.codec import TooManyRowsError, ids_of
from features.online_store.config import redis_at
from features.online_store.visibility import joined_columns
from features.places import Place
from features.schema import FeatureTable, Schema


class OnlineRows(abc.ABC):
    """Reads a data set's online store; may be used from several threads.

    Whatever a method raises, the store could not be read.
    """

    most_keys: int
    """Entities of one read."""

    def __init__(self, schema: Schema) -> None:
        """Args: the data set's schema."""
        self._schema = schema

    @abc.abstractmethod
    def read(
        self, of: str, ids: Sequence[int | str], *, since: int | None = None
    ) -> dict[str, pa.Array]:
        """Stored columns of these ids, in order; null where unknown.

        Args:
            of: What the tables have rows for, as ``FeatureTable.of``: users, items or a key.
            ids: Of which of them.
            since: Epoch microseconds before which no request is: rows that none can see from then
                on are left out. None: any request.

        Returns:
            For each table its columns, its event timestamp (``table.timestamp_column``), when the
            row was made available (``table.created_column``) and from when it counts
            (``table.visible_at_column``). Where a newer row may have to wait, earlier ones follow,
            and ``table.earlier_column`` holds the index of the one before. Availability and
            time-to-live are for the caller to apply.
        """

    def read_all(self, of: str, *, most: int) -> tuple[list[int] | list[str], dict[str, pa.Array]]:
        """All ids that have a row in any table, and ``read`` of them.

        Raises:
            TooManyRowsError: There are more than ``most``.
        """
        keys = self._keys(of, most + 1)
        if len(keys) > most:
            raise TooManyRowsError(f"{of} rows: more than {most}")
        ids = self._ids(of, keys)
        starts = range(0, len(ids), self.most_keys)
        some = [ids[start : start + self.most_keys] for start in starts] or [[]]
        parts = [self.read(of, part) for part in some]
        columns: dict[str, pa.Array] = {}
        for table in self._tables(of):
            columns |= joined_columns(table, parts, [len(part) for part in some])
        return ids, columns

    @abc.abstractmethod
    def version(self, of: str) -> object:
        """What changes whenever one of these tables is written; cheap enough for every second."""

    @abc.abstractmethod
    def changed(self, of: str, since: object) -> list[int] | list[str] | None:
        """Ids that were written since that ``version``; None where it is not known."""

    @abc.abstractmethod
    def _keys(self, of: str, most: int) -> list[bytes]:
        """The keys of at most so many of them, each once."""

    def _tables(self, of: str) -> list[FeatureTable]:
        return [table for table in self._schema.tables if table.of == of]

    def _ids(self, of: str, keys: Sequence[bytes]) -> list[int] | list[str]:
        entity = self._schema.key(of)
        return ids_of(entity.name, entity.dtype, keys)


def open_rows(
    schema: Schema,
    store_dir: Place,
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
        ValueError: Nothing was applied there, or as ``redis_at``.
    """
    if redis := redis_at(store_dir, environment):
        # Imported here: a machine with the SQLite store needs no Redis client.
        from features.online_store.redis_reader import RedisRows

        return RedisRows(schema, redis, timeout_seconds=timeout_seconds)
    from features.online_store.sqlite_reader import SqliteRows

    registry = store_dir / schema.name / "registry.db"
    if not registry.exists():
        raise ValueError(f"store {registry}: does not exist; run `python -m features apply`")
    return SqliteRows(schema, registry.with_name("online.db"), timeout_seconds=timeout_seconds)
