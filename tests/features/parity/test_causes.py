"""Faults that are planted in a log or in a lake are found, and each is named by its cause."""

import datetime

import pytest
from support.features.planted_log import (
    ATTRIBUTES,
    DAILY,
    DATE,
    HOUR_LONG,
    MIDNIGHT,
    NOON,
    ONE_DAY,
    SCHEMA,
    STATE,
    answer,
    good_lake,
    good_log,
    lake_row,
    serve,
    write_lake,
    write_log,
)

from features.parity.causes import Cause
from features.parity.comparison import compare
from features.parity.logged import Window, sample
from features.schema import CREATED

NOW = datetime.datetime.now(datetime.UTC)


def compared(tmp_path, logged, lake):
    write_log(tmp_path / "log", logged)
    found = sample(tmp_path / "log", SCHEMA.name, Window(DATE), max_candidates=1_000_000)
    return compare(SCHEMA, lake, found, None)


def causes_by_table(found):
    return {(one.table, cause) for one in found.tallies for cause in one.by_cause}


@pytest.fixture
def rows():
    return good_lake()


def test_a_clean_log_has_no_mismatch(tmp_path, rows):
    found = compared(tmp_path, good_log(rows), write_lake(tmp_path / "lake", rows))
    assert found.mismatched == 0
    assert {one.table: one.compared for one in found.tallies} == {
        table.name: 10 for table in SCHEMA.tables
    }
    assert not any(one.rows or one.encoded for one in found.tallies)
    assert (found.examples, found.not_judged, found.not_logged) == ([], {}, [])


def late_push(logged, rows):
    for row in logged[:3]:
        serve(row, STATE, rows["user_state"][DATE - ONE_DAY][0])
    return {("user_state", Cause.LATE_PUSH)}


def first_row_is_late(logged, rows):
    for row in logged[3:]:
        serve(row, STATE, None)
    return {("user_state", Cause.LATE_PUSH)}


def late_build(logged, rows):
    serve(logged[0], DAILY, rows["item_daily"][DATE - 2 * ONE_DAY][0])
    return {("item_daily", Cause.LATE_PUSH)}


def no_row(logged, rows):
    for row in logged[:3]:
        serve(row, STATE, None)
    return {("user_state", Cause.DEFAULT)}


def no_value(logged, rows):
    logged[1]["item_weight"] = None
    return {("item_attributes", Cause.DEFAULT)}


def expired_too_early(logged, rows):
    logged[0]["item_daily__status"] = "expired"
    return {("item_daily", Cause.TIME_TO_LIVE)}


def store_down(logged, rows):
    for row in logged[:3]:
        row["degraded_by"] = ["store_unavailable", "unknown:user_state"]
        serve(row, STATE, None)
    return {("user_state", Cause.STORE_DOWN)}


def store_down_for_all(logged, rows):
    for row in logged:
        row["degraded_by"] = ["store_unavailable"]
        for table in SCHEMA.tables:
            serve(row, table, None)
    return {(table.name, Cause.STORE_DOWN) for table in SCHEMA.tables}


def another_schema(logged, rows):
    for row in logged[:3]:
        row["schema_fingerprint"] = "0123456789abcdef"
    return {(table.name, Cause.ENCODER) for table in SCHEMA.tables}


def another_sign_of_zero(logged, rows):
    logged[0]["item_weight"] = -0.0
    return {("item_attributes", Cause.ENCODER)}


def a_moment_of_the_past(logged, rows):
    """The newest row counts only after that moment, and the store keeps no other."""
    for row in logged[:3]:
        row |= {"is_time_given": True, "read_at": NOON + 2 * HOUR_LONG}
        serve(row, STATE, rows["user_state"][DATE][2], "future")
    return {("user_state", Cause.PAST_MOMENT)}


def a_row_that_should_wait(logged, rows):
    """The same of a request for now: the store should have kept the row before it."""
    serve(logged[0], STATE, rows["user_state"][DATE][2], "future")
    return {("user_state", Cause.UNEXPLAINED)}


def too_early(logged, rows):
    serve(logged[0], DAILY, rows["item_daily"][DATE][0])
    return {("item_daily", Cause.UNEXPLAINED)}


def a_wrong_value(logged, rows):
    logged[0]["item_impressions_1d"] = 12_345
    return {("item_daily", Cause.UNEXPLAINED)}


def an_older_row_with_wrong_values(logged, rows):
    serve(logged[0], STATE, {**rows["user_state"][DATE - ONE_DAY][0], "user_impressions_all": 99})
    return {("user_state", Cause.UNEXPLAINED)}


def the_row_of_another_user(logged, rows):
    for row in logged[3:]:
        serve(row, STATE, rows["user_state"][DATE - ONE_DAY][0])
    return {("user_state", Cause.UNEXPLAINED)}


@pytest.mark.parametrize(
    "plant",
    [
        *(late_push, first_row_is_late, late_build, no_row, no_value, expired_too_early),
        *(store_down, store_down_for_all, another_schema, another_sign_of_zero),
        *(a_moment_of_the_past, a_row_that_should_wait, too_early),
        *(a_wrong_value, an_older_row_with_wrong_values, the_row_of_another_user),
    ],
)
def test_a_planted_fault_is_named(tmp_path, rows, plant):
    """By its cause, in its table, and nothing else is."""
    logged = good_log(rows)
    expected = plant(logged, rows)
    found = compared(tmp_path, logged, write_lake(tmp_path / "lake", rows))
    assert causes_by_table(found) == expected
    causes = {cause for _, cause in expected}
    assert {cause for cause, weight in found.by_cause.items() if weight} == causes
    assert {example["cause"] for example in found.examples} == causes
    assert found.mismatched > 0


def served_from_memory(logged, compared_at):
    for row in logged:
        row |= {"items_version": compared_at, "items_compared_at": compared_at}


def test_items_in_memory_that_were_compared_before_the_row_was_due_are_a_cache(tmp_path, rows):
    """A store that was late itself is another matter: then a comparison had found them equal."""
    lake = write_lake(tmp_path / "lake", rows)
    logged = good_log(rows, answer("old", 7, "ab", NOON), answer("new", 7, "a", NOON))
    for row in logged:
        serve(row, DAILY, rows["item_daily"][DATE - 2 * ONE_DAY]["ab".index(row["item_id"])])
        row["read_at"] = NOW + HOUR_LONG
    served_from_memory(logged[:2], NOW - HOUR_LONG)
    served_from_memory(logged[2:], NOW + HOUR_LONG / 2)
    found = compared(tmp_path, logged, lake)
    named = {(one["answer_id"], one["cause"]) for one in found.examples}
    assert named == {("old", "cache"), ("new", "late_push")}


def test_items_that_came_from_memory_are_not_missing_because_the_store_is_down(tmp_path, rows):
    logged = good_log(rows)
    served_from_memory(logged, NOON - HOUR_LONG)
    logged[0]["degraded_by"] = ["store_unavailable"]
    serve(logged[0], ATTRIBUTES, None)
    found = compared(tmp_path, logged, write_lake(tmp_path / "lake", rows))
    assert causes_by_table(found) == {("item_attributes", Cause.LATE_PUSH)}


def commit_time(lake, table):
    newest = lake.snapshot(table).history()[0]
    return datetime.datetime.fromtimestamp(newest["timestamp"] / 1000, datetime.UTC)


def test_a_row_that_the_lake_made_anew_since_is_a_correction(tmp_path, rows):
    """The version of the lake at the time of the answer had what was served."""
    lake = write_lake(tmp_path / "lake", rows)
    logged = good_log(rows)
    for row in logged:
        row["read_at"] = commit_time(lake, "item_daily")
    day = DATE - ONE_DAY
    rows["item_daily"][day][0] |= {"item_impressions_1d": 77}
    lake = write_lake(tmp_path / "lake", {"item_daily": {day: rows["item_daily"][day]}})
    found = compared(tmp_path, logged, lake)
    assert causes_by_table(found) == {("item_daily", Cause.CORRECTION)}
    assert {one.feature for one in found.tallies if one.rows} == {"item_impressions_1d"}
    (example, _) = found.examples
    assert (example["served"], example["expected"]) == ("20", "77")


def test_a_correction_that_counts_later_is_seen_by_later_answers_only(tmp_path, rows):
    """It came into the lake after these were read, although it counts from before them."""
    lake = write_lake(tmp_path / "lake", rows)
    logged = good_log(
        rows, answer("before", 7, "a", NOON - 3 * HOUR_LONG), answer("after", 7, "a", NOON)
    )
    for row in logged:
        row["read_at"] = commit_time(lake, "item_daily")
    day, counts_at = DATE - ONE_DAY, NOON - HOUR_LONG
    corrected = {**rows["item_daily"][day][0], CREATED: counts_at, "item_impressions_1d": 78}
    lake = write_lake(
        tmp_path / "lake", {"item_daily": {day: [*rows["item_daily"][day], corrected]}}
    )
    found = compared(tmp_path, logged, lake)
    assert {(one["answer_id"], one["cause"]) for one in found.examples} == {("after", "correction")}


def test_a_row_that_the_lake_had_and_the_store_not_is_late(tmp_path, rows):
    """The day was made anew before the answer was read: the store was behind the lake."""
    write_lake(tmp_path / "lake", rows)
    logged = good_log(rows)
    for row in logged:
        row["read_at"] = NOW + HOUR_LONG
    day = DATE - ONE_DAY
    rows["item_daily"][day].append(
        lake_row(DAILY, "a", MIDNIGHT, 50, **{CREATED: MIDNIGHT + HOUR_LONG})
    )
    found = compared(tmp_path, logged, write_lake(tmp_path / "lake", rows))
    assert causes_by_table(found) == {("item_daily", Cause.LATE_PUSH)}
