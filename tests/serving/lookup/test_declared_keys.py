"""Rows of declared tables: read by the keys of a request, once each, or held with the items."""

import datetime

import numpy as np
import orjson
import pytest
from support.features.declared import aggregate, declared, named, with_tables
from support.serving import stand_ins

from features.encoding.encode import RowStatus
from features.schema import Role
from features.schema.keys import small_keys
from serving.lookup.item_cache import Items
from serving.lookup.snapshot import Snapshot
from serving.lookup.transformer import Transformer
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import parse

SHOWN = (aggregate("shown", "impressions", "count"),)
KEYS = {
    "category": ("item_category",),
    "pair": ("user_id", "item_category"),
    "device": ("device",),
    "segment": ("user_segment", "device"),
}
SCHEMA = with_tables(
    *(declared(f"{name}_daily", by, named(name, SHOWN)) for name, by in KEYS.items())
)
NOON = stand_ins.NOON
YESTERDAY = NOON - datetime.timedelta(days=1)
CATEGORIES = {1: "category-1", 2: "category-2", 3: "category-1"}


def store():
    """Two users of one segment, three items of two categories, and rows of some keys."""
    rows = {}

    def add(table, one, **values):
        rows[table, one] = stand_ins.row(SCHEMA.table(table), YESTERDAY, **values)

    for user in (7, 8):
        add("user_attributes", user, user_segment="segment-2")
    for item, category in CATEGORIES.items():
        add("item_attributes", item, item_category=category)
    for number, category in enumerate(sorted(set(CATEGORIES.values())), start=1):
        add("category_daily", category, category_shown_all=number)
    add("pair_daily", "7|category-1", pair_shown_all=71)
    add("pair_daily", "8|category-2", pair_shown_all=82)
    add("device_daily", "phone", device_shown_all=5)
    add("segment_daily", "segment-2|phone", segment_shown_all=25)
    return stand_ins.StandInStore(SCHEMA, rows)


def request(users, items, devices):
    sent = {"user_id": ("INT64", users), "item_id": ("INT64", items), "device": ("BYTES", devices)}
    body = {
        "inputs": [
            {"name": name, "shape": [len(values)], "datatype": kind, "data": values}
            for name, (kind, values) in sent.items()
        ]
    }
    call = from_rest(orjson.dumps(body), json_length=None)
    return parse(SCHEMA, call, now=NOON)


def shown(candidates) -> dict:
    return {name: candidates.columns[f"{name}_shown_all"].to_pylist() for name in KEYS}


MANY = ([7, 8, 8, 7], [1, 2, 3, 9], ["phone", "phone", "tablet", "toaster"])
EXPECTED = {
    "category": [1, 2, 1, None],
    "pair": [71, 82, None, None],
    "device": [5, 5, None, None],
    "segment": [25, 25, None, None],
}


def test_each_candidate_has_the_rows_of_its_own_keys():
    online = store()
    candidates = Transformer(SCHEMA, online=online).transform(request(*MANY))
    assert shown(candidates) == EXPECTED
    assert candidates.statuses["pair_daily"].tolist() == [0, 0, *[RowStatus.UNKNOWN] * 2]
    reads = dict(online.reads)
    assert reads["by_item_category"] == ["category-1", "category-2"]
    assert reads["by_user_id_and_item_category"] == [
        "7|category-1",
        "8|category-2",
        "8|category-1",
    ]
    assert reads["by_device"] == ["phone", "tablet"]


def test_requests_that_are_read_together_get_what_each_would_alone():
    one, other = request([7], [9, 1], ["toaster"]), request(*MANY)
    transformer = Transformer(SCHEMA, online=store())
    together = [
        transformer.put_together(*p)
        for p in zip((one, other), transformer.read((one, other)), strict=True)
    ]
    for sent, candidates in zip((one, other), together, strict=True):
        alone = Transformer(SCHEMA, online=store()).transform(sent)
        np.testing.assert_array_equal(candidates.inputs.dense, alone.inputs.dense)
        assert shown(candidates) == shown(alone)


@pytest.fixture
def items():
    online = store()

    def of(key, ids):
        return Snapshot.of(SCHEMA, ids, online.read(key, ids), of=key)

    held = of(Role.ITEM, list(CATEGORIES))
    by_key = {
        "by_item_category": of("by_item_category", ["category-2", "category-1"]),
        "by_device": of("by_device", ["phone"]),
        "by_user_segment_and_device": of("by_user_segment_and_device", ["segment-2|phone"]),
    }
    return Items(Snapshot(held.index, held.tables, held.num_items, by_key))


def test_keys_that_are_in_memory_are_not_read(items):
    online = store()
    transformer = Transformer(SCHEMA, online=online, items=lambda: items)
    sent = request(*MANY)
    candidates = transformer.transform(sent)
    assert shown(candidates) == EXPECTED
    assert [of for of, _ in online.reads] == ["user", "by_user_id_and_item_category"]
    assert transformer.num_reads(sent) == 2 + 4
    np.testing.assert_array_equal(
        candidates.inputs.dense,
        Transformer(SCHEMA, online=store()).transform(sent).inputs.dense,
    )


def test_without_the_store_there_is_what_needs_no_user(items):
    transformer = Transformer(SCHEMA, online=store(), items=lambda: items)
    candidates = transformer.put_together(request(*MANY), transformer.without_store())
    assert shown(candidates) == {**EXPECTED, "pair": [None] * 4, "segment": [None] * 4}
    assert candidates.is_degraded


def test_a_key_without_a_row_is_no_fault_and_an_old_one_is():
    sent = request([7], [1], ["phone"])
    rows = {(t.name, one): stand_ins.row(t, YESTERDAY) for t, one in whole_rows()}
    complete = Transformer(SCHEMA, online=stand_ins.StandInStore(SCHEMA, rows)).transform(sent)
    assert not complete.is_degraded
    assert complete.num_rows["pair_daily"][RowStatus.UNKNOWN] == 1
    table = SCHEMA.table("device_daily")
    rows["device_daily", "phone"] = stand_ins.row(table, NOON - datetime.timedelta(days=8))
    old = Transformer(SCHEMA, online=stand_ins.StandInStore(SCHEMA, rows)).transform(sent)
    assert old.is_degraded


def whole_rows():
    """A row of every table but the pair's, for user 7 and item 1."""
    for table in SCHEMA.tables:
        if table.name != "pair_daily":
            keys = {"user": 7, "item": 1, "by_device": "phone"}
            yield table, keys.get(table.of, "none")


def test_keys_of_neither_user_nor_item_are_those_that_are_held():
    assert small_keys(SCHEMA) == ["by_item_category", "by_device", "by_user_segment_and_device"]
