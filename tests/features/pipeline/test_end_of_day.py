"""States at the end of a day: what a day reads of the days before, and when they are made again."""

import datetime
import shutil

import pytest
from pyspark.sql import functions as F
from support.lake_rows import UNLEARNT

from features.lake.lake import EXAMPLES, ONE_DAY, Lake
from features.pipeline import jobs
from features.pipeline.end_of_day import settled_day, write_end_of_day
from features.pipeline.retention import prune
from features.pipeline.workspace import Workspace
from features.schema import TableKind
from features.schema.derived_tables import end_of_day_table

pytestmark = pytest.mark.spark


@pytest.fixture
def work(spark, built, tmp_path):
    """The built lake, copied, so that a test may change it."""
    shutil.copytree(built.lake, tmp_path / "lake", symlinks=True, ignore=UNLEARNT)
    return Workspace(spark, built.schema, Lake(tmp_path / "lake", built.schema.name))


@pytest.fixture
def state(built):
    return built.schema.table("user_state")


@pytest.fixture
def ended(state):
    return end_of_day_table(state)


@pytest.fixture(autouse=True)
def states_alone(build_alone):
    """No other table has ends of days."""
    build_alone(TableKind.STATE)


def published(work, built, days, **options):
    """A build, live without a check."""
    jobs.publish_features(work, jobs.build(work, built.landing, days, **options), days)


def hashes(work, *days):
    tables = ("user_state", EXAMPLES)
    return {(t, d): work.lake.manifest(t, d).content_hash for t in tables for d in days}


def test_a_day_reads_the_end_of_the_day_before_and_no_older_states(work, built, state, ended):
    *_, third, before, last = built.days
    expected = hashes(work, last)
    for day in (third, before):
        write_end_of_day(work, state, day)
    assert work.lake.days(ended.name)[-3:] == [third, before, last]
    work.lake.remove(state.name, [day for day in built.days if day < before])
    published(work, built, [last])
    jobs.examples(work, [last])
    assert settled_day(state, last) == third
    assert hashes(work, last) == expected


def test_a_lake_without_ends_of_days_gives_the_same_rows_and_the_end_of_its_day(work, built, ended):
    last = built.days[-1]
    expected, first = hashes(work, last), work.lake.manifest(ended.name, last)
    work.lake.remove(ended.name, [last])
    published(work, built, [last])
    jobs.examples(work, [last])
    assert hashes(work, last) == expected
    assert work.lake.manifest(ended.name, last).content_hash == first.content_hash


def test_the_end_of_a_day_has_each_user_of_the_time_to_live_once(work, built, state, ended):
    last = built.days[-1]
    users = work.features(state, built.days).select("user_id").distinct().count()
    rows = work.features(ended, [last])
    assert rows.count() == rows.select("user_id").distinct().count() == users
    newest = work.features(state, built.days).agg(F.max("event_timestamp")).first()
    assert rows.agg(F.max("event_timestamp")).first() == newest


def test_a_correction_that_counts_later_leaves_what_was_published(work, built, state, ended):
    """A later day builds on what was known by then, whichever way it reads the days before."""
    before, last = built.days[-2:]
    noon = datetime.datetime.combine(last, datetime.time(12), datetime.UTC)
    published(work, built, [before], available_at=noon)
    users = work.features(ended, [before]).groupBy("user_id").count().select("count")
    assert {row[0] for row in users.distinct().collect()} == {1, 2}
    for moment in (None, noon, noon + datetime.timedelta(hours=1)):
        found = built_hash(work, built, last, moment)
        work.lake.remove(ended.name, [before])
        assert built_hash(work, built, last, moment) == found
        write_end_of_day(work, state, before)


def built_hash(work, built, day, moment) -> str:
    """Of the states of a build that is not published."""
    staged = jobs.build(work, built.landing, [day], available_at=moment)
    (states,) = next(one for one in staged if one.table == "user_state").partitions()
    return states.content_hash


def test_rows_that_are_replaced_take_the_ends_of_their_day_and_later_ones_along(
    work, built, state, ended
):
    *_, before, last = built.days
    published(work, built, [before])
    assert work.lake.days(ended.name) == [before]
    write_end_of_day(work, state, last)
    good = work.features(state, [before]).where(F.col("user_id") != 1).cache()
    good.count()
    staged = work.stage(good, state.name, [before], keys=["user_id"])
    jobs.publish_features(work, [staged], [before])
    assert work.lake.days(ended.name) == [before]


def test_retention_keeps_two_days_of_them(work, built, state, ended):
    for day in built.days[-4:]:
        write_end_of_day(work, state, day)
    removed = prune(work.schema, work.lake.root.parent, today=built.days[-1], keep_days=400)
    assert removed[ended.name]["days"] == 1
    work.lake.refresh()
    assert work.lake.days(ended.name)[0] == built.days[-1] - 2 * ONE_DAY
