"""A row counts from the moment that its table declares, online as in the training join."""

import datetime
import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.redis_server import running_redis

from features.datasets.catalog import schema_of
from features.encoding.encode import RowStatus
from features.encoding.encoded_table import EncodedTable
from features.online_store import feast_store
from features.online_store.reader import open_rows
from features.online_store.visibility import (
    MOST_ROWS,
    Row,
    merged,
    needed,
    newest_columns,
    unpacked,
)
from features.schema import CREATED, EVENT_TIMESTAMP, Role

SCHEMA = schema_of("movielens-100k")
DAILY, STATE = SCHEMA.table("item_daily"), SCHEMA.table("user_state")
UTC = datetime.UTC
MIDNIGHT = datetime.datetime(1998, 4, 21, tzinfo=UTC)
ATTRIBUTES = SCHEMA.table("user_attributes")
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)
MICROSECOND = datetime.timedelta(microseconds=1)


@pytest.fixture(scope="module")
def redis():
    with running_redis() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.process)])
def online(request, monkeypatch):
    """Either store, as RANKING_ONLINE names it."""
    url = "sqlite" if request.param == "sqlite" else request.getfixturevalue("redis").url
    monkeypatch.setenv("RANKING_ONLINE", url)
    return request.param


@pytest.fixture
def feast(online, tmp_path):
    feast_store.apply(SCHEMA, tmp_path, tmp_path / "lake")
    return feast_store.open_store(SCHEMA, tmp_path)


def frame(table, entity, moment, number, *, created=None):
    """One row whose first column holds a number that identifies it."""
    values = {
        column.name: [] if column.dtype.is_list else number if place == 0 else 0
        for place, column in enumerate(table.columns)
    }
    times = {EVENT_TIMESTAMP: moment, CREATED: created or moment + table.delay}
    return pd.DataFrame([{SCHEMA.entity(table.role).name: entity, **values, **times}])


def answer(rows, table, entity, at):
    """The number of the row that a request of a moment sees, and the row's status."""
    stored = rows.read(table.role, [entity])
    encoded = EncodedTable.of(SCHEMA, table, stored, null_row=EncodedTable.null_row(SCHEMA, table))
    part = encoded.part(np.array([0]), int(at.timestamp() * 1_000_000))
    (number,) = part.column(table.columns[0].name).to_pylist()
    return number, RowStatus(part.status[0]).name


def test_yesterdays_row_answers_until_todays_may_be_counted_on(feast, tmp_path):
    feast.write_to_online_store(DAILY.name, frame(DAILY, 7, MIDNIGHT - DAY, 1))
    feast.write_to_online_store(DAILY.name, frame(DAILY, 7, MIDNIGHT, 2))
    rows = open_rows(SCHEMA, tmp_path, timeout_seconds=5)
    assert answer(rows, DAILY, 7, MIDNIGHT + HOUR) == (1, "USABLE")
    assert answer(rows, DAILY, 7, MIDNIGHT + DAILY.delay - MICROSECOND) == (1, "USABLE")
    assert answer(rows, DAILY, 7, MIDNIGHT + DAILY.delay) == (2, "USABLE")


def test_a_first_row_is_of_the_future_until_it_may_be_counted_on(feast, tmp_path):
    feast.write_to_online_store(STATE.name, frame(STATE, 900, MIDNIGHT, 1))
    rows = open_rows(SCHEMA, tmp_path, timeout_seconds=5)
    late = MIDNIGHT + STATE.delay
    assert answer(rows, STATE, 900, late - MICROSECOND) == (None, "FUTURE")
    assert answer(rows, STATE, 900, late) == (1, "USABLE")
    assert rows.read(Role.USER, [901])["user_impressions_all"].to_pylist() == [None]


def test_a_correction_answers_from_when_it_counts(feast, tmp_path):
    corrected = MIDNIGHT + 9 * HOUR
    feast.write_to_online_store(DAILY.name, frame(DAILY, 8, MIDNIGHT - DAY, 1))
    feast.write_to_online_store(DAILY.name, frame(DAILY, 8, MIDNIGHT, 3, created=corrected))
    feast.write_to_online_store(DAILY.name, frame(DAILY, 8, MIDNIGHT, 2))
    rows = open_rows(SCHEMA, tmp_path, timeout_seconds=5)
    moments = (MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR, corrected - MICROSECOND, corrected)
    assert [answer(rows, DAILY, 8, at)[0] for at in moments] == [1, 2, 2, 3]


def test_attributes_that_come_before_they_hold_leave_those_before_them(feast, tmp_path):
    """A build brings changed attributes online in the night; they hold from one o'clock on."""
    moments = (MIDNIGHT - 9 * DAY, MIDNIGHT - DAY, MIDNIGHT + HOUR)
    for number, moment in enumerate(moments):
        feast.write_to_online_store(ATTRIBUTES.name, frame(ATTRIBUTES, 6, moment, number))
    rows = open_rows(SCHEMA, tmp_path, timeout_seconds=5)
    asked = (MIDNIGHT, MIDNIGHT + HOUR - MICROSECOND, MIDNIGHT + HOUR)
    assert [answer(rows, ATTRIBUTES, 6, at)[0] for at in asked] == [1, 1, 2]


def test_a_reader_is_spared_rows_that_none_of_its_requests_can_see(feast, tmp_path):
    for day, number in ((1, 1), (0, 2)):
        feast.write_to_online_store(DAILY.name, frame(DAILY, 9, MIDNIGHT - day * DAY, number))
    rows = open_rows(SCHEMA, tmp_path, timeout_seconds=5)
    late = int((MIDNIGHT + DAILY.delay).timestamp() * 1_000_000)
    (column, *_) = (column.name for column in DAILY.columns)
    before, after = (rows.read(Role.ITEM, [9], since=at)[column] for at in (late - 1, late))
    assert (before.to_pylist(), after.to_pylist()) == ([2, 1], [2])


def test_all_rows_of_a_store_keep_their_earlier_ones(feast, tmp_path, monkeypatch):
    """Read in several parts, as a store of many items is."""
    items = range(1, 8)
    for day in (1, 0):
        frames = [frame(DAILY, n, MIDNIGHT - day * DAY, 10 * n - day) for n in items if n - day]
        feast.write_to_online_store(DAILY.name, pd.concat(frames))
    rows = open_rows(SCHEMA, tmp_path, timeout_seconds=5)
    monkeypatch.setattr(type(rows), "most_keys", 3)
    ids, columns = rows.read_all(Role.ITEM, most=10)
    table = EncodedTable.of(SCHEMA, DAILY, columns, null_row=EncodedTable.null_row(SCHEMA, DAILY))
    for at, day in ((MIDNIGHT + HOUR, 1), (MIDNIGHT + 2 * HOUR, 0)):
        part = table.part(np.arange(len(ids)), int(at.timestamp() * 1_000_000))
        found = dict(zip(ids, part.column(DAILY.columns[0].name).to_pylist(), strict=True))
        assert {n: found[n] for n in items if n > 1} == {n: 10 * n - day for n in items if n > 1}
        assert found[1] == (None if day else 10)


MOMENTS = st.integers(0, 12)
ROWS = st.lists(st.builds(Row, event=MOMENTS, created=MOMENTS, values=st.just({})), max_size=12)


@settings(deadline=None, derandomize=True)
@given(rows=ROWS.filter(bool), later=st.integers(0, 30))
def test_the_rows_that_are_kept_answer_as_all_rows_would(rows, later):
    """At every moment from the newest row's event on; the newest visible row answers."""
    kept = needed(rows)
    at = max(row.event for row in rows) + later
    visible = [row.order for row in rows if row.visible_at <= at]
    answered = next((row.order for row in kept if row.visible_at <= at), None)
    assert answered == max(visible, default=None)


@settings(deadline=None, derandomize=True)
@given(rows=ROWS.filter(bool), data=st.data())
def test_what_is_kept_depends_on_the_rows_and_not_on_their_order_or_repetition(rows, data):
    order = data.draw(st.permutations([*rows, *data.draw(st.lists(st.sampled_from(rows)))]))
    stored, earlier = None, b""
    while order:
        size = data.draw(st.integers(1, len(order)))
        stored, earlier = merged(stored, earlier, order[:size])
        order = order[size:]
    assert [stored, *unpacked(earlier)] == needed(rows)


def test_an_entity_that_does_too_much_keeps_its_newest_rows_and_one_that_answers():
    rows = [Row(n, n + 1_000, {}) for n in range(500)] + [Row(-5_000, -5_000, {})]
    kept = needed(rows)
    assert len(kept) == MOST_ROWS
    assert [row.event for row in (kept[0], kept[-2], kept[-1])] == [499, 401, -5_000]


def test_two_writers_lose_nothing(feast, online, tmp_path):
    """Each has a connection of its own, and both write rows of one user."""
    other = feast_store.open_store(SCHEMA, tmp_path)
    second = datetime.timedelta(seconds=1)

    def write(target, first):
        for n in range(first, 40, 2):
            target.push("user_state_push", frame(STATE, 3, MIDNIGHT + n * second, n))

    threads = [
        threading.Thread(target=write, args=(one, n)) for n, one in enumerate((feast, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = open_rows(SCHEMA, tmp_path, timeout_seconds=5)
    moments = [MIDNIGHT + STATE.delay + n * second for n in range(40)]
    assert [answer(rows, STATE, 3, at)[0] for at in moments] == list(range(40))


def test_a_reader_gives_when_a_row_was_made_available_even_before_its_event():
    """It counts from the later of both; of no row there is neither."""
    values = {column.name: [None] * 3 for column in ATTRIBUTES.columns}
    columns = newest_columns(ATTRIBUTES, values, [5, 5, None], [9, 2, None])
    assert columns[ATTRIBUTES.created_column].to_pylist() == [9, 2, None]
    assert columns[ATTRIBUTES.visible_at_column].to_pylist() == [9, 5, None]
