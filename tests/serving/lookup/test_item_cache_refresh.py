"""Items in memory follow the store: loaded, loaded again when they change, flagged when old."""

import gc
import time
import weakref

import numpy as np
import orjson
import pandas as pd
import prometheus_client
import pytest
from support.serving import stand_ins

from features.online_store import feast_store
from features.online_store.reader import open_rows
from features.schema import CREATED, EVENT_TIMESTAMP, Role
from serving.lookup import item_cache
from serving.lookup.item_cache import ItemRefresh, Items
from serving.lookup.snapshot import NumberIndex, Snapshot, TextIndex
from serving.lookup.transformer import Transformer
from serving.observability import metrics
from serving.observability.answered import Answered
from serving.observability.prediction_log import RequestLog
from serving.observability.sampling import Inclusion
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import parse
from serving.routing.serving_versions import Champion, WeightedModel
from serving.routing.shadow import Shadow
from serving.routing.traffic_split import Share
from serving.settings import Logging, Store

SCHEMA = stand_ins.SCHEMA
SETTINGS = Store(poll_seconds=0.02, stale_seconds=5)


class Counted:
    """A store whose loads are counted."""

    def __init__(self, rows):
        self.rows = rows
        self.loads = 0

    def read(self, role, ids, *, since=None):
        self.read_ids = list(ids)
        return self.rows.read(role, ids, since=since)

    def version(self, role):
        return self.rows.version(role)

    def read_all(self, role, *, most):
        self.loads += 1
        return self.rows.read_all(role, most=most)

    def changed(self, role, since):
        return self.rows.changed(role, since)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKING_ONLINE", "sqlite")
    metrics.begin(SCHEMA.name)  # as a ranker does
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
    feast = feast_store.open_store(SCHEMA, folder)
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


def test_items_that_are_written_are_loaded_and_no_others_and_none_for_users(rows, folder):
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
    assert rows.loads == 1, "only what was written is read"
    assert sorted(rows.read_ids) == ["new"]
    snapshot = refresh().snapshot
    assert snapshot.num_items == 7
    (row,) = snapshot.rows(["new"])
    weights = snapshot.tables["item_attributes"].raw["item_weight"]
    assert weights[row].as_py() == 0.75
    # A request that has begun keeps what it began with.
    assert before.snapshot.rows(["new"]) == [-1]


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
    return prometheus_client.REGISTRY.get_sample_value(name, {"model": SCHEMA.name, **labels})


def test_a_store_that_cannot_be_read_leaves_the_items_which_age_and_are_flagged(rows, folder, body):
    refresh = ItemRefresh(SCHEMA, rows, SETTINGS.model_copy(update={"stale_seconds": 1.0}))
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
    candidates = transformer.put_together(request, transformer.without_store())
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
    feast_store.apply(SCHEMA, folder, folder / "lake")
    refresh.look()
    assert refresh().snapshot.num_items == 6
    assert sample("ranking_items_failing") == 1
    write(folder, "item_attributes", item_id="first", item_weight=0.5)
    refresh.look()
    assert refresh().snapshot.num_items == 1
    assert sample("ranking_items_failing") == 0


def test_more_items_than_the_bound_are_read_for_each_request(rows, body):
    refresh = ItemRefresh(SCHEMA, rows, SETTINGS.model_copy(update={"max_item_rows": 5}))
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


class Written:
    """A store that is written all the time, and takes a second of a made-up clock to load."""

    def __init__(self, clock):
        self.clock = clock
        self.loaded_at = []

    def version(self, role):
        self.clock.now += 0.01
        return self.clock.now

    def changed(self, role, since):
        return None  # it cannot tell

    def read_all(self, role, *, most):
        self.loaded_at.append(self.clock.now)
        self.clock.now += 1.0
        rows = stand_ins.StandInStore(SCHEMA, stand_ins.sample_rows())
        return list("abcdef"), rows.read(role, list("abcdef"))


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


def test_items_that_are_written_all_the_time_are_not_loaded_all_the_time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(item_cache, "time", clock)
    written = Written(clock)
    refresh = ItemRefresh(SCHEMA, written, SETTINGS)

    class Stopped:
        def wait(self, seconds):
            clock.now += 0.5
            return clock.now > 200

        def set(self):
            """It ends by itself."""

    refresh._stopped = Stopped()
    refresh.look()
    refresh._poll()
    assert 15 <= len(written.loaded_at) <= 21, "a second of each five"


def test_memory_is_flat_under_a_stream_of_item_pushes(body):
    """What waits to be logged and to be mirrored keeps its own rows, and no table of all items."""
    made = []
    log = RequestLog(SCHEMA, Logging(share=1.0))
    shadow = Shadow(log)
    challenger = Champion("challenger", stand_ins.score)
    weighted = WeightedModel(model=challenger, share=Share(version="challenger", percent=100))
    rows = stand_ins.StandInStore(SCHEMA, stand_ins.sample_rows())
    request = parse(SCHEMA, from_rest(orjson.dumps(body()), json_length=None), now=stand_ins.NOON)
    expected = None
    for _ in range(12):  # as many item pushes, each with a request
        snapshot = Snapshot.of(SCHEMA, list("abcdef"), rows.read(Role.ITEM, list("abcdef")))
        made += map(weakref.ref, [snapshot, *snapshot.tables.values()])
        items = Items(snapshot)
        candidates = Transformer(SCHEMA, online=rows, items=lambda now=items: now).transform(
            request
        )
        expected = expected or {name: c.to_pylist() for name, c in candidates.columns.items()}
        answered = Answered(
            answer_id="one",
            request_id="one",
            answered_at=stand_ins.NOON,
            model_version="v",
            scores=stand_ins.score(candidates.inputs),
            candidates=candidates,
            inclusion=Inclusion("sampled", 1.0),
        )
        assert shadow.offer(weighted, answered)
        log.offer(answered)
    del snapshot, items, candidates, answered
    gc.collect()
    assert (len(log._waiting), len(shadow._waiting)) == (12, 12)
    assert len(made) == 36
    assert not [one for one in made if one() is not None], "tables that have been replaced"
    for kept in (log._waiting[0], shadow._waiting[0][1]):
        columns = {name: values.to_pylist() for name, values in kept.candidates.columns.items()}
        assert columns == expected
        assert sum(values.nbytes for values in kept.candidates.columns.values()) < 4_000
