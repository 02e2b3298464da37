"""A request put together from encoded tables equals ``encode`` of its raw rows, to the bit."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from features.assembly import EncodedTable, RequestColumns, assemble
from features.catalog import SCHEMAS
from features.encoding import RowStatus, encode
from features.schema import REQUEST_TIME, Dtype, Kind, Role

NOW = datetime.datetime(2025, 6, 15, 12, 34, 56, 789, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)
ARROW = {
    Dtype.INT64: pa.int64(),
    Dtype.FLOAT64: pa.float64(),
    Dtype.STRING: pa.string(),
    Dtype.INT64_LIST: pa.list_(pa.int64()),
    Dtype.STRING_LIST: pa.list_(pa.string()),
}
STAMP = pa.timestamp("us", tz="UTC")
ROWS, USERS, CANDIDATES = 40, 3, 60


def micros(moment):
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // MICROSECOND


def value(column, rng):
    """One raw value or none, in or out of what the model knows."""
    if column.dtype.is_list:
        if rng.random() < 0.2:
            return None
        element = Dtype.STRING if column.dtype is Dtype.STRING_LIST else Dtype.INT64
        return [scalar(column, element, rng) for _ in range(rng.integers(0, 6))]
    return None if rng.random() < 0.2 else scalar(column, column.dtype, rng)


def scalar(column, dtype, rng):
    if column.kind is Kind.AGE:
        return int(micros(NOW) + rng.integers(-(10**13), 10**12))
    if dtype is Dtype.STRING:
        words = (*column.vocabulary, "elsewhere", "x-1")
        return str(words[rng.integers(len(words))])
    if dtype is Dtype.FLOAT64:
        return float(rng.normal())
    return int(rng.integers(0, 2 if "label" in column.name else 2_000))


def stored_rows(table, rng):
    """Rows of every status, and on either side of the time-to-live by one microsecond."""
    ttl = table.ttl or datetime.timedelta(days=9)
    ages = [None, -MICROSECOND, 0 * MICROSECOND, ttl, ttl + MICROSECOND]
    ages += [int(age) * MICROSECOND for age in rng.integers(-(10**12), 3 * 10**12, ROWS - 5)]
    moments = [None if age is None else NOW - age for age in ages]
    rows = []
    for moment in moments:
        row = {
            column.name: None if moment is None else value(column, rng) for column in table.columns
        }
        history = row.get("user_history_item_ids")
        if "user_history_item_ids" in row:
            size = None if history is None else len(history)
            row["user_history_labels"] = (
                None if size is None else [int(n) for n in rng.integers(0, 2, size)]
            )
        rows.append({**row, table.timestamp_column: moment})
    return rows


def arrow(table, rows):
    types = {column.name: ARROW[column.dtype] for column in table.columns}
    types[table.timestamp_column] = STAMP
    return {name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()}


def encoded_table(schema, table, rows):
    nothing = EncodedTable.nothing(schema, table)
    return EncodedTable.of(schema, table, arrow(table, rows), nothing=nothing)


def is_usable(table, row):
    stamp = row[table.timestamp_column]
    return stamp is not None and stamp <= NOW and (table.ttl is None or stamp + table.ttl >= NOW)


def random_request(schema, rng):
    context = {
        column.name: [value(column, rng) for _ in range(CANDIDATES)] for column in schema.context
    }
    columns = {schema.item.name: [value(schema.item, rng) for _ in range(CANDIDATES)], **context}
    users = [value(schema.user, rng) for _ in range(USERS)] if schema.user else []
    user = rng.integers(0, USERS if schema.user else 1, CANDIDATES)
    return columns, users, user


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_an_assembled_request_equals_the_encoding_of_its_rows(name, seed):
    schema, rng = SCHEMAS[name], np.random.default_rng(seed)
    columns, users, user = random_request(schema, rng)
    types = {column.name: ARROW[column.dtype] for column in (schema.item, *schema.context)}
    each = {key: pa.array(values, types[key]) for key, values in columns.items()}
    shared = {schema.user.name: pa.array(users, ARROW[schema.user.dtype])} if schema.user else {}
    expected = dict(each)
    expected[REQUEST_TIME.name] = pa.array([NOW] * CANDIDATES, STAMP)
    if schema.user:
        expected[schema.user.name] = shared[schema.user.name].take(pa.array(user))
    parts, statuses = {}, set()
    for table in schema.tables:
        rows = stored_rows(table, rng)
        encoded = encoded_table(schema, table, rows)
        size = USERS if table.role is Role.USER else CANDIDATES
        # One in ten is in no row at all.
        taken = rng.integers(0, ROWS * 11 // 10, size)
        taken = np.where(taken < ROWS, taken, encoded.null_row)
        part = parts[table.name] = encoded.part(taken, micros(NOW))
        statuses |= set(part.status.tolist())
        nothing = dict.fromkeys(rows[0])
        usable = [r if is_usable(table, r) else nothing for r in [*rows, nothing]]
        places = taken[user] if table.role is Role.USER else taken
        raw = arrow(table, [usable[place] for place in places])
        rows_of_users = pa.array(user if table.role is Role.USER else np.arange(CANDIDATES))
        for key in table.encoded_columns:
            assert parts[table.name].column(key).take(rows_of_users).equals(raw[key])
        expected |= raw
    request = RequestColumns(
        each=each,
        users=shared,
        user=user,
        num_users=USERS if schema.user else 1,
        request_time=micros(NOW),
    )
    inputs = assemble(schema, request, parts)
    names = [column.name for column in schema.sparse_inputs()]
    tiled, plain = inputs.tiled(names), encode(schema, expected)
    np.testing.assert_array_equal(tiled.dense.view(np.uint32), plain.dense.view(np.uint32))
    assert list(tiled.ids) == list(plain.ids)
    for key, ids in plain.ids.items():
        np.testing.assert_array_equal(tiled.ids[key].values, ids.values)
        np.testing.assert_array_equal(tiled.ids[key].lengths, ids.lengths)
    assert len(statuses) >= 3
    assert RowStatus.USABLE in statuses


def test_a_users_rows_stand_once_in_the_inputs():
    schema = SCHEMAS["synthetic"]
    rng = np.random.default_rng(0)
    parts = {}
    for table in schema.tables:
        encoded = encoded_table(schema, table, stored_rows(table, rng))
        parts[table.name] = encoded.part(
            np.zeros(1 if table.role is Role.USER else 500, dtype=np.int64), micros(NOW)
        )
    request = RequestColumns(
        each={
            "item_id": pa.array(np.arange(500)),
            "device": pa.array(["phone"] * 500),
        },
        users={"user_id": pa.array([7])},
        user=np.zeros(500, dtype=np.int64),
        num_users=1,
        request_time=micros(NOW),
    )
    inputs = assemble(schema, request, parts)
    assert inputs.num_users == 1
    assert {name: len(ids.lengths) for name, ids in inputs.shared.items()} == {
        "user_id": 1,
        "hour_of_day": 1,
        "day_of_week": 1,
        "user_segment": 1,
        "user_positive_items": 1,
        "user_negative_items": 1,
    }
