"""The online store: newest rows win, pushes equal the daily build, rows expire as offline."""

import dataclasses
import datetime
import json

import pytest
from pyspark.sql import functions as F

from features.__main__ import main
from features.lake.lake import Lake
from features.online_store import feast_store
from features.online_store.reader import open_rows
from features.pipeline import materialize
from features.pipeline.availability import declared_availability
from features.pipeline.workspace import Workspace
from features.places import place
from features.push import push_day
from features.schema import Role
from serving.lookup.item_cache import ItemRefresh
from serving.settings import Store

pytestmark = pytest.mark.spark

UTC = datetime.UTC
SECOND = datetime.timedelta(seconds=1)


@pytest.fixture(scope="module")
def work(spark, built):
    return Workspace(spark, built.schema, Lake(built.lake, built.schema.name))


@pytest.fixture
def feast(work, tmp_path):
    feast_store.apply(work.schema, tmp_path, work.lake.root.parent)
    return feast_store.open_store(work.schema, tmp_path)


def test_running_an_old_day_again_leaves_the_newer_values_online(work, feast, built, tmp_path):
    materialize.materialize_days(work, tmp_path, built.days[-1:])
    reader = open_rows(work.schema, tmp_path, timeout_seconds=5)
    newest = reader.read(Role.ITEM, list(range(60)))
    materialize.materialize_days(work, tmp_path, built.days[:1])
    assert reader.read(Role.ITEM, list(range(60))) == newest
    # The day before answers until the last day's rows may be counted on.
    last, before = (midnight(day + datetime.timedelta(days=1)) for day in built.days[:-3:-1])
    moments = newest["item_daily__event_timestamp"].to_pylist()
    assert set(moments[:60]) - {None} == {last}
    assert set(moments[60:]) == {before}


def test_a_large_day_is_brought_online_by_tasks_with_the_same_rows(
    work, feast, built, tmp_path, monkeypatch
):
    other = tmp_path / "other"
    feast_store.apply(work.schema, other, work.lake.root.parent)
    day = built.days[-1:]
    written = materialize.materialize_days(work, tmp_path, day)
    monkeypatch.setattr(materialize, "ROWS_OF_A_TASK", 50)
    assert materialize.materialize_days(work, other, day) == written
    here, there = (
        open_rows(work.schema, place(store), timeout_seconds=5) for store in (tmp_path, other)
    )
    for role, ids in ((Role.ITEM, range(60)), (Role.USER, range(150))):
        assert there.read(role, list(ids)) == here.read(role, list(ids))


def midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), UTC)


class LakeUntil(Lake):
    """A lake of which only the days until one are built yet."""

    def __init__(self, lake: Lake, last: datetime.date) -> None:
        super().__init__(lake.root.parent, lake.root.name)
        self.last = last

    def days(self, table):
        return [day for day in super().days(table) if day <= self.last]


def newest_states(work, days, until: datetime.datetime) -> dict[int, tuple]:
    """Of each user the newest row of the daily build that is true by a moment."""
    rows = work.features(work.schema.table("user_state"), days).where(
        F.col("event_timestamp") <= F.lit(until)
    )
    names = ("event_timestamp", "user_impressions_all", "user_labelled_all", "user_history_labels")
    newest = rows.groupBy("user_id").agg(F.max(F.struct(*names)).alias("r"))
    return {row["user_id"]: tuple(row["r"]) for row in newest.collect()}


def pushed_states(schema, folder, users) -> dict[int, tuple]:
    found = open_rows(schema, folder, timeout_seconds=5).read(Role.USER, users)
    names = ("user_impressions_all", "user_labelled_all", "user_history_labels")
    moments = [m.replace(tzinfo=None) if m else None for m in stamps(found)[: len(users)]]
    columns = [found[name].to_pylist()[: len(users)] for name in names]
    return dict(zip(users, zip(moments, *columns, strict=True), strict=True))


def stamps(found):
    return found["user_state__event_timestamp"].to_pylist()


@pytest.mark.parametrize(
    ("built_until", "at"), [(2, (3, 13, 37)), (1, (3, 0, 20))], ids=["noon", "before the build"]
)
def test_a_push_has_every_landed_day_that_is_not_built_yet(
    work, feast, built, tmp_path, built_until, at
):
    """At noon that is today; after midnight, until the nightly build, yesterday too."""
    day, hour, minute = at
    until = datetime.datetime.combine(built.days[day], datetime.time(hour, minute), UTC)
    lake = LakeUntil(work.lake, built.days[built_until])
    partly = dataclasses.replace(work, lake=lake)
    push_day.push_until(partly, built.landing, tmp_path, until=until)
    expected = newest_states(work, built.days, until)
    first = midnight(built.days[built_until + 1]).replace(tzinfo=None)
    touched = [user for user, row in expected.items() if row[0] >= first]
    assert len(touched) > 20
    assert pushed_states(work.schema, tmp_path, touched) == {u: expected[u] for u in touched}


def test_a_store_that_was_never_applied_is_an_error(work, tmp_path):
    with pytest.raises(ValueError, match=r"registry.db: does not exist"):
        open_rows(work.schema, tmp_path / "nowhere", timeout_seconds=5)


def test_without_a_push_a_users_row_counts_from_the_nightly_hour(spark, work):
    table = work.schema.without_push().table("user_state")
    moments = ["2025-01-02 00:00:00", "2025-01-02 23:59:59.999999"]
    rows = spark.createDataFrame([(one,) for one in moments], "text string").select(
        F.to_timestamp("text").alias("event_timestamp")
    )
    found = rows.select(declared_availability(table)).collect()
    nightly = datetime.datetime(2025, 1, 3) + work.schema.table("item_daily").delay  # noqa: DTZ001
    assert [row[0] for row in found] == [nightly, nightly]


@pytest.mark.parametrize(("at_hour", "day"), [(0.5, 1), (1.0, 2)])
def test_a_finished_day_that_is_online_answers_from_its_hour(
    work, feast, built, tmp_path, at_hour, day
):
    """Brought online at half past midnight, to be counted on from one o'clock."""
    materialize.materialize_days(work, tmp_path, built.days[:3])
    at = midnight(built.days[3]) + datetime.timedelta(hours=at_hour)
    items = ItemRefresh(work.schema, open_rows(work.schema, tmp_path, timeout_seconds=5), Store())
    items.look()
    snapshot = items().snapshot
    part = snapshot.tables["item_daily"].part(
        snapshot.rows(list(range(60))), round(at.timestamp() * 1_000_000)
    )
    moments = set(part.column("item_daily__event_timestamp").to_pylist()) - {None}
    assert moments == {midnight(built.days[day] + datetime.timedelta(days=1))}


@pytest.mark.parametrize(
    ("dataset", "switch", "reason"),
    [("open-bandit", "on", "no users"), ("synthetic", "off", "RANKING_PUSH=off")],
)
def test_a_push_without_a_purpose_is_skipped_with_the_reason(
    dataset, switch, reason, monkeypatch, capsys
):
    monkeypatch.setenv("RANKING_PUSH", switch)
    assert main(["push", f"--dataset={dataset}"]) == 99
    assert reason in json.loads(capsys.readouterr().out)["skipped"]
