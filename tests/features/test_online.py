"""The online store: newest rows win, pushes equal the daily build, rows expire as offline."""

import dataclasses
import datetime

import pandas as pd
import pytest
from pyspark.sql import functions as F

from features import jobs, online, store
from features.encoding import RowStatus, epoch_microseconds, row_status
from features.schema import Role
from features.tables import Lake

pytestmark = pytest.mark.spark

UTC = datetime.UTC
SECOND = datetime.timedelta(seconds=1)


@pytest.fixture(scope="module")
def work(spark, built):
    return jobs.Workspace(spark, built.schema, Lake(built.lake, built.schema.name))


@pytest.fixture
def feast(work, tmp_path):
    store.apply(work.schema, tmp_path, work.lake.root.parent)
    return store.open_store(work.schema, tmp_path, work.lake.root.parent)


def state_row(schema, moment: datetime.datetime, impressions: int) -> pd.DataFrame:
    table = schema.table("user_state")
    values = {
        "user_id": 5,
        "event_timestamp": moment,
        "created": moment + table.delay,
        **{column.name: 0 for column in table.columns},
        "user_impressions_all": impressions,
        "user_history_item_ids": [[1, 2]],
        "user_history_labels": [[0, 1]],
    }
    return pd.DataFrame({k: v if isinstance(v, list) else [v] for k, v in values.items()})


def test_an_older_row_never_replaces_a_newer_one(work, feast, tmp_path):
    table = work.schema.table("user_state")
    noon = datetime.datetime(2025, 1, 3, 12, 0, 0, 500_000, tzinfo=UTC)
    microsecond = datetime.timedelta(microseconds=1)
    reader = store.OnlineFeatures.open(work.schema, tmp_path)
    for moment, impressions, expected in (
        (noon, 7, 7),
        (noon - microsecond, 6, 7),
        (noon + microsecond, 8, 8),
        (noon + microsecond, 9, 9),
    ):
        store.push(feast, table, state_row(work.schema, moment, impressions))
        found = reader.read(Role.USER, [5, 6])
        assert found["user_impressions_all"].to_pylist() == [expected, None]
    assert found["user_state__event_timestamp"].to_pylist() == [noon + microsecond, None]
    assert found["user_history_item_ids"].to_pylist() == [[1, 2], None]


def test_running_an_old_day_again_leaves_the_newer_values_online(work, feast, built, tmp_path):
    online.materialize_days(work, tmp_path, built.days[-1:])
    reader = store.OnlineFeatures.open(work.schema, tmp_path)
    newest = reader.read(Role.ITEM, list(range(60)))
    online.materialize_days(work, tmp_path, built.days[:1])
    assert reader.read(Role.ITEM, list(range(60))) == newest
    midnight = datetime.datetime.combine(built.days[-1], datetime.time(), UTC)
    expected = midnight + datetime.timedelta(days=1)
    assert set(newest["item_daily__event_timestamp"].to_pylist()) - {None} == {expected}


def test_a_push_writes_the_rows_of_the_daily_build_that_are_countable_by_then(
    work, feast, built, tmp_path
):
    table, day = work.schema.table("user_state"), built.days[3]
    until = datetime.datetime.combine(day, datetime.time(13, 37), UTC)
    online.push_until(work, built.landing, tmp_path, until=until)
    countable = work.features(table, built.days).where(F.col("created") <= F.lit(until))
    midnight = datetime.datetime.combine(day, datetime.time(), UTC)
    touched = countable.where(F.col("created") > F.lit(midnight)).select("user_id").distinct()
    newest = (
        countable.join(touched, "user_id")
        .groupBy("user_id")
        .agg(
            F.max(
                F.struct("event_timestamp", "user_impressions_all", "user_history_item_ids")
            ).alias("r")
        )
    )
    expected = {row["user_id"]: tuple(row["r"]) for row in newest.collect()}
    assert len(expected) > 20
    found = store.OnlineFeatures.open(work.schema, tmp_path).read(Role.USER, list(expected))
    columns = ("user_state__event_timestamp", "user_impressions_all", "user_history_item_ids")
    seen = zip(*(found[name].to_pylist() for name in columns), strict=True)
    assert {
        user: (moment.replace(tzinfo=None), *rest)
        for user, (moment, *rest) in zip(expected, seen, strict=True)
    } == expected


def test_a_second_push_goes_on_where_the_first_ended(work, feast, built, tmp_path):
    first = datetime.datetime.combine(built.days[3], datetime.time(6), UTC)
    online.push_until(work, built.landing, tmp_path, until=first)
    later = online.push_until(work, built.landing, tmp_path, until=first + 3600 * SECOND)
    assert later["since"] == first.isoformat()
    again = online.push_until(work, built.landing, tmp_path, until=first)
    assert again["rows"] == 0


@pytest.mark.parametrize(("late", "status"), [(0, RowStatus.USABLE), (1, RowStatus.EXPIRED)])
def test_online_rows_expire_when_offline_rows_do(work, feast, tmp_path, late, status):
    table = dataclasses.replace(work.schema.table("user_state"))
    noon = datetime.datetime(2025, 1, 3, 12, tzinfo=UTC)
    store.push(feast, table, state_row(work.schema, noon, 1))
    found = store.OnlineFeatures.open(work.schema, tmp_path).read(Role.USER, [5])
    import pyarrow as pa

    now = pa.array([noon + table.ttl + late * SECOND], pa.timestamp("us", "UTC"))
    stamps = found[table.timestamp_column]
    assert row_status(table, stamps, epoch_microseconds(now)).tolist() == [status]


def test_a_store_that_was_never_applied_is_refused(work, tmp_path):
    with pytest.raises(ValueError, match=r"registry.db: does not exist"):
        store.OnlineFeatures.open(work.schema, tmp_path / "nowhere")
