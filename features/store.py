"""Feast: what the schema projects into it, how rows reach the online store, how they are read.

Feast is imported here and in ``features/repo`` only.
"""

import datetime
import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, PushSource, ValueType
from feast.data_source import PushMode
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, FeastType, Float64, Int64, String

from features.schema import (
    CREATED,
    EVENT_TIMESTAMP,
    Dtype,
    FeatureTable,
    Role,
    Schema,
    TableKind,
)
from features.sqlite_rows import VERSIONS
from features.stored import ARROW_TYPES, PROJECT, redis_project
from features.stores import Redis, place_of

SERVICE = "ranking"
REPOSITORY = Path(__file__).parent / "repo"
_FIELD_TYPES: dict[Dtype, FeastType] = {
    Dtype.INT64: Int64,
    Dtype.FLOAT64: Float64,
    Dtype.STRING: String,
    Dtype.INT64_LIST: Array(Int64),
    Dtype.STRING_LIST: Array(String),
}
_ENTITY_TYPES = {Dtype.INT64: ValueType.INT64, Dtype.STRING: ValueType.STRING}
_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001  # Feast hands naive UTC to SQLite
_MICROSECOND = datetime.timedelta(microseconds=1)

# Feast's own adapters take a naive UTC time for local time and drop its microseconds.
sqlite3.register_adapter(datetime.datetime, lambda moment: (moment - _EPOCH) // _MICROSECOND)
sqlite3.register_converter("timestamp", lambda text: _EPOCH + int(text) * _MICROSECOND)


class NewestSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """Configuration of the store below, as ``feature_store.yaml`` names it."""

    type: Literal["features.store.NewestSqliteOnlineStore"] = (
        "features.store.NewestSqliteOnlineStore"
    )
    connection_string: str = ""
    """Not read: the one repository file names the settings of both stores."""


class NewestSqliteOnlineStore(SqliteOnlineStore):
    """Feast's SQLite store, except that an older row never replaces a newer one.

    Feast's overwrites whatever the time, so that re-running an old day would undo newer features.
    The rule is a trigger in the database: it holds for every writer and against races.
    """

    def update(self, config: Any, *args: Any, **kwargs: Any) -> None:
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
        connection.commit()

    def online_write_batch(self, config: Any, table: Any, *args: Any, **kwargs: Any) -> None:
        """Write as Feast does, and count: a copy of the table in memory is old from now on."""
        super().online_write_batch(config, table, *args, **kwargs)
        with self._get_conn(config) as connection:
            connection.execute(
                f"INSERT INTO {VERSIONS} VALUES (?, 1) "
                "ON CONFLICT (name) DO UPDATE SET version = version + 1",
                (table.name,),
            )


def feast_objects(schema: Schema, lake: Path) -> list[Entity | FeatureView | FeatureService]:
    """Entities, feature views and the feature service of a data set, over its lake tables."""
    entities = {
        role: Entity(
            name=column.name,
            join_keys=[column.name],
            value_type=_ENTITY_TYPES[column.dtype],
            description=column.doc,
        )
        for role, column in schema.entities()
    }
    views = [_view(table, entities[table.role], lake / schema.name) for table in schema.tables]
    service = FeatureService(name=SERVICE, features=views, description=schema.doc)
    return [*entities.values(), *views, service]


def _view(table: FeatureTable, entity: Entity, lake: Path) -> FeatureView:
    batch = SparkSource(
        name=f"{table.name}_lake",
        path=str(lake / table.name),
        file_format="parquet",
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


def open_store(schema: Schema, store_dir: Path, lake: Path) -> FeatureStore:
    """Feast's store of a data set, as its repository file declares it."""
    folder = store_dir / schema.name
    folder.mkdir(parents=True, exist_ok=True)
    # feature_store.yaml and definitions.py read these; `feast apply` by hand needs the same.
    os.environ["RANKING_DATASET"] = schema.name
    os.environ["RANKING_STORE"] = str(folder.resolve())
    os.environ["RANKING_LAKE"] = str(lake.resolve())
    os.environ.update(_online_variables(schema, place_of(os.environ)))
    os.environ.setdefault("FEAST_USAGE", "False")
    return FeatureStore(repo_path=str(REPOSITORY))


def _online_variables(schema: Schema, redis: Redis | None) -> dict[str, str]:
    """What feature_store.yaml says of the online store: the file beside the registry, or Redis."""
    if redis is None:
        return {
            "RANKING_PROJECT": PROJECT,
            "RANKING_ONLINE_TYPE": "features.store.NewestSqliteOnlineStore",
            "RANKING_ONLINE_ADDRESS": "",
        }
    return {
        "RANKING_PROJECT": redis_project(schema),
        "RANKING_ONLINE_TYPE": "features.redis_store.NewestRedisOnlineStore",
        "RANKING_ONLINE_ADDRESS": redis.connection_string,
    }


def apply(schema: Schema, store_dir: Path, lake: Path) -> int:
    """Register the schema's entities, views and service; returns how many objects there are."""
    objects = feast_objects(schema, lake.resolve())
    open_store(schema, store_dir, lake).apply(objects)
    return len(objects)


def materialize(
    store: FeatureStore, table: FeatureTable, start: datetime.datetime, end: datetime.datetime
) -> None:
    """Bring the newest row of each entity with an event in [start, end] online.

    The window is explicit: ``materialize_incremental`` keeps its watermark in the registry, and
    ``feast apply`` has reset it (https://github.com/feast-dev/feast/issues/2905).
    """
    store.materialize(start, end, feature_views=[table.name])


def push(store: FeatureStore, table: FeatureTable, rows: pd.DataFrame) -> None:
    """Write state rows online through their push source."""
    store.push(push_source(table), rows, to=PushMode.ONLINE)


class OnlineFeatures:
    """Reads the online store as Arrow columns; may be used from several threads."""

    def __init__(self, schema: Schema, store: FeatureStore) -> None:
        """Wrap an opened store."""
        self._schema = schema
        self._store = store
        # Feast's SQLite store has one connection, which must not be used by two threads at once.
        self._lock = threading.Lock()

    @classmethod
    def open(cls, schema: Schema, store_dir: Path) -> "OnlineFeatures":
        """Open the store of a data set for reading; ValueError when nothing was applied there."""
        registry = store_dir / schema.name / "registry.db"
        if not registry.exists():
            raise ValueError(f"store {registry}: does not exist; run `python -m features apply`")
        return cls(schema, open_store(schema, store_dir, store_dir.parent / "lake"))

    def read(self, role: Role, ids: Sequence[int | str]) -> dict[str, pa.Array]:
        """Stored columns of every table of a role, for each id in the order given.

        Returns:
            For each table its columns and its event timestamp (``<table>__event_timestamp``), null
            where the store has no row. Time-to-live is for the caller to apply.
        """
        tables = [table for table in self._schema.tables if table.role is role]
        refs = [f"{table.name}:{column.name}" for table in tables for column in table.columns]
        key = self._schema.entity(role).name
        with self._lock:
            response = self._store.get_online_features(refs, {key: list(ids)}).proto
        names = list(response.metadata.feature_names.val)
        vectors = dict(zip(names, response.results, strict=True))
        columns: dict[str, pa.Array] = {}
        for table in tables:
            for column in table.columns:
                values = [_plain(value) for value in vectors[column.name].values]
                columns[column.name] = pa.array(values, ARROW_TYPES[column.dtype])
            moments = [
                stamp.seconds * 1_000_000 + stamp.nanos // 1_000 or None
                for stamp in vectors[table.columns[0].name].event_timestamps
            ]
            columns[table.timestamp_column] = pa.array(moments, pa.timestamp("us", tz="UTC"))
        return columns


def _plain(value: Value) -> object:
    kind = value.WhichOneof("val")
    if kind is None or kind == "null_val":
        return None
    content = getattr(value, kind)
    return list(content.val) if kind.endswith("list_val") else content
