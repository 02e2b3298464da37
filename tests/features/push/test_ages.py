"""The moments of which a rule makes ages: of landed days, and of the days of the lake's tables."""

import dataclasses
import datetime
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet
import pytest
from prometheus_client import REGISTRY

from features.datasets.catalog import schema_of
from features.lake.day_file import replace_day
from features.lake.lake import EXAMPLES, IMPRESSIONS, ONE_DAY, Lake
from features.pipeline.workspace import Workspace
from features.push import ages
from features.push.ages import Ages

SCHEMA = schema_of("synthetic")
FIRST = datetime.date(2026, 1, 5)
NEXT = datetime.datetime(2026, 1, 6, tzinfo=datetime.UTC).timestamp()
"""The end of the first day."""
DAY = 86_400


@pytest.fixture(autouse=True)
def no_ages():
    """Metrics are of the process, and so of all tests."""
    ages.BUILT.clear()
    ages.LANDED.clear()


@pytest.fixture
def work(tmp_path):
    lake = Lake(tmp_path / "lake", SCHEMA.name)
    for table in (IMPRESSIONS, "user_state", EXAMPLES):
        replace_day(lake.root / table, FIRST, [pa.table({"n": pa.array([], pa.int64())})])
    return Workspace(SimpleNamespace(), SCHEMA, lake)


def shown() -> dict[str, float]:
    """The end of the newest day by table, and of what has landed."""
    tables = [*ages.daily_tables(SCHEMA), "item_attributes"]
    labels = {"model": SCHEMA.name}
    found = {
        table: REGISTRY.get_sample_value(
            "ranking_lake_day_timestamp_seconds", {**labels, "table": table}
        )
        for table in tables
    }
    found["landed"] = REGISTRY.get_sample_value("ranking_landed_day_timestamp_seconds", labels)
    return {name: value for name, value in found.items() if value is not None}


def land(folder, day):
    path = folder / SCHEMA.name / "impressions" / f"{day}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table({"n": [1]}), path)


def test_the_newest_day_of_each_table_is_shown_and_the_newest_that_has_landed(work, tmp_path):
    landing = tmp_path / "landing"
    looking = Ages(work, landing)
    looking.look(FIRST + ONE_DAY)
    assert shown() == dict.fromkeys((IMPRESSIONS, "user_state", EXAMPLES, "landed"), NEXT)
    land(landing, FIRST + 2 * ONE_DAY)
    looking.look(FIRST + 2 * ONE_DAY)
    assert shown()["landed"] == NEXT  # a look a minute
    Ages(work, landing).look(FIRST + ONE_DAY)
    assert shown()["landed"] == NEXT  # a day of tomorrow cannot have landed
    Ages(work, landing).look(FIRST + 2 * ONE_DAY)
    assert shown() == {**dict.fromkeys((IMPRESSIONS, "user_state", EXAMPLES), NEXT), **shown()}
    assert shown()["landed"] == NEXT + 2 * DAY


def test_examples_are_as_old_as_their_final_labels(work, tmp_path):
    shop = schema_of("synthetic-shop")
    later = dataclasses.replace(work, schema=dataclasses.replace(shop, name=SCHEMA.name))
    Ages(later, tmp_path).look(FIRST)
    assert shop.maturity_days > 0
    assert shown()[EXAMPLES] == NEXT + shop.maturity_days * DAY
    assert shown()[IMPRESSIONS] == NEXT


def test_a_log_that_has_ended_has_no_ages(work, tmp_path):
    ended = dataclasses.replace(SCHEMA, last_day=FIRST)
    Ages(dataclasses.replace(work, schema=ended), tmp_path).look(FIRST)
    assert shown() == {}


def test_a_lake_that_cannot_be_read_ends_nothing(work, tmp_path, monkeypatch, caplog):
    def broken(_table):
        raise OSError("bucket: refused")

    monkeypatch.setattr(work.lake, "days", broken)
    Ages(work, tmp_path).look(FIRST)
    assert caplog.messages == ["ages: not known: bucket: refused"]
