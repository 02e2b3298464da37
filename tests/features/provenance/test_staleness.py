"""What is stale after a change: the days that it touches, each with the input that has changed."""

import dataclasses

import pytest
from support.features.made_lake import DAYS, MadeLake
from support.labels.orders_log import FILE

from features.datasets.catalog import schema_of
from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW, READMITTED
from features.provenance import inputs as provenance
from features.provenance.inputs import inputs_of, raw_tables
from features.provenance.known import Made
from features.provenance.staleness import (
    AGAIN,
    Reason,
    changes,
    current_days,
    following,
    stale_days,
)
from features.schema.fingerprints import rows_fingerprint

COMPUTED = ("user_state", "item_daily")
EVENTS = "labels_order"
DAY, LATER = DAYS[3], DAYS[3:]
FROM_THE_DAY = {**dict.fromkeys(COMPUTED, LATER), EXAMPLES: LATER}


@pytest.fixture
def lake():
    return MadeLake(schema_of("synthetic"))


@pytest.fixture
def orders(monkeypatch):
    """Of a data set whose label comes later: an order within 36 hours, known 2 days later."""
    monkeypatch.setenv("RANKING_SCHEMAS", str(FILE))
    return MadeLake(schema_of("orders"))


def assert_mended(lake) -> None:
    """Only the stale days made again, everything is as if all were."""
    lake.make([(table, day) for table, days in lake.stale().items() for day in days])
    assert lake.stale() == {}
    mended = lake.contents()
    lake.make(lake.keys())
    assert lake.contents() == mended


def test_nothing_is_stale_of_what_nothing_has_changed(lake, orders):
    assert (lake.stale(), orders.stale()) == ({}, {})


def test_a_file_that_landed_again_touches_its_day_and_all_that_goes_on_from_it(lake):
    lake.files[IMPRESSIONS_RAW, DAY] = "again"
    assert lake.stale() == {IMPRESSIONS_RAW: [DAY], IMPRESSIONS: [DAY], **FROM_THE_DAY}
    (raw, checked, *_) = stale_days(lake.schema, lake.known, landed=lake.landed)
    assert raw.reasons == [Reason("landed", "as first", "again")]
    ((name, was, now),) = [dataclasses.astuple(one) for one in checked.reasons]
    before = lake.made[IMPRESSIONS_RAW][DAY].content
    assert (name, was, now) == (f"{IMPRESSIONS_RAW} {DAY}", before, AGAIN)
    assert_mended(lake)


def test_the_same_rows_again_touch_nothing_but_their_own_day(lake):
    """A file with the same rows in other bytes: once it is taken, nothing follows."""
    lake.files[IMPRESSIONS_RAW, DAY] = "again"
    was = lake.made[IMPRESSIONS_RAW][DAY]
    taken = {**was.inputs, **lake.landed(IMPRESSIONS_RAW, DAY)}
    lake.made[IMPRESSIONS_RAW][DAY] = dataclasses.replace(was, inputs=taken)
    assert lake.stale() == {}


def test_an_event_touches_features_from_its_day_on_and_examples_of_a_window_before(orders):
    raw = f"{EVENTS}_raw"
    orders.files[raw, DAY] = "again"
    assert orders.stale() == {
        raw: [DAY],
        EVENTS: [DAY],
        **dict.fromkeys(COMPUTED, LATER),
        EXAMPLES: [day for day in DAYS[1:] if day <= DAYS[-1 - orders.schema.maturity_days]],
    }
    assert_mended(orders)


def test_impressions_may_be_nearer_to_an_event_of_an_earlier_one(orders):
    orders.files[IMPRESSIONS_RAW, DAYS[5]] = "again"
    found = orders.stale()
    assert (found["user_state"][0], found[EXAMPLES][0]) == (DAYS[5], DAYS[3])
    assert_mended(orders)


def test_a_correction_counts_as_another_input_whatever_its_rows_are(lake):
    was = lake.made[IMPRESSIONS][DAY]
    corrected = dataclasses.replace(was, content=f"{was.content} since 2025-04-01T00:00:00")
    lake.made[IMPRESSIONS][DAY] = corrected
    assert lake.stale() == FROM_THE_DAY
    (reason,) = changes(lake.schema, lake.known, EXAMPLES, DAY)
    assert reason == Reason(f"{IMPRESSIONS} {DAY}", was.content, corrected.content)


def test_rows_that_are_readmitted_touch_their_day(lake):
    lake.made[READMITTED] = {DAY: Made("changes of rows")}
    assert lake.stale() == {IMPRESSIONS: [DAY], **FROM_THE_DAY}
    (reason, *_) = changes(lake.schema, lake.known, IMPRESSIONS, DAY)
    assert reason == Reason(f"{READMITTED} {DAY}", "none", "changes of rows")
    assert_mended(lake)


@pytest.mark.parametrize(
    ("code", "first"), [("ingest", 0), ("checks", 1), ("features", 2), ("examples", 4)]
)
def test_another_version_of_code_touches_every_day_that_it_made(lake, monkeypatch, code, first):
    monkeypatch.setitem(provenance.CODE_VERSIONS, code, 2)
    tables = [IMPRESSIONS_RAW, IMPRESSIONS, *COMPUTED, EXAMPLES]
    assert lake.stale() == dict.fromkeys(tables[first:], DAYS)
    assert Reason("code", "1", "2") in changes(lake.schema, lake.known, tables[first], DAY)
    assert_mended(lake)


def test_a_limit_that_moves_rows_into_quarantine_touches_what_was_checked_by_it(lake):
    context = lake.schema.context
    moved = dataclasses.replace(context[0], vocabulary=(*context[0].vocabulary, "fridge"))
    schema = dataclasses.replace(lake.schema, context=(moved, *context[1:]))
    found = lake.stale(schema)
    assert IMPRESSIONS_RAW not in found
    assert found[IMPRESSIONS] == found["user_state"] == DAYS
    assert [one.input for one in changes(schema, lake.known, IMPRESSIONS, DAY)] == ["rules"]


def test_features_of_another_schema_touch_features_and_leave_the_log(lake):
    schema = lake.schema.without_push()
    assert lake.stale(schema) == dict.fromkeys([*COMPUTED, EXAMPLES], DAYS)
    (reason, *_) = changes(schema, lake.known, "user_state", DAY)
    before, after = rows_fingerprint(lake.schema), rows_fingerprint(schema)
    assert reason == Reason("schema", before, after)


def test_attributes_of_a_day_touch_examples_from_then_on(lake):
    lake.made["item_attributes"] = {DAYS[0]: Made("a")}
    lake.make(lake.keys())
    lake.made["item_attributes"][DAYS[5]] = Made("b")
    assert lake.stale() == {EXAMPLES: DAYS[5:]}


def test_what_retention_has_removed_makes_nothing_stale(lake, orders):
    for one in (lake, orders):
        for table in (*raw_tables(one.schema), IMPRESSIONS, *COMPUTED):
            for day in DAYS[:2]:
                one.files.pop((table, day), None)
                del one.made[table][day]
        assert one.stale() == {}


def test_a_table_that_began_is_stale_once_earlier_days_are_there(lake):
    """Its first day has counted nothing that came before."""
    for table in (IMPRESSIONS, *COMPUTED):
        lake.made[table] = {day: made for day, made in lake.made[table].items() if day > DAYS[0]}
    lake.make([(table, day) for table in COMPUTED for day in DAYS[1:]])
    assert "user_state" not in lake.stale()
    lake.make([(IMPRESSIONS, DAYS[0])])
    assert lake.stale()["user_state"] == DAYS[1:]


def test_days_of_which_nothing_was_recorded_are_not_known_to_be_current(lake):
    was = lake.made["user_state"][DAY]
    lake.made["user_state"][DAY] = dataclasses.replace(was, inputs=None)
    (reason,) = changes(lake.schema, lake.known, "user_state", DAY)
    assert str(reason) == "inputs unknown"
    assert DAY not in current_days(lake.schema, lake.known, ["user_state"], DAYS)


def test_current_days_are_there_and_would_come_out_the_same(lake):
    tomorrow = DAYS[-1] + (DAYS[1] - DAYS[0])
    days = [*DAYS, tomorrow]
    assert current_days(lake.schema, lake.known, COMPUTED, days) == DAYS
    lake.files[IMPRESSIONS_RAW, DAY] = "again"
    found = current_days(lake.schema, lake.known, [IMPRESSIONS_RAW], days, landed=lake.landed)
    assert found == [day for day in DAYS if day != DAY]


def test_what_follows_from_a_day_is_what_would_be_stale_without_what_is_stale_anyway(lake):
    found = following(lake.schema, lake.known, [(IMPRESSIONS_RAW, DAY)])
    assert found == {IMPRESSIONS: [DAY], **FROM_THE_DAY}


def test_days_that_are_made_together_each_go_on_from_the_one_before(lake):
    from features.lake.day_rows import Partition
    from features.provenance.inputs import inputs_of_staged

    parts = [
        Partition("user_state", day, 1, lake.made["user_state"][day].content) for day in DAYS[2:5]
    ]
    together = inputs_of_staged(lake.schema, lake.known, "user_state", parts)
    alone = {day: inputs_of(lake.schema, lake.known, "user_state", day) for day in DAYS[2:5]}
    assert together == alone
