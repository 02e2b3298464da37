"""Rows from the lake and the as-of join over them, against its definition."""

import random

import numpy as np
import pyarrow as pa
import pytest
from support.features.planted_log import (
    DAILY,
    DATE,
    HOUR_LONG,
    MIDNIGHT,
    ONE_DAY,
    SCHEMA,
    STATE,
    good_lake,
    lake_row,
    newest_visible,
    write_lake,
)

from features.parity import lake_rows
from features.parity.lake_rows import micros_of, moment_of, rows_of_events, rows_visible
from features.schema import CREATED


def drawn_lake(seed: int) -> dict:
    """Items with gaps, corrections that count hours or days later, and items without a row."""
    random_ = random.Random(seed)
    found: dict = {}
    for day in (DATE - n * ONE_DAY for n in range(6)):
        event = MIDNIGHT + (day - DATE + ONE_DAY)
        rows = [lake_row(DAILY, item, event, random_.randrange(99)) for item in "abcdef"]
        rows = [row for row in rows if random_.random() < 0.6]
        for row in list(rows):
            if random_.random() < 0.4:
                later = event + random_.randrange(1, 60) * HOUR_LONG
                rows.append({**row, CREATED: later, "item_impressions_1d": 1_000})
        found[day] = rows
    return {"item_daily": found}


@pytest.mark.parametrize("seed", range(8))
def test_the_join_takes_what_its_definition_says(tmp_path, seed):
    lake, random_ = drawn_lake(seed), random.Random(seed)
    found = write_lake(tmp_path, lake).snapshot("item_daily")
    asked = [
        ("abcdefg"[random_.randrange(7)], MIDNIGHT - random_.randrange(-30, 60) * HOUR_LONG)
        for _ in range(60)
    ]
    keys = pa.array(list("abcdefg"))
    times = np.array([micros_of(at) for _, at in asked])
    codes = np.array(["abcdefg".index(item) for item, _ in asked])
    rows = rows_visible(found, SCHEMA, DAILY, keys, codes=codes, times=times)
    places = rows.newest_visible(codes, times)
    values = rows.column("item_impressions_1d", places).to_pylist()
    every = [row for of_day in lake["item_daily"].values() for row in of_day]
    expected = [newest_visible(every, DAILY, item, at) for item, at in asked]
    assert values == [row and row["item_impressions_1d"] for row in expected]
    times = [moment_of(int(rows.created[place])) if place >= 0 else None for place in places]
    assert times == [row and row[CREATED] for row in expected]
    assert None in expected


def test_days_before_those_that_are_needed_are_not_read(tmp_path, monkeypatch):
    """Each key only as far back as it has no visible row; and not beyond the time-to-live."""
    lake = write_lake(tmp_path, good_lake())
    read, batches = [], lake_rows.batches

    def noted(found, day, names):
        read.append(day)
        return batches(found, day, names)

    monkeypatch.setattr(lake_rows, "batches", noted)
    noon = micros_of(MIDNIGHT + 12 * HOUR_LONG)

    def days_read(table, keys, *times):
        read.clear()
        found, codes = lake.snapshot(table.name), np.arange(len(keys))
        rows_visible(found, SCHEMA, table, pa.array(keys), codes=codes, times=np.array(times))
        return read.copy()

    one_day = micros_of(moment_of(0) + ONE_DAY)
    assert days_read(DAILY, ["a"], noon) == [DATE - ONE_DAY]
    assert days_read(DAILY, ["a", "none"], noon, noon) == [DATE - ONE_DAY, DATE - 2 * ONE_DAY]
    assert days_read(DAILY, ["a", "b"], noon, noon - one_day) == [
        DATE - ONE_DAY,
        DATE - 2 * ONE_DAY,
    ]
    assert days_read(STATE, [7], noon + 40 * one_day) == []


def test_rows_are_found_by_their_key_and_both_times(tmp_path):
    lake = write_lake(tmp_path, good_lake())
    events = np.array([micros_of(MIDNIGHT - 14 * HOUR_LONG), micros_of(MIDNIGHT + 9 * HOUR_LONG)])
    found = rows_of_events(lake.snapshot("user_state"), SCHEMA, STATE, pa.array([7, 8]), events)
    places = found.places(np.array([0, 0, 1, 0]), events[[0, 1, 1, 1]], events[[0, 1, 1, 0]] + 1)
    assert found.column("user_impressions_all", places).to_pylist() == [1, 2, None, None]
