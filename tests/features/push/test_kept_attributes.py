"""States that keep attributes of items: day by day, made again and pushed, they are the same."""

import dataclasses
import datetime
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.features.declared import with_affinity

from features.lake.lake import IMPRESSIONS, ONE_DAY, Lake
from features.pipeline import jobs
from features.pipeline.aggregates import midnight
from features.pipeline.workspace import Workspace
from features.provenance.known import KnownLake
from features.provenance.staleness import stale_days
from features.push.push_day import LandedUsers
from features.spark import landing as land
from features.validation import checks

pytestmark = pytest.mark.spark

CHANGED, BAD = 3, 4
"""Items: of one the category changes, that of the other is none of the known ones."""
TABLES = ("user_state", "item_attributes")


@pytest.fixture
def work(spark, built, tmp_path):
    """A lake of impressions alone."""
    schema = with_affinity("item_category")
    few = dataclasses.replace(schema, tables=tuple(map(schema.table, TABLES)))
    lake = Lake(tmp_path / "lake", schema.name)
    shutil.copytree(built.lake / schema.name / IMPRESSIONS, str(lake.root / IMPRESSIONS))
    return Workspace(spark, few, lake)


def land_items(work, built, landing, categories: dict[int, str]) -> None:
    file = landing / work.schema.name / "items.parquet"
    items = pq.read_table(built.landing / work.schema.name / file.name).to_pylist()
    for item in items:
        item["item_category"] = categories.get(item["item_id"], item["item_category"])
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(items), file)


def take(work, landing, days) -> dict[datetime.date, str]:
    """Build and check; returns a hash of the states of each built day."""
    jobs.build(work, landing, days)
    outcomes = checks.check_features(work, days, landing.parent / "reports")
    assert not any(outcome.critical for outcome in outcomes)
    assert stale_days(work.schema, KnownLake(work.lake)) == []
    built = work.lake.days("user_state")
    return {day: work.lake.manifest("user_state", day).content_hash for day in built}


def kept(rows) -> dict[int, set[tuple[str, ...]]]:
    """By item the categories that histories have of it."""
    found = {}
    for row in rows:
        values = iter(row["user_history_item_category"])
        counts = row["user_history_item_category_counts"]
        for item, count in zip(row["user_history_item_ids"], counts, strict=True):
            found.setdefault(item, set()).add(tuple(next(values) for _ in range(count)))
    return found


def test_an_item_that_changes_and_one_in_quarantine_count_the_same_however_states_are_made(
    work, built, tmp_path
):
    landing, (first, second, third) = tmp_path / "landing", built.days[:3]
    name, state = work.schema.name, work.schema.table("user_state")
    land_items(work, built, landing, {BAD: "nowhere"})
    take(work, landing, [first])
    assert work.lake.manifest("quarantine_item_attributes", work.schema.epoch).rows == 1
    ((old,),) = kept(work.features(state, [first]).collect())[CHANGED]
    new = "category-1" if old == "category-0" else "category-0"
    land_items(work, built, landing, {BAD: "nowhere", CHANGED: new})
    take(work, landing, [second])
    landed = land.impressions_file(landing / name, third, "parquet")
    landed.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(land.impressions_file(built.landing / name, third, "parquet"), landed)
    users = LandedUsers(work, landing)
    last_moment = midnight(third + ONE_DAY) - datetime.timedelta(microseconds=1)
    pushed = users.poll(lambda _newest: last_moment).rows
    states = take(work, landing, [third])
    rows = work.features(state, [third]).toPandas()
    found = kept(rows.to_dict("records"))
    assert found[BAD] == {()}
    assert found[CHANGED] == {(old,), (new,)}
    assert_are_among(pushed, rows, [column.name for column in state.columns])
    assert take(work, landing, [first, second, third]) == states


def assert_are_among(pushed, rows, names) -> None:
    pushed["event_timestamp"] = pushed["event_timestamp"].dt.tz_localize(None)
    both = pushed.merge(rows, on=["user_id", "event_timestamp"], suffixes=("", "_built"))
    assert len(both) == len(pushed) > 50
    for name in names:
        assert [*map(str, both[name])] == [*map(str, both[f"{name}_built"])], name
