"""Attributes over time: what was known of an item at a moment stays what it was."""

import dataclasses
import datetime
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from features.pipeline import jobs
from features.pipeline.attributes import stage_attributes
from features.pipeline.materialize import materialize_days
from features.pipeline.point_in_time import join_as_of
from features.pipeline.workspace import Workspace
from features.schema import DAY, EVENT_TIMESTAMP, TableKind

pytestmark = pytest.mark.spark

ITEM = 3
UTC = datetime.UTC
ONE_DAY = datetime.timedelta(days=1)


@pytest.fixture(autouse=True)
def attributes_alone(build_alone):
    build_alone(TableKind.ATTRIBUTES)


@pytest.fixture
def landing(built, tmp_path):
    """A copy of what has landed, so that a price may change."""
    shutil.copytree(built.landing, tmp_path / "landing")
    return tmp_path / "landing"


def price_becomes(landing, price: float) -> None:
    file = landing / "synthetic" / "items.parquet"
    items = pq.read_table(file).to_pylist()
    for item in items:
        item["item_price"] = price if item["item_id"] == ITEM else item["item_price"]
    pq.write_table(pa.Table.from_pylist(items), file)


def build(work, landing, *days) -> dict[str, list]:
    """Build and publish; returns the days of each table."""
    staged = jobs.build(work, landing, days)
    jobs.publish_features(work, staged, days)
    return {one.table: one.days for one in staged}


def prices(work) -> list[tuple[datetime.datetime, float]]:
    """Of the item, from when each holds."""
    table = work.schema.table("item_attributes")
    rows = work.features(table, work.lake.days(table.name)).where(F.col("item_id") == ITEM)
    found = rows.orderBy(EVENT_TIMESTAMP).collect()
    return [(row[EVENT_TIMESTAMP].replace(tzinfo=UTC), row["item_price"]) for row in found]


def seen_at(work, day) -> datetime.datetime:
    """When the daily rows of a day count."""
    midnight = datetime.datetime.combine(day + ONE_DAY, datetime.time(), UTC)
    return midnight + work.schema.table("item_daily").delay


def test_a_price_that_changes_holds_from_then_on_and_the_rows_before_stay(
    work, built, landing, tmp_path
):
    *_, before, day = built.days
    ((epoch, old),) = prices(work)
    first = work.lake.manifest("item_attributes", work.schema.epoch)
    price_becomes(landing, old + 1)
    assert build(work, landing, before)["item_attributes"] == [before]
    assert work.lake.manifest("item_attributes", before).rows == 1
    assert work.lake.manifest("item_attributes", work.schema.epoch) == first
    assert prices(work) == [(epoch, old), (seen_at(work, before), old + 1)]
    assert "item_attributes" not in build(work, landing, day)
    # What a request sees: the price of its moment.
    table, moment = work.schema.table("item_attributes"), seen_at(work, before)
    asked = [(ITEM, moment - datetime.timedelta(microseconds=1)), (ITEM, moment)]
    queries = work.spark.createDataFrame(asked, "item_id bigint, at timestamp")
    rows = work.features(table, work.lake.days(table.name)).drop(DAY)
    joined = join_as_of(queries, rows, table, key="item_id", time="at").orderBy("at").collect()
    assert [row["item_price"] for row in joined] == [old, old + 1]


def test_where_nothing_is_computed_what_is_new_counts_from_the_end_of_the_day(work, landing, built):
    ((_, old),) = prices(work)
    price_becomes(landing, old + 1)
    table = work.schema.table("item_attributes")
    only = Workspace(work.spark, dataclasses.replace(work.schema, tables=(table,)), work.lake)
    work.lake.publish(stage_attributes(only, landing, table, [built.days[-1]]))
    midnight = datetime.datetime.combine(built.days[-1] + ONE_DAY, datetime.time(), UTC)
    assert prices(only)[1:] == [(midnight, old + 1)]


def test_the_same_build_again_and_one_of_an_earlier_day_change_no_history(work, built, landing):
    earlier, *_, day = built.days
    ((_, old),) = prices(work)
    price_becomes(landing, old + 1)
    build(work, landing, day)
    known = prices(work)
    version = work.lake.manifest("item_attributes", day)
    build(work, landing, day)
    assert work.lake.manifest("item_attributes", day) == version
    price_becomes(landing, old + 2)
    assert "item_attributes" not in build(work, landing, earlier)
    assert prices(work) == known


def test_the_store_gets_the_newest_attributes(work, built, landing, monkeypatch):
    day = built.days[-1]
    ((_, old),) = prices(work)
    price_becomes(landing, old + 1)
    build(work, landing, day)
    offered = {}
    monkeypatch.setattr("features.pipeline.materialize.open_store", lambda *_: None)
    monkeypatch.setattr(
        "features.pipeline.materialize.write",
        lambda _store, table, frame: offered.update({table.name: frame}),
    )
    materialize_days(work, landing, [day])
    items = offered["item_attributes"].set_index("item_id")
    # The row before is offered too: it counts until the new one does.
    assert sorted(items.loc[ITEM, "item_price"]) == [old, old + 1]
    assert len(items) == 61


def test_another_schema_keeps_the_history_of_attributes_that_it_has_too(work, built, landing):
    day = built.days[-1]
    ((_, old),) = prices(work)
    price_becomes(landing, old + 1)
    build(work, landing, day)
    known = prices(work)
    longer = dataclasses.replace(work.schema, history_length=work.schema.history_length + 1)
    other = Workspace(work.spark, longer, work.lake)
    table = longer.table("item_attributes")
    staged = stage_attributes(other, landing, table, [day])
    work.lake.publish(staged)
    assert prices(other) == known
    fewer = dataclasses.replace(table, columns=table.columns[:1])
    tables = tuple(fewer if one is table else one for one in longer.tables)
    other = Workspace(work.spark, dataclasses.replace(longer, tables=tables), work.lake)
    staged = stage_attributes(other, landing, fewer, [day])
    assert [part.rows for part in staged.partitions()] == [60, 0]
