"""Rows read past Feast are those that Feast reads, from SQLite and from Redis."""

import contextlib
import datetime
import os
import sqlite3

import numpy as np
import pandas as pd
import pytest
from support.datasets import text_ids
from support.feast_reads import feast_columns
from support.redis_server import running_redis

from features.datasets.catalog import names, schema_of
from features.online_store import feast_store
from features.online_store.codec import TooManyRowsError, entity_keys
from features.online_store.reader import open_rows
from features.online_store.sqlite_reader import CHANGES, VERSIONS
from features.schema import CREATED, EVENT_TIMESTAMP, Dtype, Role

NOON = datetime.datetime(2025, 6, 15, 12, 0, 0, 123_457, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)


@pytest.fixture(scope="module")
def redis():
    with running_redis() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.process)])
def online(request, monkeypatch):
    """Either store, as RANKING_ONLINE names it."""
    url = "sqlite"
    if request.param == "redis":
        url = request.getfixturevalue("redis").url
    monkeypatch.setenv("RANKING_ONLINE", url)
    return request.param


def random_frame(schema, table, ids, rng):
    """A row of random values for each id, some null, lists empty or long."""
    entity = schema.entity(table.role)
    frame = {entity.name: ids}
    for column in table.columns:
        frame[column.name] = [_value(column.dtype, rng) for _ in ids]
    moments = [NOON - int(n) * MICROSECOND for n in rng.integers(0, 10**12, len(ids))]
    return pd.DataFrame({**frame, EVENT_TIMESTAMP: moments, CREATED: moments})


def _value(dtype, rng):
    if dtype.is_list:
        size = int(rng.integers(0, 5))
        numbers = rng.integers(0, 2**40, size).tolist()
        return [str(n) for n in numbers] if dtype is Dtype.STRING_LIST else numbers
    if rng.random() < 0.2:
        return None
    if dtype is Dtype.STRING:
        return f"wört-{rng.integers(9)}" * int(rng.integers(1, 30))
    return float(rng.normal()) if dtype is Dtype.FLOAT64 else int(rng.integers(-5, 2**50))


TEXT_IDS = "text-ids"


@pytest.mark.parametrize("name", [*names(), TEXT_IDS])
def test_rows_equal_what_feast_reads(name, online, tmp_path):
    schema = text_ids.data_set(tmp_path).schema if name == TEXT_IDS else schema_of(name)
    rng = np.random.default_rng(3)
    feast_store.apply(schema, tmp_path, tmp_path / "lake")
    feast = feast_store.open_store(schema, tmp_path)
    direct = open_rows(schema, tmp_path, timeout_seconds=5)
    for role, entity in schema.entities():
        is_text = entity.dtype is Dtype.STRING
        ids = [f"i-{n}" if is_text else n for n in range(1, 31)]
        before = direct.version(role)
        for table in schema.tables:
            if table.role is role:
                # Not every entity is in every table.
                some = ids[: 20 + 5 * (len(table.name) % 3)]
                feast.write_to_online_store(table.name, random_frame(schema, table, some, rng))
        assert direct.version(role) != before
        wanted = [*ids[::-2], ids[3], "unknown" if is_text else 10**12]
        expected, found = feast_columns(feast, schema, role, wanted), direct.read(role, wanted)
        for column in expected:
            assert found[column].to_pylist() == expected[column].to_pylist(), column
            assert found[column].type == expected[column].type
        everyone, rows = direct.read_all(role, most=1_000)
        assert len(everyone) == len(set(everyone))
        expected = feast_columns(feast, schema, role, everyone)
        assert {name: rows[name].to_pylist() for name in expected} == {
            name: values.to_pylist() for name, values in expected.items()
        }
        with pytest.raises(TooManyRowsError, match="more than 3"):
            direct.read_all(role, most=3)


def test_a_store_lists_which_entities_were_written_since_a_version(online, tmp_path):
    schema, rng = schema_of("synthetic"), np.random.default_rng(5)
    feast_store.apply(schema, tmp_path, tmp_path / "lake")
    feast = feast_store.open_store(schema, tmp_path)
    reader = open_rows(schema, tmp_path, timeout_seconds=5)
    daily, attributes = (table for table in schema.tables if table.role is Role.ITEM)
    state = schema.table("user_state")

    def write(table, ids):
        feast.write_to_online_store(table.name, random_frame(schema, table, ids, rng))

    write(daily, [1, 2, 3])
    before = reader.version(Role.ITEM)
    assert reader.changed(Role.ITEM, before) == []
    write(daily, [2, 9])
    write(attributes, [2, 5])
    write(state, [7, 8])
    between = reader.version(Role.ITEM)
    write(attributes, [5])
    assert sorted(reader.changed(Role.ITEM, before)) == [2, 5, 9]
    assert reader.changed(Role.ITEM, between) == [5]
    assert reader.changed(Role.ITEM, reader.version(Role.ITEM)) == []
    assert reader.changed(Role.ITEM, object()) is None, "no version of this store"


def test_a_store_that_had_no_versions_yet_does_not_know_what_has_changed(tmp_path):
    """And says so, or a server that began with it would fail to read items for ever."""
    schema, rng = schema_of("synthetic"), np.random.default_rng(5)
    feast_store.apply(schema, tmp_path, tmp_path / "lake")
    path = tmp_path / schema.name / "online.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for table in (VERSIONS, CHANGES):
            connection.execute(f"DROP TABLE {table}")
        connection.commit()
    reader = open_rows(schema, tmp_path, timeout_seconds=5)
    before = reader.version(Role.ITEM)
    assert reader.changed(Role.ITEM, before) is None
    feast_store.apply(schema, tmp_path, tmp_path / "lake")
    table = next(table for table in schema.tables if table.role is Role.ITEM)
    feast = feast_store.open_store(schema, tmp_path)
    feast.write_to_online_store(table.name, random_frame(schema, table, [1, 2], rng))
    assert reader.version(Role.ITEM) != before
    assert reader.changed(Role.ITEM, before) is None


def state_row(schema, moment, created, impressions):
    table = schema.table("user_state")
    values = {column.name: 0 for column in table.columns}
    values |= {"user_history_item_ids": [1, 2], "user_history_labels": [0, 1]}
    values |= {"user_impressions_all": impressions, "user_id": 5}
    row = {**values, EVENT_TIMESTAMP: moment, CREATED: created}
    return pd.DataFrame([row])


def test_an_older_row_never_replaces_a_newer_one_in_either_store(online, tmp_path):
    """By event time to the microsecond, then by when it became available; equals are replaced."""
    schema = schema_of("synthetic")
    feast_store.apply(schema, tmp_path, tmp_path / "lake")
    feast = feast_store.open_store(schema, tmp_path)
    reader = open_rows(schema, tmp_path, timeout_seconds=5)
    later = NOON + datetime.timedelta(hours=1)
    for moment, created, impressions, expected in (
        (NOON, NOON, 1, 1),
        (NOON - MICROSECOND, later, 2, 1),
        (NOON, NOON - MICROSECOND, 3, 1),
        (NOON, NOON, 4, 4),
        (NOON, later, 5, 5),
        (NOON, NOON, 6, 5),
        (NOON + MICROSECOND, NOON, 7, 7),
        (NOON, later, 8, 7),
    ):
        rows = state_row(schema, moment, created, impressions)
        feast_store.write(feast, schema.table("user_state"), rows)
        found = reader.read(Role.USER, [5])
        # After the newest row come those that are used until it becomes visible.
        assert found["user_impressions_all"].to_pylist()[0] == expected
    assert found["user_state__event_timestamp"].to_pylist()[0] == NOON + MICROSECOND


def test_a_column_that_was_renamed_is_not_mistaken_for_another(tmp_path, monkeypatch):
    """A store may hold rows that were written before a schema changed."""
    monkeypatch.setenv("RANKING_ONLINE", "sqlite")
    schema = schema_of("synthetic")
    feast_store.apply(schema, tmp_path, tmp_path / "lake")
    feast = feast_store.open_store(schema, tmp_path)
    table = schema.table("item_attributes")
    frame = random_frame(schema, table, [1, 2], np.random.default_rng(0))
    frame["item_category"] = ["category-1", "category-2"]
    frame["item_price"] = [0.25, 0.5]
    feast.write_to_online_store(table.name, frame)
    with sqlite3.connect(tmp_path / "synthetic" / "online.db") as connection:
        (key,) = entity_keys("item_id", Dtype.INT64, [1])
        connection.execute(
            "UPDATE ranking_item_attributes SET feature_name = 'old_price' "
            "WHERE entity_key = ? AND feature_name = 'item_price'",
            (key,),
        )
    found = open_rows(schema, tmp_path, timeout_seconds=5).read(Role.ITEM, [2, 1])
    assert found["item_category"].to_pylist() == ["category-2", "category-1"]
    assert found["item_price"].to_pylist() == [0.5, None]


def test_a_store_that_was_recreated_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKING_ONLINE", "sqlite")
    schema = schema_of("synthetic")
    table = schema.table("item_attributes")
    feast_store.apply(schema, tmp_path, tmp_path / "lake")
    reader = open_rows(schema, tmp_path, timeout_seconds=5)
    before = reader.version(Role.ITEM)
    assert reader.read(Role.ITEM, [1])["item_price"].to_pylist() == [None]
    (tmp_path / "synthetic").rename(tmp_path / "gone")
    feast_store.apply(schema, tmp_path, tmp_path / "lake")
    feast = feast_store.open_store(schema, tmp_path)
    frame = random_frame(schema, table, [1], np.random.default_rng(0))
    frame["item_price"] = [0.5]
    feast.write_to_online_store(table.name, frame)
    assert reader.version(Role.ITEM) != before
    assert reader.read(Role.ITEM, [1])["item_price"].to_pylist() == [0.5]


def test_stores_of_two_data_sets_are_separate_in_one_redis(redis, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKING_ONLINE", redis.url)
    first, second = schema_of("synthetic"), schema_of("movielens-100k")
    for schema in (first, second):
        feast_store.apply(schema, tmp_path, tmp_path / "lake")
    feast = feast_store.open_store(first, tmp_path)
    frame = random_frame(first, first.table("item_attributes"), [77], np.random.default_rng(0))
    feast.write_to_online_store("item_attributes", frame)
    other = open_rows(second, tmp_path, timeout_seconds=5)
    found = other.read(Role.ITEM, [77])
    assert found["item_attributes__event_timestamp"].to_pylist() == [None]


def test_a_store_leaves_the_environment_as_it_was(online, tmp_path):
    before = dict(os.environ)
    feast_store.apply(schema_of("synthetic"), tmp_path, tmp_path / "lake")
    assert dict(os.environ) == before
