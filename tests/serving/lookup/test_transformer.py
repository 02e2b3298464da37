"""Reading features: once for each id, time-to-live at the request time, candidates in order."""

import dataclasses
import datetime

import numpy as np
import orjson
import pyarrow as pa
import pytest
from support.serving import stand_ins

from features.datasets.catalog import names, schema_of
from features.encoding.encode import RowStatus, encode
from features.schema import REQUEST_TIME, Role
from serving.inference.ranking import worst_status
from serving.lookup.transformer import Transformer
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import input_types, output_types, parse

MICROSECOND = datetime.timedelta(microseconds=1)


def request_for(body, schema=stand_ins.SCHEMA):
    return parse(schema, from_rest(orjson.dumps(body), json_length=None), now=stand_ins.NOON)


@pytest.fixture
def store():
    return stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())


def test_the_store_is_read_once_for_the_user_and_once_for_the_distinct_items(store, body):
    items = ["b", "a", "b", "x", "a"]
    request = request_for(body(item_id={"shape": [5], "data": items}, position=None))
    Transformer(stand_ins.SCHEMA, online=store).transform(request)
    assert store.reads == [(Role.USER, [7]), (Role.ITEM, ["b", "a", "x"])]


def test_a_repeated_item_has_the_same_inputs_at_every_place(store, body):
    items = ["b", "a", "b"]
    request = request_for(body(item_id={"data": items}, position=None))
    inputs = stand_ins.tiled(Transformer(stand_ins.SCHEMA, online=store).transform(request).inputs)
    np.testing.assert_array_equal(inputs.dense[0], inputs.dense[2])
    assert not np.array_equal(inputs.dense[0], inputs.dense[1], equal_nan=True)


@pytest.mark.parametrize(("table", "role"), [("user_state", Role.USER), ("item_daily", Role.ITEM)])
@pytest.mark.parametrize(
    ("beyond", "status"),
    [
        (datetime.timedelta(0), RowStatus.USABLE),
        (MICROSECOND, RowStatus.EXPIRED),
    ],
)
def test_a_row_expires_one_microsecond_after_its_time_to_live(body, table, role, beyond, status):
    described = stand_ins.SCHEMA.table(table)
    entity = 7 if role is Role.USER else "a"
    rows = {(table, entity): stand_ins.row(described, stand_ins.NOON - described.ttl - beyond)}
    store = stand_ins.StandInStore(stand_ins.SCHEMA, rows)
    candidates = Transformer(stand_ins.SCHEMA, online=store).transform(request_for(body()))
    assert candidates.statuses[table][0] == status
    place = stand_ins.SCHEMA.dense_inputs().index(described.missing_indicator)
    assert candidates.inputs.dense[0, place] == (status != RowStatus.USABLE)


def test_a_row_of_the_next_microsecond_is_not_seen(body):
    table = stand_ins.SCHEMA.table("user_state")
    rows = {("user_state", 7): stand_ins.row(table, stand_ins.NOON + MICROSECOND)}
    store = stand_ins.StandInStore(stand_ins.SCHEMA, rows)
    candidates = Transformer(stand_ins.SCHEMA, online=store).transform(request_for(body()))
    assert candidates.statuses["user_state"].tolist() == [RowStatus.FUTURE]
    inputs = stand_ins.tiled(candidates.inputs)
    assert inputs.ids["user_positive_items"].lengths.tolist() == [0, 0, 0]


def test_an_unusable_row_encodes_like_an_absent_one(body):
    table = stand_ins.SCHEMA.table("item_daily")
    old = {("item_daily", "a"): stand_ins.row(table, stand_ins.NOON - datetime.timedelta(days=99))}
    dense = [
        Transformer(stand_ins.SCHEMA, online=stand_ins.StandInStore(stand_ins.SCHEMA, rows))
        .transform(request_for(body()))
        .inputs.dense
        for rows in (old, {})
    ]
    np.testing.assert_array_equal(dense[0], dense[1])


def test_the_worst_table_names_the_status_of_an_entity():
    usable, unknown, expired, future = RowStatus
    statuses = {
        "item_daily": np.array([usable, expired, future, expired], dtype=np.int8),
        "item_attributes": np.array([usable, usable, usable, unknown], dtype=np.int8),
    }
    worst = worst_status(stand_ins.SCHEMA, Role.ITEM, statuses, size=4)
    assert worst.tolist() == [usable, expired, future, unknown]


def test_an_entity_without_a_table_lacks_none():
    schema = dataclasses.replace(stand_ins.SCHEMA, tables=stand_ins.SCHEMA.tables[:1])
    assert worst_status(schema, Role.ITEM, {}, size=2).tolist() == [RowStatus.USABLE] * 2


def test_ids_and_context_outside_the_limits_are_null():
    body = {
        "inputs": [
            {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [100]},
            {"name": "item_id", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
            {"name": "position", "shape": [2], "datatype": "INT64", "data": [0, 3]},
            {"name": "device", "shape": [1], "datatype": "BYTES", "data": ["toaster"]},
        ]
    }
    request = request_for(body)
    assert request.columns["user_id"].to_pylist() == [None, None]
    assert request.columns["position"].to_pylist() == [None, 3]
    assert request.missing_context == ("position", "price", "device")


# Keys of declared tables have tests of their own (test_declared_keys.py).
@pytest.mark.parametrize("name", [n for n in names() if not any(t.by for t in schema_of(n).tables)])
def test_every_data_set_has_a_wire_contract_that_its_own_request_meets(name):
    """One row by the server's path equals the same raw columns encoded directly."""
    schema = schema_of(name)
    values = {
        described["name"]: [1] if described["datatype"] == "INT64" else ["1"]
        for described in input_types(schema)
    }
    values[REQUEST_TIME.name] = [int(stand_ins.NOON.timestamp() * 1_000_000)]
    body = {
        "inputs": [
            {**described, "shape": [1], "data": values[described["name"]]}
            for described in input_types(schema)
        ]
    }
    moment = stand_ins.NOON - datetime.timedelta(days=1)
    rows = {
        (table.name, values[schema.entity(table.role).name][0]): stand_ins.row(table, moment)
        for table in schema.tables
    }
    store = stand_ins.StandInStore(schema, rows)
    request = request_for(body, schema)
    candidates = Transformer(schema, online=store).transform(request)
    columns = dict(request.columns)
    for role, column in schema.entities():
        columns |= store.read(role, values[column.name])
    expected = encode(schema, columns)
    inputs = candidates.inputs.tiled([column.name for column in schema.sparse_inputs()])
    np.testing.assert_array_equal(inputs.dense, expected.dense)
    assert list(inputs.ids) == list(expected.ids)
    for column, ids in expected.ids.items():
        np.testing.assert_array_equal(inputs.ids[column].values, ids.values)
    assert not any(status.any() for status in candidates.statuses.values())


def test_a_schema_without_a_user_has_no_user_on_the_wire():
    schema = schema_of("open-bandit")
    assert [described["name"] for described in input_types(schema)] == [
        "item_id",
        "position",
        "user_feature_0",
        "user_feature_1",
        "user_feature_2",
        "user_feature_3",
        "timestamp",
    ]
    assert [described["name"] for described in output_types(schema)] == ["score", "item_status"]


def test_a_schema_with_a_list_in_its_context_is_refused():
    tags = schema_of("movielens-100k").table("item_attributes").columns[2]
    schema = dataclasses.replace(
        stand_ins.SCHEMA, context=(dataclasses.replace(tags, name="tags"),)
    )
    with pytest.raises(ValueError, match=r"column tags: type list<string>; a request has no lists"):
        input_types(schema)


def test_one_context_value_is_repeated_for_every_candidate(body):
    request = request_for(body())
    assert request.columns["price"].to_pylist() == [9.5, 9.5, 9.5]
    assert request.columns["timestamp"].type == pa.timestamp("us", tz="UTC")
