"""Feast's registry is written and read again wherever it lies."""

import datetime

import pandas as pd
import pytest
from support.redis_server import running_redis

from features.datasets.catalog import schema_of
from features.online_store import feast_store
from features.online_store.reader import open_rows
from features.places import is_local, place
from features.schema import CREATED, EVENT_TIMESTAMP, Role

NOON = datetime.datetime(2025, 6, 15, 12, tzinfo=datetime.UTC)


@pytest.mark.process
def test_what_was_applied_is_loaded_again_and_rows_come_back(anywhere, monkeypatch):
    schema, store = schema_of("synthetic"), anywhere / "feast"
    with running_redis() as redis:
        monkeypatch.setenv("RANKING_ONLINE", "sqlite" if is_local(anywhere) else redis.url)
        lake = place("s3://bucket/lake")
        count = feast_store.apply(schema, store, lake)
        assert (store / schema.name / "registry.db").exists()
        feast = feast_store.open_store(schema, store)
        views = {view.name: view for view in feast.list_feature_views()}
        assert count == len(views) + len(feast.list_entities()) + 1
        assert set(views) == {table.name for table in schema.tables}
        path = "s3://bucket/lake/synthetic/item_attributes"
        assert views["item_attributes"].batch_source.path == path
        row = {"item_id": [3], "item_category": ["c"], "item_price": [1.5]}
        frame = pd.DataFrame({**row, EVENT_TIMESTAMP: [NOON], CREATED: [NOON]})
        feast_store.write(feast, schema.table("item_attributes"), frame)
        found = open_rows(schema, store, timeout_seconds=5).read(Role.ITEM, [3])
        assert found["item_price"].to_pylist() == [1.5]


@pytest.mark.process
def test_one_database_holds_the_registries_of_all_data_sets(tmp_path, monkeypatch):
    database = tmp_path / "registry.sqlite"
    monkeypatch.setenv("RANKING_REGISTRY", f"sqlite:///{database}")
    schemas = [schema_of(name) for name in ("synthetic", "movielens-100k")]
    with running_redis() as redis:
        monkeypatch.setenv("RANKING_ONLINE", redis.url)
        for schema in schemas:
            feast_store.apply(schema, place(str(tmp_path / "feast")), place("s3://bucket/lake"))
        views = [
            {
                view.name
                for view in feast_store.open_store(
                    schema, place(str(tmp_path / "feast"))
                ).list_feature_views()
            }
            for schema in schemas
        ]
    assert views == [{table.name for table in schema.tables} for schema in schemas]
    assert database.exists()
    assert not list(tmp_path.glob("feast/*/registry.db"))
