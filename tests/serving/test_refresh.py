"""Items in memory follow the store: loaded, loaded again when they change, flagged when old."""

import dataclasses
import time

import numpy as np
import orjson
import pandas as pd
import prometheus_client
import pytest
import stand_ins

from features import store
from features.rows import open_rows
from features.schema import CREATED, EVENT_TIMESTAMP
from serving.calls import from_rest
from serving.refresh import ItemRefresh
from serving.request import parse
from serving.settings import Store
from serving.snapshot import NumberIndex, TextIndex
from serving.transformer import Transformer

SCHEMA = stand_ins.SCHEMA
SETTINGS = Store(poll_seconds=0.02, stale_seconds=5)


class Counted:
    """A store whose loads are counted."""

    def __init__(self, rows):
        self.rows = rows
        self.loads = 0

    def read(self, role, ids, *, since=None):
        return self.rows.read(role, ids, since=since)

    def version(self, role):
        return self.rows.version(role)

    def read_all(self, role, *, most):
        self.loads += 1
        return self.rows.read_all(role, most=most)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKING_ONLINE", "sqlite")
    stand_ins.fill(tmp_path)
    return tmp_path


@pytest.fixture
def rows(folder):
    return Counted(open_rows(SCHEMA, folder, timeout_seconds=1))


def write(folder, table, **values):
    """One row of item or user, at noon."""
    described = SCHEMA.table(table)
    row = {c.name: stand_ins._SAMPLES[c.dtype] for c in described.columns}
    frame = pd.DataFrame([{**row, **values}])
    frame[EVENT_TIMESTAMP] = frame[CREATED] = pd.Timestamp(stand_ins.NOON)
    feast = store.open_store(SCHEMA, folder, folder / "lake")
    feast.write_to_online_store(table, frame)


def inputs_of(transformer, body):
    sent = from_rest(orjson.dumps(body), json_length=None)
    return transformer.transform(parse(SCHEMA, sent, now=stand_ins.NOON))


def test_a_request_gets_the_same_from_memory_as_from_the_store(rows, body):
    items = ["b", "a", "nobody", "d", "b", "e", "f"]
    given = body(item_id={"shape": [7], "data": items}, position=None)
    refresh = ItemRefresh(SCHEMA, rows, SETTINGS)
    refresh.look()
    memory = inputs_of(Transformer(SCHEMA, online=rows, items=refresh), given)
    direct = inputs_of(Transformer(SCHEMA, online=rows), given)
    np.testing.assert_array_equal(
        memory.inputs.dense.view(np.uint32), direct.inputs.dense.view(np.uint32)
    )
    for name, ids in direct.inputs.each.items():
        np.testing.assert_array_equal(memory.inputs.each[name].values, ids.values)
    for name, status in direct.statuses.items():
        assert memory.statuses[name].tolist() == status.tolist()
    assert {k: v.to_pylist() for k, v in memory.columns.items()} == {
        k: v.to_pylist() for k, v in direct.columns.items()
    }
    assert memory.flags == ()


def test_items_are_loaded_again_when_items_are_written_and_not_when_users_are(rows, folder):
    refresh = ItemRefresh(SCHEMA, rows, SETTINGS)
    for _ in range(3):
        refresh.look()
    assert rows.loads == 1
    write(folder, "user_state", user_id=7)
    refresh.look()
    assert rows.loads == 1
    before = refresh()
    write(folder, "item_attributes", item_id="new", item_weight=0.75)
    refresh.look()
    assert rows.loads == 2
    snapshot = refresh().snapshot
    (row,) = snapshot.rows(["new"])
    weights = snapshot.tables["item_attributes"].raw["item_weight"]
    assert weights[row].as_py() == 0.75
    # A request that has begun keeps what it began with.
    assert before.snapshot.rows(["new"]) == [before.snapshot.num_items]


def test_the_thread_sees_a_change_and_ends(rows, folder):
    refresh = ItemRefresh(SCHEMA, rows, SETTINGS)
    refresh.start()
    write(folder, "item_attributes", item_id="new", item_weight=0.75)
    deadline = time.monotonic() + 5
    while refresh().snapshot.num_items < 7:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    refresh.stop()
    assert not refresh._thread.is_alive()


def sample(name, **labels):
    return prometheus_client.REGISTRY.get_sample_value(name, labels)


def test_a_store_that_cannot_be_read_leaves_the_items_which_age_and_are_flagged(rows, folder, body):
    refresh = ItemRefresh(SCHEMA, rows, dataclasses.replace(SETTINGS, stale_seconds=1.0))
    refresh.look()
    transformer = Transformer(SCHEMA, online=rows, items=refresh)
    assert inputs_of(transformer, body()).flags == ()
    (folder / SCHEMA.name).rename(folder / "away")
    failed = sample("ranking_item_refreshes_total", outcome="failed")
    refresh.look()
    assert sample("ranking_items_failing") == 1
    assert sample("ranking_item_refreshes_total", outcome="failed") == failed + 1
    time.sleep(1.01)
    request = parse(SCHEMA, from_rest(orjson.dumps(body()), json_length=None), now=stand_ins.NOON)
    candidates = transformer.transform_without_store(request)
    assert candidates.flags == ("store_unavailable", "items_stale")
    assert candidates.is_degraded
    assert candidates.statuses["item_daily"].tolist() == [0, 0, 0]
    (folder / "away").rename(folder / SCHEMA.name)
    refresh.look()
    assert sample("ranking_items_failing") == 0
    assert inputs_of(transformer, body()).flags == ()


def test_items_that_are_all_gone_are_taken_for_a_store_that_is_being_filled(rows, folder):
    refresh = ItemRefresh(SCHEMA, rows, SETTINGS)
    refresh.look()
    (folder / SCHEMA.name).rename(folder / "away")
    store.apply(SCHEMA, folder, folder / "lake")
    refresh.look()
    assert refresh().snapshot.num_items == 6
    assert sample("ranking_items_failing") == 1
    write(folder, "item_attributes", item_id="first", item_weight=0.5)
    refresh.look()
    assert refresh().snapshot.num_items == 1
    assert sample("ranking_items_failing") == 0


def test_more_items_than_the_bound_are_read_for_each_request(rows, body):
    refresh = ItemRefresh(SCHEMA, rows, dataclasses.replace(SETTINGS, max_item_rows=5))
    refresh.look()
    assert refresh() is None
    candidates = inputs_of(Transformer(SCHEMA, online=rows, items=refresh), body())
    assert candidates.statuses["item_attributes"].tolist() == [0, 0, 0]


def test_a_store_that_comes_late_is_loaded_then(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKING_ONLINE", "sqlite")
    (tmp_path / SCHEMA.name).mkdir()
    (tmp_path / SCHEMA.name / "registry.db").touch()
    rows = open_rows(SCHEMA, tmp_path, timeout_seconds=1)
    refresh = ItemRefresh(SCHEMA, rows, SETTINGS)
    refresh.look()
    assert refresh() is None
    stand_ins.fill(tmp_path)
    refresh.look()
    assert refresh().snapshot.num_items == 6


@pytest.mark.parametrize(
    ("index", "wanted", "places"),
    [
        (NumberIndex([30, 10, 20]), np.array([10, 20, 5, 40, 30]), [1, 2, 9, 9, 0]),
        (NumberIndex([]), np.array([10]), [9]),
        (TextIndex(["b", "a"]), ["a", "c", "b"], [1, 9, 0]),
    ],
)
def test_an_index_finds_each_id_and_says_which_are_absent(index, wanted, places):
    assert index.rows(wanted, absent=9).tolist() == places
