"""Feast: what the schema projects into it, how rows reach the online store, how they are read.

Feast is imported here and in ``features/online_store/repo`` only.
"""

import features.online_store.feast_import  # noqa: F401 - before anything of Feast

# isort: split
import datetime
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
import yaml
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    PushSource,
    RepoConfig,
    ValueType,
)
from feast.data_source import PushMode
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.Value_pb2 import Value
from feast.table_format import DeltaFormat
from feast.types import Array, FeastType, Float64, Int64, String

from features.online_store.codec import PROJECT, bytes_value, content_of, redis_project
from features.online_store.config import redis_at, registry_at
from features.online_store.sqlite_reader import CHANGES, VERSIONS
from features.online_store.visibility import EARLIER, Offered, Row, merged, row_of
from features.places import Place, is_local, uri
from features.schema import CREATED, EVENT_TIMESTAMP, Dtype, FeatureTable, Schema, TableKind

if TYPE_CHECKING:
    from feast import RepoConfig

SERVICE = "ranking"
REPOSITORY = Path(__file__).parent / "repo"
_FIELD_TYPES: dict[Dtype, FeastType] = {
    Dtype.INT64: Int64,
    Dtype.FLOAT64: Float64,
    Dtype.STRING: String,
    Dtype.INT64_LIST: Array(Int64),
    Dtype.STRING_LIST: Array(String),
    Dtype.FLOAT64_LIST: Array(Float64),
}
_ENTITY_TYPES = {Dtype.INT64: ValueType.INT64, Dtype.STRING: ValueType.STRING}
_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001  # Feast hands naive UTC to SQLite
_MICROSECOND = datetime.timedelta(microseconds=1)
_KEY_VERSION = 3
_KEYS_AT_ONCE = 10_000
_WAIT_MILLISECONDS = 30_000
"""For another writer to end: a day's rows and a push may meet."""

# Feast's own adapters take a naive UTC time for local time and drop its microseconds.
sqlite3.register_adapter(datetime.datetime, lambda moment: (moment - _EPOCH) // _MICROSECOND)
sqlite3.register_converter("timestamp", lambda text: _EPOCH + int(text) * _MICROSECOND)


_MAKE_CHANGES = (
    f"CREATE TABLE IF NOT EXISTS {CHANGES} (name TEXT, entity_key BLOB, version INTEGER, "
    "PRIMARY KEY (name, entity_key)) WITHOUT ROWID"
)


class NewestSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """Configuration of the store below, as ``feature_store.yaml`` names it."""

    type: Literal["features.online_store.feast_store.NewestSqliteOnlineStore"] = (
        "features.online_store.feast_store.NewestSqliteOnlineStore"
    )
    connection_string: str = ""
    """Not read: the one repository file names the settings of both stores."""


class NewestSqliteOnlineStore(SqliteOnlineStore):
    """Feast's SQLite store, except that an older row never replaces a newer one.

    Feast's overwrites whatever the time, so that re-running an old day would undo newer features.
    The rule is a trigger in the database: it holds for every writer and against races. Earlier rows
    that are used until a newer one becomes visible are stored with it
    (``features.online_store.visibility``).
    """

    def update(self, config: "RepoConfig", *args: object, **kwargs: object) -> None:
        """Create the tables, as Feast does on ``apply``, and their triggers."""
        super().update(config, *args, **kwargs)
        connection = self._get_conn(config)
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%event_ts%'"
        ).fetchall()
        for (name,) in tables:
            connection.execute(
                f'CREATE TRIGGER IF NOT EXISTS "{name}_newest" BEFORE UPDATE ON "{name}" '
                "WHEN (NEW.event_ts, coalesce(NEW.created_ts, 0)) "
                "< (OLD.event_ts, coalesce(OLD.created_ts, 0)) "
                "BEGIN SELECT RAISE(IGNORE); END"
            )
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {VERSIONS} (name TEXT PRIMARY KEY, version INTEGER)"
        )
        connection.execute(_MAKE_CHANGES)
        connection.execute(
            f"CREATE INDEX IF NOT EXISTS {CHANGES}_by_version ON {CHANGES} (name, version)"
        )
        connection.commit()

    def online_write_batch(
        self,
        config: "RepoConfig",
        table: FeatureView,
        data: Sequence[Offered],
        progress: Callable[[int], object] | None,
    ) -> None:
        """Add rows and raise the table's version: copies of it in memory are stale from now on.

        Reading what is there and writing are one transaction, which no other writer interrupts.
        """
        offered: dict[bytes, list[Offered]] = {}
        for one in data:
            offered.setdefault(serialize_entity_key(one[0], _KEY_VERSION), []).append(one)
        connection = self._get_conn(config)
        connection.execute(f"PRAGMA busy_timeout = {_WAIT_MILLISECONDS}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            stored = _stored_rows(connection, f"{config.project}_{table.name}", list(offered))
            settled = [
                _settled(rows, *stored.get(key, (None, b""))) for key, rows in offered.items()
            ]
            # Feast's own method ends the transaction.
            super().online_write_batch(config, table, settled, progress)
        except BaseException:
            connection.rollback()
            raise
        with connection:
            # Here too, for a store that was applied before there was one.
            connection.execute(_MAKE_CHANGES)
            connection.execute(
                f"INSERT INTO {VERSIONS} VALUES (?, 1) "
                "ON CONFLICT (name) DO UPDATE SET version = version + 1",
                (table.name,),
            )
            connection.executemany(
                f"INSERT INTO {CHANGES} SELECT name, ?, version FROM {VERSIONS} WHERE name = ? "
                "ON CONFLICT (name, entity_key) DO UPDATE SET version = excluded.version",
                [(key, table.name) for key in offered],
            )


def _stored_rows(
    connection: sqlite3.Connection, name: str, keys: Sequence[bytes]
) -> dict[bytes, tuple[Row, bytes]]:
    """Of the entities that are there the newest row and the packed earlier ones."""
    values: dict[bytes, dict[str, bytes]] = {}
    times: dict[bytes, tuple[int, int]] = {}
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = keys[start : start + _KEYS_AT_ONCE]
        found = connection.execute(
            "SELECT entity_key, feature_name, value, "
            "CAST(event_ts AS INTEGER), CAST(coalesce(created_ts, event_ts) AS INTEGER) "
            f'FROM "{name}" WHERE entity_key IN ({", ".join("?" * len(some))})',
            some,
        )
        for key, feature, value, event, created in found:
            values.setdefault(key, {})[feature] = value
            times[key] = event, created
    earlier = {key: of.pop(EARLIER, None) for key, of in values.items()}
    return {
        key: (Row(*times[key], of), content_of(earlier[key] or bytes_value(b"")))
        for key, of in values.items()
    }


def _settled(offered: Sequence[Offered], stored: Row | None, earlier: bytes) -> Offered:
    """What Feast is to write for an entity: its newest row, with the earlier ones as a value."""
    rows = [row_of(*one[1:]) for one in offered]
    newest, rest = merged(stored, earlier, rows)
    values = {name: Value.FromString(value) for name, value in newest.values.items()}
    moments = (_EPOCH + at * _MICROSECOND for at in newest.order)
    return offered[0][0], {**values, EARLIER: Value(bytes_val=rest)}, *moments


def feast_objects(
    schema: Schema, lake: Place, versions: Mapping[str, int] = {}
) -> list[Entity | FeatureView | FeatureService]:
    """Entities, views and the service of a data set; without a version, views read the newest."""
    entities = {
        of: Entity(
            name=column.name,
            join_keys=[column.name],
            value_type=_ENTITY_TYPES[column.dtype],
            description=column.doc,
        )
        for of, column in schema.key_columns()
    }
    views = [
        _view(table, entities[table.of], lake / schema.name, versions.get(table.name))
        for table in schema.tables
    ]
    service = FeatureService(name=SERVICE, features=views, description=schema.doc)
    return [*entities.values(), *views, service]


def _view(table: FeatureTable, entity: Entity, lake: Place, version: int | None) -> FeatureView:
    of_version = {} if version is None else {"versionAsOf": str(version)}
    batch = SparkSource(
        name=f"{table.name}_lake",
        path=uri(lake / table.name),
        table_format=DeltaFormat(properties=of_version),
        timestamp_field=EVENT_TIMESTAMP,
        created_timestamp_column=CREATED,
    )
    is_pushed = table.kind is TableKind.STATE
    return FeatureView(
        name=table.name,
        entities=[entity],
        ttl=table.ttl or datetime.timedelta(0),
        schema=[
            Field(name=column.name, dtype=_FIELD_TYPES[column.dtype], description=column.doc)
            for column in table.columns
        ],
        source=PushSource(name=push_source(table), batch_source=batch) if is_pushed else batch,
        description=table.doc,
    )


def push_source(table: FeatureTable) -> str:
    """Name of the push source of a state table."""
    return f"{table.name}_push"


def open_store(
    schema: Schema, store_dir: Place, environment: Mapping[str, str] = os.environ
) -> FeatureStore:
    """Feast's store of a data set: its repository file, with the folder and the online store.

    Feast reads and writes a registry that is a file in an object store by boto3, which finds the
    server as all clients of AWS do, or by FEAST_S3_ENDPOINT_URL.

    Args:
        schema: The data set's schema.
        store_dir: Folder of all data sets' stores.
        environment: Says whether Redis is the online store, else it is SQLite, in the folder; and
            whether the registry is in a database, else it is a file there.

    Raises:
        ValueError: As ``redis_at`` and ``registry_at``.
    """
    folder = store_dir / schema.name
    module, redis = "features.online_store", redis_at(store_dir, environment)
    if is_local(folder):
        folder.mkdir(parents=True, exist_ok=True)
    settings = yaml.safe_load((REPOSITORY / "feature_store.yaml").read_text())
    settings["registry"] = registry_at(folder, environment)
    settings["project"] = redis_project(schema) if redis else PROJECT
    settings["online_store"] = {
        "type": f"{module}.feast_store.NewestSqliteOnlineStore",
        "path": uri(folder / "online.db"),
    }
    if redis:
        settings["online_store"] = {
            "type": f"{module}.feast_redis.NewestRedisOnlineStore",
            "connection_string": redis.connection_string,
        }
    return FeatureStore(repo_path=str(REPOSITORY), config=RepoConfig(**settings))


def apply(schema: Schema, store_dir: Place, lake: Place) -> int:
    """Register the schema's entities, views and service; returns how many objects there are."""
    objects = feast_objects(schema, lake)
    open_store(schema, store_dir).apply(objects)
    return len(objects)


def offline_store(
    schema: Schema, folder: Place, lake: Place, versions: Mapping[str, int]
) -> FeatureStore:
    """A store of its own over some versions of the tables, for offline reads."""
    store = open_store(schema, folder, {})
    store.apply(feast_objects(schema, lake, versions))
    return store


def write(store: FeatureStore, table: FeatureTable, rows: pd.DataFrame) -> None:
    """Offer rows of a table to the online store: a state table's through its push source."""
    if table.kind is TableKind.STATE:
        store.push(push_source(table), rows, to=PushMode.ONLINE)
    else:
        store.write_to_online_store(table.name, rows)
