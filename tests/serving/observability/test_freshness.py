"""How old the endpoint says that its model and its rows are."""

import dataclasses
import datetime
import math
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import REGISTRY
from support.serving import stand_ins

from features.schema import Role
from serving.lookup.item_cache import HeldItems
from serving.lookup.snapshot import Snapshot
from serving.observability.freshness import NEWEST_ROW, show_champion
from serving.observability.request_metrics import show_newest_row
from serving.settings import Store

NAME = "of-freshness"
SCHEMA = dataclasses.replace(stand_ins.SCHEMA, name=NAME)
ENDED = dataclasses.replace(SCHEMA, last_day=datetime.date(2025, 6, 2))
NOON = 1_750_000_000.0


def shown(metric, **labels):
    return REGISTRY.get_sample_value(f"ranking_{metric}", {"model": NAME, **labels})


def rows(table, *moments):
    """Encoded rows, with the row that is all null last."""
    return SimpleNamespace(table=SCHEMA.table(table), moments=np.array([*moments, 0]) * 10**6)


@pytest.fixture(autouse=True)
def no_rows():
    NEWEST_ROW.clear()


def test_a_champion_is_as_old_as_its_day_and_without_one_the_model_is_not_ready():
    show_champion(SCHEMA, "2025-06-01-5f2c01ab", now=NOON)
    assert shown("model_ready") == 1
    end = datetime.datetime(2025, 6, 2, tzinfo=datetime.UTC).timestamp()
    assert shown("model_day_timestamp_seconds") == end
    assert shown("model_loaded_timestamp_seconds") == NOON
    show_champion(SCHEMA, None, now=NOON)
    assert shown("model_ready") == 0
    assert math.isnan(shown("model_day_timestamp_seconds"))
    assert math.isnan(shown("model_loaded_timestamp_seconds"))


@pytest.mark.parametrize(("schema", "version"), [(ENDED, "2025-06-01-a"), (SCHEMA, "by-hand")])
def test_without_a_day_or_of_a_log_that_has_ended_a_champion_has_no_age(schema, version):
    show_champion(schema, version, now=NOON)
    assert shown("model_ready") == 1
    assert math.isnan(shown("model_day_timestamp_seconds"))


def test_the_newest_row_is_shown_and_an_older_one_changes_nothing():
    newest = show_newest_row(SCHEMA, rows("user_state", 100, 300, 200))
    assert newest == 300
    assert show_newest_row(SCHEMA, rows("user_state", 250), at_least=newest) == 300
    assert show_newest_row(SCHEMA, rows("user_state"), at_least=newest) == 300
    assert shown("online_row_timestamp_seconds", table="user_state") == 300


def test_attributes_and_logs_that_have_ended_have_no_age():
    attributes = SCHEMA.tables[-1].name
    assert show_newest_row(SCHEMA, rows(attributes, 100)) == 0
    show_newest_row(ENDED, rows("item_daily", 100))
    assert shown("online_row_timestamp_seconds", table=attributes) is None
    assert shown("online_row_timestamp_seconds", table="item_daily") is None


def test_items_in_memory_have_the_age_of_their_newest_row():
    stored = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    ids = list("abcdef")
    held = HeldItems(Store(), equal_at=lambda: 0.0, schema=SCHEMA)
    held.hold(Snapshot.of(SCHEMA, ids, stored.read(Role.ITEM, ids)))
    newest = stand_ins.NOON.timestamp() + 1
    assert shown("online_row_timestamp_seconds", table="item_daily") == newest
