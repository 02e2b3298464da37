"""Weights, what is left out, and whose answers can be judged."""

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.features.declared import ALL_KINDS, declared, named, with_tables
from support.features.planted_log import (
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
from support.lake_rows import replaced

from features.lake.lake import Lake
from features.online_store.codec import STAMP
from features.parity.causes import Cause
from features.parity.comparison import compare
from features.parity.lake_rows import micros_of
from features.parity.logged import Window, sample
from features.parity.replay import whole_until
from features.parity.request_keys import days_of_users
from features.prediction_log.hashed_ids import IdHash

KEY = b"a-key-of-the-tests-of-32-bytes-or-more"
HASHED = IdHash(KEY)
ALL_DAY = Window(DATE)


@pytest.fixture
def rows():
    return good_lake()


@pytest.fixture
def compared(tmp_path, rows):
    """Compares a log with the good lake, or another one."""

    def run(logged, *, lake=None, window=ALL_DAY, hashed=None):
        write_log(tmp_path / "log", logged)
        found = sample(tmp_path / "log", SCHEMA.name, window, max_candidates=1_000_000)
        own = lake or write_lake(tmp_path / "lake", rows)
        return compare(SCHEMA, own, found, hashed)

    return run


def wrong(row):
    row["item_impressions_1d"] = 12_345
    return row


def test_a_share_is_one_of_all_answers_not_of_logged_ones(compared, rows):
    """A degraded answer is logged for sure, and stands for itself; a sampled one for four."""
    logged = good_log(
        rows,
        answer("degraded", 7, "a", NOON, inclusion_probability=1.0, stratum="degraded"),
        answer("sampled", 7, "ab", NOON, inclusion_probability=0.25),
    )
    wrong(logged[0])
    found = compared(logged)
    assert (found.compared, found.by_cause[Cause.UNEXPLAINED]) == (1 + 8, 1)
    assert found.share(Cause.UNEXPLAINED) == 1 / 9
    (tally,) = (one for one in found.tallies if one.rows)
    assert (tally.feature, tally.compared, tally.mismatched) == ("item_impressions_1d", 9, 1)
    assert (tally.encoded, tally.rows) == (1, 1)


def test_a_candidate_counts_once_however_many_of_its_features_differ(compared, rows):
    logged = good_log(rows)
    serve(logged[0], DAILY, rows["item_daily"][DATE - 2 * ONE_DAY][0])
    found = compared(logged)
    assert found.mismatched == found.by_cause[Cause.LATE_PUSH] == 2
    assert sum(one.rows for one in found.tallies) > 5


def test_a_value_that_no_float32_tells_apart_is_another_value_and_the_same_input(compared, rows):
    logged = good_log(rows)
    logged[1]["item_weight"] += 1e-12
    (tally,) = (one for one in compared(logged).tallies if one.rows)
    assert (tally.feature, tally.mismatched, tally.encoded) == ("item_weight", 2, 0)


def test_shadows_and_other_hours_are_left_out(compared, rows):
    logged = good_log(
        rows,
        answer("shadow", 7, "ab", NOON, role="shadow", stratum="shadow"),
        answer("earlier", 7, "ab", NOON - HOUR_LONG),
        answer("one", 7, "a", NOON),
    )
    for row in logged[:4]:
        wrong(row)
    assert compared(logged, window=Window(DATE, 12)).mismatched == 0


def test_of_more_candidates_than_allowed_whole_answers_are_left_out(tmp_path, rows):
    """And those that stay stand for all: the estimate of how many there were is not biased."""
    answers = [answer(f"answer-{n}", 7, "abc", NOON) for n in range(400)]
    write_log(tmp_path, good_log(rows, *answers))
    found = sample(tmp_path, SCHEMA.name, Window(DATE), max_candidates=300)
    assert (found.num_logged, found.kept_share) == (1_200, 0.25)
    assert set(np.unique(found.weights)) == {8.0}
    sizes = found.rows.group_by("answer_id").aggregate([("place", "count")])
    assert set(sizes.column("place_count").to_pylist()) == {3}
    # Three standard deviations of a share of a quarter of 400 answers.
    assert abs(found.weights.sum() / 2_400 - 1) < 3 * (0.75 / (0.25 * 400)) ** 0.5
    whole = sample(tmp_path, SCHEMA.name, Window(DATE), max_candidates=1_200)
    assert (len(whole.rows), set(whole.weights)) == (1_200, {2.0})


def test_a_window_without_answers_has_no_sample(tmp_path, rows):
    assert sample(tmp_path, SCHEMA.name, Window(DATE), max_candidates=9) is None
    write_log(tmp_path, good_log(rows))
    assert sample(tmp_path, SCHEMA.name, Window(DATE, 3), max_candidates=9) is None


def hashed_log(rows, *answers):
    logged = good_log(rows, *answers)
    for row in logged:
        row |= {
            "user_key": HASHED.user(int(row["user_key"])),
            "user_id": None,
            "hash_key_id": HASHED.key_id,
        }
    return logged


def test_hashed_users_are_found_by_hashing_those_of_the_lake(compared, rows):
    found = compared(hashed_log(rows), hashed=HASHED)
    assert (found.mismatched, found.not_judged) == (0, {})
    assert {one.compared for one in found.tallies} == {10}


def expired(rows, user):
    """A state that no answer of the day may use; returns its day."""
    event = MIDNIGHT - STATE.ttl - 2 * ONE_DAY
    rows["user_state"][event.date()] = [lake_row(STATE, user, event, 5)]
    return event.date()


def test_for_a_hash_that_nobody_has_no_day_is_read_whose_rows_are_expired(compared, rows, tmp_path):
    day = expired(rows, 9)
    lake = write_lake(tmp_path / "lake", rows)
    (file,) = lake.snapshot("user_state").files(day)
    Path(file).unlink()
    logged = hashed_log(rows, answer("stranger", 55, "a", NOON), answer("known", 7, "a", NOON))
    found = compared(logged, lake=lake, hashed=HASHED)
    assert (found.mismatched, found.not_judged) == (0, {})
    assert {one.compared for one in found.tallies} == {4}


def test_who_was_served_an_expired_row_is_found_in_its_day(compared, rows):
    expired(rows, 9)
    found = compared(hashed_log(rows, answer("back", 9, "a", NOON)), hashed=HASHED)
    assert (found.mismatched, found.not_judged) == (0, {})


def test_who_had_a_row_and_is_not_in_the_lake_is_not_judged(compared, rows):
    """As of a user who was erased from the lake; nobody can say what should have been served."""
    logged = hashed_log(rows, answer("gone", 66, "a", NOON), answer("known", 7, "a", NOON))
    serve(logged[0], STATE, lake_row(STATE, 66, MIDNIGHT, 3))
    found = compared(logged, hashed=HASHED)
    assert (found.mismatched, found.not_judged) == (0, {"user_state": {"hashed_id": 1}})


def test_users_of_keys_are_in_the_impressions_that_windows_reach(tmp_path):
    pairs = declared("pairs", ("user_id", "item_category"), named("pairs", ALL_KINDS[:1]))
    schema = with_tables(pairs)
    table = schema.table("pairs")
    days = [DATE - n * ONE_DAY for n in range(200)]
    root = tmp_path / schema.name
    replaced(root / "impressions", *days)
    rows = pa.table({table.timestamp_column: pa.array([None], STAMP)})
    asked = {"times": np.array([micros_of(NOON)])}
    found = days_of_users(schema, Lake(tmp_path, schema.name), rows, **asked)
    reach = table.ttl + max(table.windows_days) * ONE_DAY + ONE_DAY
    assert found == [("impressions", day) for day in days if day >= (NOON - reach).date()]
    served = pa.array([NOON - table.ttl - 30 * ONE_DAY], STAMP)
    rows = pa.table({table.timestamp_column: served})
    more = days_of_users(schema, Lake(tmp_path, schema.name), rows, **asked)
    assert len(more) == len(found) + 30


@pytest.mark.parametrize("hashed", [None, IdHash(KEY + b"x")])
def test_without_the_logs_key_the_tables_of_users_are_not_judged_and_the_result_says_so(
    compared, rows, hashed
):
    found = compared(hashed_log(rows), hashed=hashed)
    assert found.not_judged == {"user_state": {"hashed_id": 5}}
    assert found.mismatched == 0
    assert {one.table: one.compared for one in found.tallies}["user_state"] == 0
    assert found.compared == 10


def test_users_whom_the_lake_does_not_know_have_no_row(compared, rows):
    logged = good_log(rows, answer("stranger", 55, "a", NOON))
    assert compared(logged).mismatched == 0


def test_before_the_day_is_built_only_what_is_made_by_day_is_judged(tmp_path, compared, rows):
    """Rows that a push brought online within the day are in the lake when the day is built."""
    today = {name: {d: of for d, of in days.items() if d < DATE} for name, days in rows.items()}
    lake = write_lake(tmp_path / "morning", today)
    found = compared(good_log(rows), lake=lake, window=Window(DATE, 12))
    assert found.not_judged == {"user_state": {"not_built_yet": 5}}
    assert (found.mismatched, found.compared) == (0, 10)


def test_without_any_build_nothing_is_judged(tmp_path, compared, rows):
    found = compared(good_log(rows), lake=write_lake(tmp_path / "empty", {}))
    assert set(found.not_judged) == {table.name for table in SCHEMA.tables}
    assert (found.compared, found.share(Cause.UNEXPLAINED)) == (0, 0)


def test_who_asks_for_a_later_moment_asks_what_nobody_knows_yet(compared, rows):
    logged = good_log(rows, answer("later", 7, "a", NOON, read_at=NOON - HOUR_LONG))
    reasons = {"asked_for_later_moment": 1}
    assert compared(logged).not_judged == {table.name: reasons for table in SCHEMA.tables}


def test_tables_are_whole_until_the_next_days_rows_count(tmp_path, rows):
    lake = write_lake(tmp_path, rows)
    state, daily, attributes = (
        datetime.datetime.fromtimestamp(whole_until(SCHEMA, lake, table) / 1e6, datetime.UTC)
        for table in SCHEMA.tables
    )
    midnight = datetime.datetime.combine(DATE + ONE_DAY, datetime.time(), datetime.UTC)
    assert state == midnight + datetime.timedelta(microseconds=1)
    assert daily == midnight + ONE_DAY
    assert attributes == daily


def test_a_feature_that_the_log_has_no_column_of_is_named_and_not_compared(tmp_path, rows):
    """As where the schema has grown, and no server of it has answered yet."""
    logged = good_log(rows)
    logged[0]["item_weight"] = 99.0
    write_log(tmp_path / "log", logged)
    whole = sample(tmp_path / "log", SCHEMA.name, Window(DATE), max_candidates=9)
    older = whole._replace(rows=whole.rows.drop_columns(["item_weight"]))
    before = whole._replace(
        rows=whole.rows.drop_columns([n for n in whole.rows.schema.names if "item_attributes" in n])
    )
    lake = write_lake(tmp_path / "lake", rows)
    assert compare(SCHEMA, lake, whole, None).mismatched == 2
    found = compare(SCHEMA, lake, older, None)
    assert (found.not_logged, found.mismatched) == (["item_weight"], 0)
    found = compare(SCHEMA, lake, before, None)
    assert found.not_judged == {"item_attributes": {"table_not_logged": 5}}
    assert found.mismatched == 0
