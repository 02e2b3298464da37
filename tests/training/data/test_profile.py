"""A profile has the distributions of some rows by slice, always in the same bytes, and no row."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from support.training.artifacts import random_rows
from support.training.written_examples import DAY_OF_ROWS, written_examples

from features.datasets.catalog import schema_of
from training.artifact.reference import example_rows
from training.data.profile import LABEL, ROWS, SCORE, Key, Profile, profile_rows
from training.data.sampled_rows import is_drawn, sampled_rows
from training.data.sketches import Categories, Numbers, Share

SCHEMA = schema_of("synthetic")
COUNT = 2_000


def scores(inputs):
    return np.linspace(0, 1, len(inputs), dtype=np.float32)


@pytest.fixture(scope="module")
def table():
    return random_rows(SCHEMA, COUNT)


@pytest.fixture(scope="module")
def sketches(table):
    return profile_rows(SCHEMA, example_rows(SCHEMA, table, score=scores))


def test_each_input_is_there_but_the_day_of_the_week_and_the_user(sketches):
    of_all = {key.feature for key in sketches if key.slice == "all"}
    inputs = {*SCHEMA.dense_inputs(), *(column.name for column in SCHEMA.sparse_inputs())}
    assert of_all == inputs - {"day_of_week", "user_id"} | {SCORE, LABEL}


def test_slices_follow_from_the_schema(sketches, table):
    slices = {key.slice for key in sketches}
    assert {"all", "new users", "device = phone", "user_segment = segment-3"} <= slices
    share = sketches[Key("device = phone", ROWS)].share
    assert share == (np.array(table["device"]) == "phone").mean()


def test_missing_and_unknown_categories_are_counted_apart(table):
    names = np.array(["phone", "unheard of", None, "phone"] * (COUNT // 4), dtype=object)
    index = table.column_names.index("device")
    changed = table.set_column(index, "device", pa.array(names.tolist(), pa.string()))
    found = profile_rows(SCHEMA, example_rows(SCHEMA, changed))[Key("all", "device")]
    assert isinstance(found, Categories)
    assert (found.missing, found.unknown, found.counts.tolist()) == (500.0, 500.0, [1000.0])


def test_a_table_without_a_row_is_a_share_and_its_numbers_are_missing(sketches, table):
    gone = table["user_state__event_timestamp"].null_count / COUNT
    found = sketches[Key("all", "user_state_missing")]
    assert isinstance(found, Share)
    assert found.share == pytest.approx(gone)


def test_a_slice_has_its_own_distribution(sketches, table):
    own = np.array(table["item_price"])[np.array(table["device"]) == "phone"]
    found = sketches[Key("device = phone", "item_price")]
    assert isinstance(found, Numbers)
    assert found.quantiles(np.array([0.5]))[0] == pytest.approx(np.median(own), rel=0.02)


def test_what_is_written_is_read_and_the_order_of_the_rows_does_not_matter(table):
    def written(rows):
        return Profile({"day": "x"}, profile_rows(SCHEMA, example_rows(SCHEMA, rows))).to_bytes()

    backwards = table.take(pa.array(np.arange(COUNT)[::-1]))
    content = written(table)
    assert content == written(backwards)
    read = Profile.from_bytes(content)
    assert (read.about, read.to_bytes()) == ({"day": "x"}, content)


def test_what_is_no_profile_is_refused(table):
    with pytest.raises(ValueError, match="profile: cannot be read"):
        Profile.from_bytes(b"PAR1")


def test_weights_stand_for_rows(table):
    rows = example_rows(SCHEMA, table)
    twice = dataclasses.replace(rows, weight=np.where(rows.label == 1, 2.0, 1.0))
    positives = float(rows.label.sum())
    found = profile_rows(SCHEMA, twice)[Key("all", LABEL)]
    assert found.share == pytest.approx(2 * positives / (COUNT + positives))


def test_a_sample_is_always_the_same_rows_of_about_the_share(tmp_path):
    examples = written_examples(tmp_path, num_rows=2_000, row_group=500)
    drawn = sampled_rows(examples, [DAY_OF_ROWS], most=500)
    again = sampled_rows(examples, [DAY_OF_ROWS], most=500)
    assert drawn.equals(again)
    assert 400 < len(drawn) < 600
    assert len(sampled_rows(examples, [DAY_OF_ROWS], most=5_000)) == 2_000
    assert sampled_rows(examples, [], most=500) is None


def test_a_larger_sample_has_the_rows_of_a_smaller_one():
    ids = np.arange(10_000)
    small, large = is_drawn(ids, 0.1), is_drawn(ids, 0.3)
    assert small.mean() == pytest.approx(0.1, abs=0.02)
    assert (large | ~small).all()
