"""A request put together from encoded tables equals ``encode`` of its raw rows, to the bit."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from features.datasets.catalog import names, schema_of
from features.encoding.encode import RowStatus, encode
from features.encoding.encoded_table import EncodedTable
from features.encoding.request import RequestColumns, assemble
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
GENRES = ["Action", "Comedy", "Drama", "War", "Western", "elsewhere"]


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
        for one in table.affinities:
            size = len(row["user_history_labels"] or ())
            counts = [int(n) for n in rng.integers(0, 4, size)]
            values = [str(word) for word in rng.choice(GENRES, sum(counts))]
            row |= {one.values: values, one.counts: counts} if moment else {}
        rows.append({**row, table.timestamp_column: moment})
    return rows


def arrow(table, rows):
    types = {column.name: ARROW[column.dtype] for column in table.columns}
    types[table.timestamp_column] = STAMP
    return {name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()}


def encoded_table(schema, table, rows):
    null_row = EncodedTable.null_row(schema, table)
    return EncodedTable.of(schema, table, arrow(table, rows), null_row=null_row)


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
@pytest.mark.parametrize("name", names())
def test_an_assembled_request_equals_the_encoding_of_its_rows(name, seed):
    schema, rng = schema_of(name), np.random.default_rng(seed)
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
        taken = np.where(taken < ROWS, taken, encoded.null_index)
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
    for one in schema.affinities:
        is_missing = np.isnan(plain.dense[:, schema.dense_inputs().index(one.column.name)])
        has_past = np.array(
            [bool(sum(counts or ())) for counts in expected[one.counts].to_pylist()]
        )
        assert is_missing[~has_past].all()
        assert not (has_past.any() and is_missing.all())
    assert len(statuses) >= 3
    assert RowStatus.USABLE in statuses


def test_a_users_rows_stand_once_in_the_inputs():
    schema = schema_of("synthetic")
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


def with_waiting_rows(table, rows, rng):
    """Columns as a store gives them: some rows wait, and earlier ones are used until then."""
    newest = arrow(table, rows)
    size, before = len(rows), [None] * len(rows)
    more = []
    for place in range(size):
        newer = place
        for _ in range(int(rng.integers(0, 4))):
            before[newer] = newer = size + len(more)
            before.append(None)
            more.append(stored_rows(table, rng)[int(rng.integers(5, ROWS))])
    columns = arrow(table, [*rows, *more])
    assert all(columns[name].slice(0, size).equals(newest[name]) for name in newest)
    waits = rng.integers(-(10**12), 10**12, len(columns[table.timestamp_column]))
    columns[table.visible_at_column] = pa.array(micros(NOW) + waits, pa.int64())
    columns[table.earlier_column] = pa.array(before, pa.int64())
    return columns


def picked(table, columns, places):
    """The columns of some entities, with all their rows, as a store gives them."""
    before = columns[table.earlier_column].to_pylist()
    order = list(places)
    for place in places:
        while (place := before[place]) is not None:
            order.append(place)
    moved = {old: new for new, old in enumerate(order)}
    earlier = [None if before[old] is None else moved[before[old]] for old in order]
    taken = {name: values.take(pa.array(order)) for name, values in columns.items()}
    return {**taken, table.earlier_column: pa.array(earlier, pa.int64())}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("place", range(len(schema_of("synthetic").tables)))
def test_a_table_that_is_renewed_equals_one_that_is_encoded_anew(seed, place):
    """Whatever the moment: rows, earlier rows that are still used, and what was not touched."""
    schema, rng = schema_of("synthetic"), np.random.default_rng(seed)
    table = schema.tables[place]
    null_row = EncodedTable.null_row(schema, table)

    def of(columns):
        return EncodedTable.of(schema, table, columns, null_row=null_row)

    after = with_waiting_rows(table, stored_rows(table, rng), rng)
    num_before = ROWS - 3
    written = [*rng.choice(num_before, 6, replace=False).tolist(), ROWS - 3, ROWS - 2, ROWS - 1]
    others = with_waiting_rows(table, stored_rows(table, rng), rng)
    kept = [one for one in range(num_before) if one not in written]
    first = of(picked(table, after, kept)).renewed(
        of(picked(table, others, written[:6])),
        np.arange(len(kept), num_before),
        num_entities=len(kept),
    )
    by_place = np.argsort([*kept, *written[:6]])
    renewed = first.renewed(
        of(picked(table, after, written)),
        np.array([*range(len(kept), num_before), num_before, num_before + 1, num_before + 2]),
        num_entities=num_before,
    )
    expected = of(after)
    assert len(renewed.moments) == len(expected.moments)
    places = np.array([*by_place, num_before, num_before + 1, num_before + 2, -1])
    same = np.array([*range(ROWS), -1])
    for wait in (-(10**13), -(10**11), 0, 10**11, 10**13):
        moment = micros(NOW) + wait
        found, wanted = renewed.part(places, moment), expected.part(same, moment)
        assert found.status.tolist() == wanted.status.tolist()
        for name in table.encoded_columns:
            assert found.column(name).equals(wanted.column(name))
        numbers = [part.encoded.numbers.take(part.rows) for part in (found, wanted)]
        np.testing.assert_array_equal(numbers[0].values, numbers[1].values)
        at = np.array([moment])
        np.testing.assert_array_equal(numbers[0].at(at), numbers[1].at(at))
        for name, ids in expected.ids.items():
            np.testing.assert_array_equal(
                renewed.ids[name].take(found.rows).values, ids.take(wanted.rows).values
            )
