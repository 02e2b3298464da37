"""What a push builds on, without Spark."""

import dataclasses
import datetime
import threading
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pytest
from support.features.declared import with_affinity

from features.datasets.catalog import schema_of
from features.lake.day_file import replace_day
from features.lake.lake import IMPRESSIONS, ONE_DAY, Lake
from features.online_store.codec import STAMP
from features.pipeline import jobs
from features.pipeline.workspace import Workspace
from features.push import follow, push_day
from features.push.freshness import Freshness
from features.runbooks import RunbookError

SCHEMA = schema_of("synthetic")
TABLES = (IMPRESSIONS, "user_state", "item_daily")
DAY = SCHEMA.first_day + 3 * ONE_DAY
"""The newest that is built."""


@pytest.fixture
def work(tmp_path):
    lake = Lake(tmp_path / "lake", SCHEMA.name)
    for number in range(4):
        for table in TABLES:
            build(lake, table, SCHEMA.first_day + number * ONE_DAY)
    return Workspace(SimpleNamespace(conf={"spark.sql.shuffle.partitions": "1"}), SCHEMA, lake)


def build(lake, table: str, day: datetime.date) -> None:
    """A partition without rows."""
    rows = pa.table({"n": pa.array([], pa.int64())})
    replace_day(lake.root / table, day, [rows])


def test_a_day_that_is_built_again_is_read_again(work, tmp_path, monkeypatch):
    """Else a push would go on from rows that are replaced, or from files that are gone."""
    begun = []
    monkeypatch.setattr(push_day.LandedUsers, "_begin", lambda self, day: begun.append(day))
    landed = push_day.LandedUsers(work, tmp_path / "landing")

    def polls() -> int:
        begun.clear()
        assert landed.poll(lambda newest: newest) is None
        return len(begun)

    assert [polls(), polls()] == [1, 0]
    build(work.lake, "user_state", DAY)
    assert [polls(), polls()] == [1, 0]
    build(work.lake, "item_daily", DAY)
    assert polls() == 0
    build(work.lake, "user_state", DAY + ONE_DAY)
    assert polls() == 1
    assert begun == [DAY + 2 * ONE_DAY]


def test_attributes_that_states_keep_are_read_again_where_they_are_published_later(
    work, tmp_path, monkeypatch
):
    begun = []
    monkeypatch.setattr(push_day.LandedUsers, "_begin", lambda self, day: begun.append(day))
    kept = dataclasses.replace(work, schema=with_affinity("item_category"))
    for some in (work, kept):
        landed = push_day.LandedUsers(some, tmp_path / "landing")
        for table in ("user_attributes", "item_attributes"):
            landed.poll(lambda newest: newest)
            build(work.lake, table, SCHEMA.epoch)
            landed.poll(lambda newest: newest)
    assert begun == 3 * [DAY + ONE_DAY]


def test_a_first_day_that_leaves_a_gap_is_an_error(work, tmp_path):
    push_day.LandedUsers(work, tmp_path, first_day=DAY)
    push_day.LandedUsers(work, tmp_path, first_day=DAY + ONE_DAY)
    with pytest.raises(RunbookError, match=f"{DAY + ONE_DAY} is missing") as caught:
        push_day.LandedUsers(work, tmp_path, first_day=DAY + 2 * ONE_DAY)
    assert caught.value.summary == {"runbook": "day-missing"}


class Stored:
    """A store that was brought back from a copy: it has the users of ``there`` alone."""

    def __init__(self):
        self.there = {}

    def write(self, _store, _table, rows):
        self.there = dict(zip(rows["user_id"], rows["event_timestamp"], strict=True))

    def version(self, _role):
        return 1

    def read(self, _role, ids):
        found = [self.there.get(one) for one in ids]
        return {SCHEMA.table("user_state").timestamp_column: pa.array(found, STAMP)}


def test_a_store_that_has_lost_the_end_of_a_write_is_noticed(work, tmp_path, monkeypatch):
    """Whichever row is the newest: of two users the second is written last."""
    stored = Stored()
    monkeypatch.setattr(follow, "open_rows", lambda *_, **__: stored)
    monkeypatch.setattr(follow, "open_store", lambda *_: stored)
    monkeypatch.setattr(follow, "write", stored.write)
    target = follow.Target(work, tmp_path)
    moments = pd.to_datetime(["2025-01-05T10:05", "2025-01-05T10:00"], utc=True)
    target.write(pd.DataFrame({"user_id": [1, 2], "event_timestamp": moments}))
    target.require_rows()
    del stored.there[2]
    with pytest.raises(follow.LostRowsError):
        target.require_rows()


class Landed:
    """Landed files, and a lake whose days are of another schema until they are rebuilt."""

    def __init__(self):
        self.is_stale = True

    def poll(self, _clock):
        if self.is_stale:
            raise RunbookError("table user_state: another schema", runbook="schema-changed")
        rows = pd.DataFrame({"user_id": [1]})
        return push_day.Batch(files=(), impressions=1, rows=rows, until=NOW)


NOW = datetime.datetime(2025, 1, 5, tzinfo=datetime.UTC)


def test_a_lake_of_another_schema_does_not_end_a_push_that_follows(work, tmp_path, caplog):
    """In the local stack the endpoint would end with it."""
    landed, written = Landed(), []
    target = SimpleNamespace(require_rows=lambda: None, write=written.append)
    measured = Freshness(
        delay_seconds=60, mark=tmp_path / "mark", alerts=tmp_path, dataset=SCHEMA.name
    )
    running = follow.Follower(work, landed, target, measured, lambda newest: newest)
    assert [running.poll(), running.poll()] == [False, False]
    assert caplog.text.count("lake: table user_state: another schema; retried") == 1
    landed.is_stale = False
    assert running.poll()
    assert len(written) == 1


def test_a_push_that_follows_shows_ages_after_each_poll(work, tmp_path):
    """After: the poll has seen the newest versions of the lake."""
    stopped, seen = threading.Event(), []
    landed = SimpleNamespace(poll=lambda _clock: seen.append("poll"))
    target = SimpleNamespace(require_rows=lambda: None)

    def look(today):
        seen.append(type(today))
        stopped.set()

    measured = Freshness(
        delay_seconds=60, mark=tmp_path / "mark", alerts=tmp_path, dataset=SCHEMA.name
    )
    running = follow.Follower(
        *(work, landed, target, measured, lambda newest: newest), SimpleNamespace(look=look)
    )
    running.run(stopped, interval_seconds=0)
    assert seen == ["poll", datetime.date]


def test_files_that_land_while_the_lake_is_rebuilt_are_found_at_the_next_poll(
    work, tmp_path, monkeypatch
):
    """Attributes may be of another schema when the states are of this one already."""
    asked = []

    def read_parts(_spark, _landing, paths):
        asked.append(paths)
        raise RunbookError("table item_attributes: another schema", runbook="schema-changed")

    reader = SimpleNamespace(read_parts=read_parts, landed_since=lambda *_: ["a", "b"])
    monkeypatch.setattr(push_day, "reader_of", lambda _schema: reader)
    monkeypatch.setattr(push_day.LandedUsers, "_begin", lambda *_: None)
    landed = push_day.LandedUsers(work, tmp_path)
    for _ in range(2):
        with pytest.raises(RunbookError, match="item_attributes"):
            landed.poll(lambda newest: newest)
    assert asked == [["a", "b"], ["a", "b"]]


def test_attributes_are_published_before_the_states_that_a_push_follows(monkeypatch):
    for name in ("drop_ends_of_days", "write_end_of_day", "discard_build"):
        monkeypatch.setattr(jobs, name, lambda *_: None)
    published = []
    lake = SimpleNamespace(publish=lambda one: published.append(one.table) or [])
    staged = [SimpleNamespace(table=table.name, days=[DAY]) for table in SCHEMA.tables]
    jobs.publish_features(Workspace(None, SCHEMA, lake), staged, [DAY])
    assert published == ["user_attributes", "item_attributes", "user_state", "item_daily"]
