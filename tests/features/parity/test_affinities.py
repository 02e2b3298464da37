"""An affinity is made of two tables: what differs in one is no encoder's fault in the other.

Every user liked the newer of two items, which was blue, and each item is red.
"""

import dataclasses

import numpy as np
import pytest
from support.features.planted_log import DATE, SCHEMA, good_lake, good_log, write_lake, write_log

from features.parity import comparison
from features.parity.causes import Cause
from features.parity.comparison import compare
from features.parity.logged import Window, sample
from features.schema import Column, Dtype, Kind
from features.schema.derived_tables import user_state

_, DAILY, ATTRIBUTES = SCHEMA.tables
COLOURS = Column(
    name="item_colours",
    dtype=Dtype.STRING_LIST,
    kind=Kind.SPARSE,
    hash_size=100,
    max_length=4,
    doc="Colours.",
)
STATE = user_state(
    item=SCHEMA.item,
    label=SCHEMA.label,
    history_length=5,
    ttl=SCHEMA.tables[0].ttl,
    delay=SCHEMA.tables[0].delay,
    affinities=[COLOURS.name],
    attributes={COLOURS.name: COLOURS},
)
ITEMS = dataclasses.replace(ATTRIBUTES, columns=(*ATTRIBUTES.columns, COLOURS))
LIKING = dataclasses.replace(SCHEMA, tables=(STATE, DAILY, ITEMS))
(AFFINITY,) = LIKING.affinities
KEPT = {
    AFFINITY.values: ["red", "blue"],
    AFFINITY.counts: [1, 1],
    AFFINITY.labels: [0, 1],
}
MADE_OF = {*AFFINITY.stored, COLOURS.name}


@pytest.fixture
def rows():
    lake = good_lake()
    for table, own in (("user_state", KEPT), ("item_attributes", {COLOURS.name: ["red"]})):
        for of_day in lake[table].values():
            for row in of_day:
                row.update(own)
    return lake


@pytest.fixture
def logged(rows):
    own = {**KEPT, COLOURS.name: ["red"], "schema_fingerprint": LIKING.fingerprint()}
    return [row | own for row in good_log(rows)]


@pytest.fixture
def compared(tmp_path, rows):
    def run(logged):
        write_log(tmp_path / "log", logged, LIKING)
        found = sample(tmp_path / "log", LIKING.name, Window(DATE), max_candidates=1_000)
        return compare(LIKING, write_lake(tmp_path / "lake", rows, LIKING), found, None)

    return run


def causes(found):
    return {
        (one.feature, cause): weight
        for one in found.tallies
        for cause, weight in one.by_cause.items()
    }


def test_a_clean_log_has_no_mismatch(compared, logged):
    found = compared(logged)
    assert (found.mismatched, found.not_logged, found.not_judged) == (0, [], {})


def test_another_attribute_is_no_fault_of_the_encoder_of_the_users_row(compared, logged):
    logged[0][COLOURS.name] = ["blue"]
    found = compared(logged)
    assert causes(found) == {(COLOURS.name, Cause.UNEXPLAINED): 2}
    assert {one.feature for one in found.tallies if one.encoded} == {COLOURS.name}


def test_another_history_is_no_fault_of_the_encoder_of_the_attribute(compared, logged):
    logged[0][AFFINITY.values] = ["blue", "red"]
    assert causes(compared(logged)) == {(AFFINITY.values, Cause.UNEXPLAINED): 2}


@pytest.mark.parametrize("of", [STATE, ITEMS])
def test_where_one_table_is_not_judged_the_other_is_and_without_the_affinity(
    compared, rows, logged, of
):
    """Users are judged when their day is built, and attributes when the daily tables are."""
    if of is STATE:
        del rows["user_state"][DATE]
    else:
        rows["item_daily"] = {}
    found = compared(logged)
    assert of.name in found.not_judged
    assert causes(found) == {}
    assert {one.compared for one in found.tallies} == {0, 10}


def test_equal_values_of_both_tables_and_another_affinity_are_the_encoders_fault(
    compared, logged, monkeypatch
):
    real = comparison.differing_inputs

    def another(served, wanted, schema):
        found = real(served, wanted, schema)
        return found | {AFFINITY.column.name: np.ones(len(served), dtype=np.bool_)}

    monkeypatch.setattr(comparison, "differing_inputs", another)
    logged[0][COLOURS.name] = ["blue"]
    found = causes(compared(logged))
    assert found.pop((COLOURS.name, Cause.UNEXPLAINED)) == 2
    assert found == {(name, Cause.ENCODER): 8 for name in MADE_OF}
