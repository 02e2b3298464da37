import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.datasets.catalog import schema_of
from features.encoding.encode import (
    Ids,
    InfiniteError,
    RequestInputs,
    RowStatus,
    embedding_rows,
    encode,
    epoch_microseconds,
    status_at,
)
from features.schema import DENSE_KINDS, Column, Dtype, Kind

NOON = datetime.datetime(1998, 4, 20, 12, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)
ARROW = {
    Dtype.INT64: pa.int64(),
    Dtype.FLOAT64: pa.float64(),
    Dtype.STRING: pa.string(),
    Dtype.TIMESTAMP: pa.timestamp("us", "UTC"),
    Dtype.INT64_LIST: pa.list_(pa.int64()),
    Dtype.STRING_LIST: pa.list_(pa.string()),
}


def nothing(schema, rows: int) -> dict[str, pa.Array]:
    columns = {c.name: pa.nulls(rows, ARROW[c.dtype]) for c in schema.columns()}
    columns["timestamp"] = pa.array([NOON] * rows, ARROW[Dtype.TIMESTAMP])
    for table in schema.tables:
        columns[table.timestamp_column] = pa.nulls(rows, ARROW[Dtype.TIMESTAMP])
    return columns


def sparse(dtype: Dtype, **how: object) -> Column:
    return Column(name="id", dtype=dtype, kind=Kind.SPARSE, doc="An id.", **how)


def test_hashed_ids_never_move():
    # A changed hash would silently retire every trained table: these numbers are a promise.
    numbers = embedding_rows(sparse(Dtype.INT64, hash_size=1000), pa.array([0, 1, -5, 2**62, None]))
    texts = embedding_rows(
        sparse(Dtype.STRING, hash_size=1000), pa.array(["a", "men-12", None, "a"])
    )
    assert numbers.tolist() == [536, 466, 515, 76, 0]
    assert texts.tolist() == [929, 740, 0, 929]


@pytest.mark.parametrize(
    ("how", "values", "rows"),
    [
        ({"num_ids": 3}, [0, 2, 3, -1, None], [1, 3, 0, 0, 0]),
        ({"vocabulary": ("x", "y")}, ["y", "x", "z", None], [2, 1, 0, 0]),
    ],
)
def test_unknown_and_missing_ids_share_row_zero(how, values, rows):
    dtype = Dtype.INT64 if "num_ids" in how else Dtype.STRING
    assert embedding_rows(sparse(dtype, **how), pa.array(values)).tolist() == rows


@pytest.mark.parametrize(
    ("age", "status"),
    [
        (datetime.timedelta(days=28), RowStatus.USABLE),
        (datetime.timedelta(days=28) + SECOND, RowStatus.EXPIRED),
        (datetime.timedelta(0), RowStatus.USABLE),
        (-SECOND, RowStatus.FUTURE),
        (None, RowStatus.UNKNOWN),
    ],
)
def test_a_row_counts_until_exactly_its_time_to_live(age, status):
    table = schema_of("movielens-100k").table("item_daily")
    stamp = pa.array([None if age is None else NOON - age], ARROW[Dtype.TIMESTAMP])
    moments = epoch_microseconds(stamp)
    now = epoch_microseconds(pa.array([NOON], ARROW[Dtype.TIMESTAMP]))
    found = status_at(
        table,
        moments,
        visible_at=moments,
        is_known=np.array([age is not None]),
        request_time=now,
    )
    assert found.tolist() == [status]


def test_a_history_splits_into_positive_and_negative_items_in_order():
    schema = schema_of("movielens-100k")
    columns = nothing(schema, 3)
    columns["user_history_item_ids"] = pa.array([[7, 8, 9], None, []], ARROW[Dtype.INT64_LIST])
    columns["user_history_labels"] = pa.array([[1, 0, 1], None, []], ARROW[Dtype.INT64_LIST])
    inputs = encode(schema, columns)
    positive, negative = inputs.ids["user_positive_items"], inputs.ids["user_negative_items"]
    assert positive.values.tolist() == [8, 10]
    assert positive.lengths.tolist() == [2, 0, 0]
    assert (negative.values.tolist(), negative.lengths.tolist()) == ([9], [1, 0, 0])


def test_missing_numbers_are_nan_and_missing_tables_are_flagged():
    schema = schema_of("synthetic")
    columns = nothing(schema, 2)
    columns["user_last_event_at"] = pa.array([int((NOON - 90 * SECOND).timestamp() * 1e6), None])
    columns["user_state__event_timestamp"] = pa.array([NOON, None], ARROW[Dtype.TIMESTAMP])
    dense = encode(schema, columns).dense
    names = schema.dense_inputs()
    assert dense[:, names.index("user_state_missing")].tolist() == [0, 1]
    age = dense[:, names.index("user_last_event_at")]
    assert age[0] == 90
    assert np.isnan(age[1])


def test_an_age_is_the_seconds_until_the_request_and_never_negative():
    schema = schema_of("movielens-100k")
    column = next(c for c in schema.columns() if c.kind is Kind.AGE)
    micros = int(NOON.timestamp() * 1_000_000)
    columns = nothing(schema, 4)
    columns[column.name] = pa.array([micros - 1_500_000, micros, micros + 9, None])
    place = schema.dense_inputs().index(column.name)
    ages = encode(schema, columns).dense[:, place]
    np.testing.assert_array_equal(ages, np.array([1.5, 0, 0, np.nan], dtype=np.float32))


def test_the_time_context_is_the_hour_and_the_weekday_in_utc():
    columns = nothing(schema_of("synthetic"), 1)
    moment = datetime.datetime(2025, 6, 15, 23, 59, tzinfo=datetime.UTC)  # a Sunday
    columns["timestamp"] = pa.array([moment], ARROW[Dtype.TIMESTAMP])
    ids = encode(schema_of("synthetic"), columns).ids
    assert ids["hour_of_day"].values.tolist() == [24]
    assert ids["day_of_week"].values.tolist() == [7]


def test_a_missing_column_is_named():
    columns = nothing(schema_of("synthetic"), 1)
    del columns["device"]
    with pytest.raises(ValueError, match="column device: missing"):
        encode(schema_of("synthetic"), columns)


@given(
    bags=st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=8), data=st.data()
)
def test_taking_rows_takes_their_bags(bags, data):
    rows = data.draw(st.lists(st.integers(0, len(bags) - 1), max_size=10))
    values = np.array([v for bag in bags for v in bag], dtype=np.int64)
    ids = Ids(values, np.array([len(bag) for bag in bags], dtype=np.int32))
    taken = ids.take(np.array(rows, dtype=np.int64))
    assert taken.values.tolist() == [v for row in rows for v in bags[row]]
    assert taken.lengths.tolist() == [len(bags[row]) for row in rows]


def test_users_that_stand_once_are_tiled_and_joined_as_if_each_row_had_its_own():
    history = Ids(np.array([5, 6, 7]), np.array([2, 0, 1], dtype=np.int32))
    items = Ids(np.array([1, 2, 3, 4]), np.ones(4, dtype=np.int32))
    dense = np.arange(8, dtype=np.float32).reshape(4, 2)
    user = np.array([2, 0, 0, 1])
    whole = RequestInputs(dense, {"history": history}, {"item": items}, user)

    tiled = whole.tiled(["item", "history"])

    assert list(tiled.ids) == ["item", "history"]
    assert tiled.ids["history"].lengths.tolist() == [1, 2, 2, 0]
    assert tiled.ids["history"].values.tolist() == [7, 5, 6, 5, 6]
    twice = RequestInputs.joined([whole, whole])
    assert len(twice) == 8
    assert twice.user.tolist() == [2, 0, 0, 1, 5, 3, 3, 4]
    both = twice.tiled(["item", "history"])
    assert both.ids["history"].values.tolist() == [7, 5, 6, 5, 6] * 2
    assert both.ids["item"].values.tolist() == [1, 2, 3, 4] * 2


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_a_number_that_is_infinite_to_the_model_is_an_error_that_names_column_and_example(value):
    from training.data.examples import encode_examples

    schema = schema_of("movielens-100k")
    columns = nothing(schema, 3)
    name = next(
        c.name
        for c in schema.inputs(*DENSE_KINDS)
        if c.dtype is Dtype.FLOAT64 and c.name in columns
    )
    columns[name] = pa.array([None, 0.5, value])
    with pytest.raises(InfiniteError, match=rf"column {name}: -?inf; a finite number") as caught:
        encode(schema, columns)
    assert caught.value.row == 2
    columns |= {"label": pa.array([0, 1, 0]), "example_id": pa.array([70, 80, 90])}
    with pytest.raises(ValueError, match=f"example 90: column {name}"):
        encode_examples(schema, pa.table(columns))
    columns[name] = pa.array([None, 0.5, np.nan])
    place = schema.dense_inputs().index(name)
    assert np.isnan(encode(schema, columns).dense[:, place]).tolist() == [True, False, True]
