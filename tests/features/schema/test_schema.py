import dataclasses

import pytest

from features.datasets.catalog import names, schema_of
from features.schema import Column, Dtype, Kind
from features.schema.fingerprints import impressions_fingerprint, rows_fingerprint

MOVIES = schema_of("movielens-100k")


def test_an_unknown_data_set_is_an_error_with_the_names_that_exist():
    with pytest.raises(ValueError, match=r"'movies': unknown.*open-bandit"):
        schema_of("movies")


def test_rewording_a_column_leaves_the_fingerprint():
    reworded = dataclasses.replace(MOVIES.item, doc="A motion picture.")
    assert dataclasses.replace(MOVIES, item=reworded).fingerprint() == MOVIES.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"history_length": 21},
        {"time_context": ("hour_of_day",)},
        {"item": dataclasses.replace(MOVIES.item, num_ids=2000)},
        {"labels": (dataclasses.replace(MOVIES.label, positive_from=3),)},
        {"tables": MOVIES.tables[:-1]},
    ],
)
def test_whatever_shapes_an_input_changes_the_fingerprint(change):
    assert dataclasses.replace(MOVIES, **change).fingerprint() != MOVIES.fingerprint()


LOVED = dataclasses.replace(MOVIES.label, name="loved", positive_from=5)


def test_a_label_may_be_renamed_and_another_is_for_features_to_count():
    renamed = dataclasses.replace(MOVIES.label, name="good")
    same = dataclasses.replace(MOVIES, labels=(renamed,), target="good")
    assert (same.fingerprint(), rows_fingerprint(same)) == (
        MOVIES.fingerprint(),
        rows_fingerprint(MOVIES),
    )
    both = dataclasses.replace(MOVIES, labels=(*MOVIES.labels, LOVED))
    assert (both.label, both.target) == (MOVIES.label, "liked")
    other = dataclasses.replace(both, target="loved")
    assert other.label is LOVED
    found = {one.fingerprint() for one in (MOVIES, both, other)}
    assert len(found | {rows_fingerprint(one) for one in (MOVIES, both, other)}) == 6


def test_a_sparse_column_names_exactly_one_way_to_its_table():
    with pytest.raises(ValueError, match="colour: 2 of vocabulary, num_ids, hash_size"):
        Column(name="colour", dtype=Dtype.STRING, kind=Kind.SPARSE, doc="x", num_ids=3, hash_size=4)


def test_a_column_may_be_declared_once_only():
    with pytest.raises(ValueError, match=r"'rating'.*declared twice"):
        dataclasses.replace(MOVIES, context=(MOVIES.stored[0],))


@pytest.mark.parametrize("name", names())
def test_every_schema_has_inputs_within_bounds_and_a_text_for_each_column(name: str):
    schema = schema_of(name)
    assert all(column.doc.endswith(".") or column.doc for column in schema.columns())
    assert len(schema.dense_kinds()) == len(schema.dense_inputs())
    for table in schema.tables:
        assert table.ttl is None or 1 <= table.ttl.days <= 366


def test_without_a_push_state_counts_when_daily_rows_do_and_the_schema_is_another():
    with_push = schema_of("movielens-100k", environment={})
    without = schema_of("movielens-100k", environment={"RANKING_PUSH": "off"})
    state, daily = without.table("user_state"), without.table("item_daily")
    assert (state.delay, state.counts_from_day_end) == (daily.delay, True)
    assert with_push.table("user_state").delay.total_seconds() == 60
    assert without.fingerprint() != with_push.fingerprint()
    assert without.dense_inputs() == with_push.dense_inputs()


def test_a_switch_of_the_push_that_is_neither_on_nor_off_is_an_error():
    with pytest.raises(ValueError, match="RANKING_PUSH: 'yes'; on or off"):
        schema_of("synthetic", environment={"RANKING_PUSH": "yes"})


TABLES = MOVIES.tables
TITLES = Column(name="item_id", dtype=Dtype.STRING, kind=Kind.SPARSE, hash_size=9, doc="The film.")
OTHER_DELAY = dataclasses.replace(TABLES[0], delay=2 * TABLES[0].delay)


@pytest.mark.parametrize(
    ("change", "rows", "impressions"),
    [
        ({"item": dataclasses.replace(MOVIES.item, num_ids=2000)}, False, False),
        ({"time_context": ("hour_of_day",)}, False, False),
        ({"holdout_days": 3}, False, False),
        ({"tables": TABLES[:-1]}, True, False),
        ({"tables": (OTHER_DELAY, *TABLES[1:])}, True, False),
        ({"history_length": 21}, True, False),
        ({"labels": (dataclasses.replace(MOVIES.label, positive_from=3),)}, True, False),
        ({"item": TITLES, "tables": TABLES[1:]}, True, True),
    ],
)
def test_rows_are_stale_when_what_is_stored_changes(change, rows, impressions):
    other = dataclasses.replace(MOVIES, **change)
    assert (rows_fingerprint(other) != rows_fingerprint(MOVIES)) is rows
    assert (impressions_fingerprint(other) != impressions_fingerprint(MOVIES)) is impressions
