"""Rows of the log find the impressions that they became."""

import dataclasses
import datetime

import numpy as np
import pyarrow as pa
import pytest
from support.quality.quality_logs import (
    BY_ANSWER,
    BY_REQUEST,
    BY_USER,
    ITEMS,
    impressions_of,
    logged,
)

from features.prediction_log.hashed_ids import IdHash
from features.schema import Role
from training.monitoring.quality.mature_labels import (
    NONE,
    Way,
    find_impressions,
    impression_columns,
    way_of,
)

KEY = IdHash(b"k" * 32)
SCHEMAS = {Way.ANSWER: BY_ANSWER, Way.REQUEST: BY_REQUEST, Way.NEAREST: BY_USER}


def found(schema, rows, impressions, *, minutes=30, hashed=None):
    impressions = impressions.select(impression_columns(schema))
    return find_impressions(
        schema, rows, impressions, nearest=datetime.timedelta(minutes=minutes), hashed=hashed
    )


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("hashed", [None, KEY])
def test_each_row_finds_its_own_impression_in_any_order_hashed_or_not(way, hashed):
    schema = SCHEMAS[way]
    rows = logged(schema, 60, hashed=hashed)
    impressions = impressions_of(schema, logged(schema, 60))
    order = np.random.default_rng(4).permutation(len(rows))
    shuffled = found(schema, rows, impressions.take(pa.array(order)), hashed=hashed)
    assert way_of(schema) is shuffled.way is way
    np.testing.assert_array_equal(order[shuffled.impression], np.arange(len(rows)))
    assert shuffled.num_other_key == 0


@pytest.mark.parametrize("way", Way)
def test_candidates_that_were_not_shown_find_none(way):
    schema = SCHEMAS[way]
    rows = logged(schema, 30)
    is_shown = np.arange(len(rows)) % ITEMS < 4
    impressions = impressions_of(schema, rows).filter(pa.array(is_shown))
    np.testing.assert_array_equal(found(schema, rows, impressions).impression != NONE, is_shown)


def test_the_scores_of_a_shadow_find_the_impression_of_the_answer_that_was_given():
    champion = logged(BY_ANSWER, 20)
    shadow = logged(BY_ANSWER, 20, role="shadow", model_version="v2", seed=3)
    rows = pa.concat_tables([champion, shadow])
    impression = found(BY_ANSWER, rows, impressions_of(BY_ANSWER, champion)).impression
    half = len(champion)
    np.testing.assert_array_equal(impression[:half], impression[half:])
    assert (impression != NONE).all()


def test_of_two_answers_to_one_request_the_later_one_has_the_impression():
    """A caller that asks again shows what it got last."""
    first = logged(BY_REQUEST, 1)
    later = first.set_column(
        first.column_names.index("answered_at"),
        "answered_at",
        pa.array(first["answered_at"].to_numpy() + np.timedelta64(2, "s")).cast(
            first["answered_at"].type
        ),
    )
    rows = pa.concat_tables([first, later, first])
    impression = found(BY_REQUEST, rows, impressions_of(BY_REQUEST, first)).impression
    assert [(part != NONE).all() for part in np.split(impression, 3)] == [False, True, False]


def moments(minutes, schema=BY_USER):
    """One row of one user and item, at each of some minutes."""
    rows = pa.concat_tables([logged(schema, 1).slice(0, 1)] * len(minutes))
    at = rows["timestamp"].to_numpy() + np.array(minutes, "timedelta64[m]")
    for name in ("timestamp", "answered_at"):
        column = pa.array(at).cast(rows[name].type)
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


@pytest.mark.parametrize(
    ("asked", "shown", "expected"),
    [
        ([0], [29], [0]),
        ([0], [31], [NONE]),
        ([40], [11], [0]),
        ([0], [-20, 10], [1]),
        ([10], [5, 18], [0]),
        ([10], [0, 20], [1]),  # as far: what is shown is shown after its answer
        ([0, 7], [8], [NONE, 0]),
        ([0, 100], [1, 101], [0, 1]),
        ([0], [], [NONE]),
    ],
)
def test_by_moments_the_nearest_impression_within_the_limit_is_found_once(asked, shown, expected):
    impressions = impressions_of(BY_USER, moments(shown or [0]), lag_seconds=0)
    impressions = impressions.slice(0, len(shown))
    assert list(found(BY_USER, moments(asked), impressions).impression) == expected


def test_rows_that_another_key_has_hashed_find_none_and_are_counted():
    mine, other = logged(BY_REQUEST, 4, hashed=KEY), IdHash(b"o" * 32)
    theirs = logged(BY_REQUEST, 2, first=4, hashed=other)
    plain = logged(BY_REQUEST, 3, first=6)
    impressions = impressions_of(BY_REQUEST, logged(BY_REQUEST, 9))
    rows = pa.concat_tables([mine, theirs, plain])
    result = found(BY_REQUEST, rows, impressions, hashed=KEY)
    assert result.num_other_key == 2 * ITEMS
    places = [*range(4 * ITEMS), *[NONE] * 2 * ITEMS, *range(6 * ITEMS, 9 * ITEMS)]
    assert list(result.impression) == places


@pytest.mark.parametrize(
    ("hashed", "named"), [(None, "not set"), (IdHash(b"o" * 32), IdHash(b"o" * 32).key_id)]
)
def test_a_log_whose_key_is_not_known_is_an_error_that_names_both(hashed, named):
    rows = logged(BY_REQUEST, 2, hashed=KEY)
    impressions = impressions_of(BY_REQUEST, logged(BY_REQUEST, 2))
    with pytest.raises(ValueError, match=f"RANKING_LOG_HASH_KEY: {named}.*{KEY.key_id}"):
        found(BY_REQUEST, rows, impressions, hashed=hashed)


def test_answers_are_found_by_their_id_without_the_key():
    rows = logged(BY_ANSWER, 3, hashed=KEY)
    impressions = impressions_of(BY_ANSWER, logged(BY_ANSWER, 3))
    assert list(found(BY_ANSWER, rows, impressions).impression) == [*range(3 * ITEMS)]


def test_impressions_with_nothing_to_join_by_are_an_error():
    tables = tuple(table for table in BY_USER.tables if table.role is not Role.USER)
    nobody = dataclasses.replace(BY_USER, user=None, tables=tables)
    with pytest.raises(ValueError, match="no answer_id, no request and no user"):
        way_of(nobody)
