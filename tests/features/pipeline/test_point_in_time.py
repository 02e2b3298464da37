"""The as-of join against its definition, and against Feast's own point-in-time join."""

import dataclasses
import datetime
import random

import pytest
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType, TimestampType

from features.datasets.catalog import schema_of
from features.lake.lake import Lake
from features.online_store import feast_store
from features.pipeline import point_in_time
from features.pipeline.point_in_time import join_as_of
from features.schema import CREATED, DAY, EVENT_TIMESTAMP, TableKind
from features.spark.session import feature_struct

pytestmark = pytest.mark.spark

UTC = datetime.UTC
HOUR = datetime.timedelta(hours=1)
START = datetime.datetime(2025, 1, 1, tzinfo=UTC)
SCHEMA = schema_of("synthetic")
TABLE = dataclasses.replace(SCHEMA.table("item_daily"), ttl=24 * HOUR)
AS_STATE = dataclasses.replace(TABLE, kind=TableKind.STATE)
QUERIES = StructType(
    [
        StructField("number", LongType()),
        StructField("item_id", LongType()),
        StructField("at", TimestampType()),
    ]
)


@pytest.fixture(params=["running maximum", "by moment", "by moment, spread"])
def table(request, monkeypatch):
    """The declaration that leads to each of the ways to join."""
    if request.param == "by moment, spread":
        monkeypatch.setattr(point_in_time, "_BROADCAST_VALUES", 0)
    return AS_STATE if request.param == "running maximum" else TABLE


def drawn_rows(seed: int, rows: int = 80) -> list[tuple]:
    """Feature rows with ties, gaps, delays and corrections: (item, event, created, value)."""
    random_ = random.Random(seed)
    found = {}
    for value in range(rows):
        item, event = random_.randrange(3), START + random_.randrange(96) * HOUR
        found[item, event, event + random_.choice([0, 1, 1, 5]) * HOUR] = value
        if random_.random() < 0.3:  # a correction of the same event, published later
            found[item, event, event + random_.randrange(6, 40) * HOUR] = value + 1000
    return [(*key, value) for key, value in found.items()]


def drawn_queries(seed: int, rows: int = 60) -> list[tuple]:
    random_ = random.Random(seed + 1)
    return [
        (number, random_.randrange(4), START + random_.randrange(120) * HOUR)
        for number in range(rows)
    ]


def feature_frame(spark, rows):
    struct = feature_struct(SCHEMA, TABLE)
    width = len(TABLE.columns)
    filled = [
        (item, event, created, value, *[None] * (width - 1)) for item, event, created, value in rows
    ]
    return spark.createDataFrame(filled, struct)


def expected(rows, queries, ttl) -> dict[int, int | None]:
    answers = {}
    for number, item, at in queries:
        usable = [
            (event, created, value)
            for key, event, created, value in rows
            if key == item and event <= at and created <= at
        ]
        newest = max(usable, default=None)
        expired = newest is not None and at - newest[0] > ttl
        answers[number] = None if newest is None or expired else newest[2]
    return answers


def ours(spark, rows, queries, table, since=None) -> dict[int, int | None]:
    asked, known = spark.createDataFrame(queries, QUERIES), feature_frame(spark, rows)
    joined = join_as_of(asked, known, table, key="item_id", time="at", since=since)
    found = joined.select("number", TABLE.columns[0].name).collect()
    assert len(found) == len(queries)
    return {row[0]: row[1] for row in found}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_query_gets_the_newest_row_it_could_have_known(spark, table, seed):
    rows, queries = drawn_rows(seed), drawn_queries(seed)
    assert ours(spark, rows, queries, table) == expected(rows, queries, table.ttl)


def test_what_was_replaced_before_the_first_query_may_be_left_out(spark, table):
    rows, since = drawn_rows(4), START + 48 * HOUR
    queries = [(number, item, at) for number, item, at in drawn_queries(4) if at >= since]
    assert ours(spark, rows, queries, table, since) == expected(rows, queries, table.ttl)


def test_without_rows_every_query_stays_and_has_none(spark, table):
    assert ours(spark, [], drawn_queries(5), table) == dict.fromkeys(range(60))


def test_the_queries_of_one_item_of_a_daily_table_stay_spread(spark, table):
    """A window by item would put them all into one task."""
    queries = [(number, 1, START + number * HOUR) for number in range(64)]
    asked = spark.createDataFrame(queries, QUERIES).repartition(4)
    known = feature_frame(spark, [(1, START, START, 5)])
    joined = join_as_of(asked, known, table, key="item_id", time="at")
    found = joined.select(F.spark_partition_id(), table.columns[0].name).collect()
    assert (len({task for task, _ in found}) == 1) == (table is AS_STATE)


def test_tied_rows_do_not_multiply_a_query(spark, table):
    rows = [(1, START, START, 5), (1, START, START, 6)]
    assert ours(spark, rows, [(0, 1, START + HOUR)], table) == {0: 6}


@pytest.mark.parametrize(("hours", "value"), [(24, 5), (25, None)])
def test_a_row_is_usable_until_exactly_its_time_to_live(spark, table, hours, value):
    asked = [(0, 1, START + hours * HOUR)]
    assert ours(spark, [(1, START, START, 5)], asked, table) == {0: value}


def test_a_correction_is_seen_from_the_moment_it_was_available(spark, table):
    rows = [(1, START, START, 5), (1, START, START + 10 * HOUR, 6)]
    queries = [(0, 1, START + 9 * HOUR), (1, 1, START + 10 * HOUR)]
    assert ours(spark, rows, queries, table) == {0: 5, 1: 6}


def test_feast_gives_the_same_rows(spark, tmp_path):
    """Feast's join with its created-timestamp cut-off is the oracle."""
    seed = 7
    rows, queries = drawn_rows(seed, rows=60), drawn_queries(seed, rows=40)
    schema = dataclasses.replace(SCHEMA, tables=(TABLE,))
    lake = Lake(tmp_path / "lake", schema.name)
    frame = feature_frame(spark, rows).withColumn(DAY, F.to_date(EVENT_TIMESTAMP))
    days = sorted({event.date() for _, event, _, _ in rows})
    lake.replace(frame, TABLE.name, days, keys=["item_id", EVENT_TIMESTAMP, CREATED])
    feast_store.apply(schema, tmp_path / "feast", tmp_path / "lake")
    feast = feast_store.open_store(schema, tmp_path / "feast")
    asked = spark.createDataFrame(queries, QUERIES).withColumnRenamed("at", "event_timestamp")
    answer = feast.get_historical_features(
        asked.toPandas(),
        [f"{TABLE.name}:{TABLE.columns[0].name}"],
        filter_by_created_timestamp=True,
    ).to_spark_df()
    theirs = {row["number"]: row[TABLE.columns[0].name] for row in answer.collect()}
    assert len(theirs) == len(queries)
    for table in (TABLE, AS_STATE):
        assert ours(spark, rows, queries, table) == theirs
