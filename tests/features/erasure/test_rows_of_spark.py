"""Rows that Spark has written: hashes without a user, and what lands of one who was erased."""

import datetime

import pyarrow as pa
import pytest
from support.erasure import planted
from support.erasure.planted import GONE, STAYS

from features.erasure import rows
from features.erasure.marks import TableMarks
from features.erasure.person import person_of
from features.lake.candidate import candidate
from features.lake.erased import Erased, hash_key, id_hash, put_erased
from features.lake.lake import Lake
from features.lake.snapshot import snapshot
from features.places import place
from features.spark.erased_rows import without_erased

DAY = datetime.date(2025, 3, 1)
NOON = datetime.datetime(2025, 3, 1, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def schema(tmp_path):
    return planted.schema_in(tmp_path)


def landed(spark, users):
    """Rows with a value of each type that a table has, some null, and lists that name users."""
    found = {
        "visitor": pa.array(users, pa.string()),
        "timestamp": pa.array([NOON + n * HOUR for n in range(len(users))]).cast(
            pa.timestamp("us", tz="UTC")
        ),
        "amount": pa.array(
            [None if n % 3 == 0 else n / 7 for n in range(len(users))], pa.float64()
        ),
        "items": pa.array([[n, n + 1] if n % 2 else [] for n in range(len(users))]),
        "buyer_visitor": pa.array([[one for one in (STAYS,) if n % 2] for n in range(len(users))]),
        "buyer_age": pa.array([[n] if n % 2 else [] for n in range(len(users))]),
        "source_file": pa.array([f"file {n}" for n in range(len(users))]),
        "day": pa.array([DAY] * len(users), pa.date32()),
    }
    return spark.createDataFrame(pa.table(found))


def test_a_day_without_a_user_has_the_hash_of_a_day_that_never_had_one(spark, schema, tmp_path):
    users = [STAYS, GONE, None, STAYS, GONE, "other"]
    frame = landed(spark, users)
    lake = Lake(place(tmp_path), "visits")
    keys = {"keys": ["timestamp"], "files_per_day": 2}
    (before,) = lake.replace(frame, "impressions", [DAY], **keys)
    (expected,) = lake.replace(
        frame.where(f"visitor is null or visitor != '{GONE}'"), "expected", [DAY], **keys
    )
    root = place(tmp_path) / "visits"
    marks = TableMarks(person_of(schema, GONE), "impressions")
    found = snapshot(root / "impressions")
    made = rows.spark_hash_sums(lambda: spark, found.schema_json)
    (after,) = rows.without_rows(found, [DAY], marks, hash_sums_of=made, metadata={})
    assert before.content_hash != after.content_hash == expected.content_hash
    now = snapshot(root / "impressions")
    assert now.partition(DAY).content_hash == expected.content_hash
    # Whoever writes these rows again, the day stands for what it was; other rows are others.
    assert now.partition(DAY).stands_for == before.content_hash
    without, again = (
        frame.where(f"visitor is null or visitor != '{GONE}'"),
        Lake(place(tmp_path), "visits"),
    )
    staged = again.stage(without, "impressions", [DAY], **keys)
    staged.put(root, [DAY])
    (left,) = candidate(root, "impressions", [DAY]).partitions()
    assert (left.content_hash, left.stands_for) == (after.content_hash, before.content_hash)
    (whole,) = again.stage(frame, "impressions", [DAY], **keys).partitions()
    assert (whole.content_hash, whole.stands_for) == (before.content_hash, "")
    by_moment = [("timestamp", "ascending")]
    expected_rows = snapshot(root / "expected").read(DAY).sort_by(by_moment)
    assert now.read(DAY).sort_by(by_moment).equals(expected_rows)


def test_rows_with_a_shorter_list_have_the_hash_that_spark_would_give_them(spark, schema, tmp_path):
    lake = Lake(place(tmp_path), "visits")
    frame = landed(spark, ["a", "b", "c"])
    lake.replace(frame, "examples", [DAY], keys=["timestamp"])
    without = frame.withColumns(
        {name: _emptied(frame, name) for name in ("buyer_visitor", "buyer_age")}
    )
    (expected,) = lake.replace(without, "expected", [DAY], keys=["timestamp"])
    found = snapshot(place(tmp_path) / "visits" / "examples")
    made = rows.spark_hash_sums(lambda: spark, found.schema_json)
    marks = TableMarks(person_of(schema, STAYS), "examples")
    (after,) = rows.without_rows(found, [DAY], marks, hash_sums_of=made, metadata={})
    assert after.content_hash == expected.content_hash
    assert after.rows == 3


def _emptied(frame, name):
    from pyspark.sql import functions as F

    return F.filter(F.col(name), lambda _: F.lit(False))


def test_what_lands_of_an_erased_user_is_left_out_up_to_the_moment(spark, schema, tmp_path):
    from pyspark.sql import functions as F

    lake, frame = place(tmp_path) / "visits", landed(spark, [GONE, STAYS, GONE, None, GONE])
    assert without_erased(frame, lake, schema) is frame
    one = Erased(
        id_hash=id_hash(hash_key(lake), GONE),
        until=NOON + 2 * HOUR,
    )
    put_erased(lake, one)
    left = without_erased(frame, lake, schema)
    assert left.columns == frame.columns
    # The last one is of a person who has come back.
    assert [row.visitor for row in left.orderBy("timestamp").collect()] == [STAYS, None, GONE]
    unread = frame.withColumn("timestamp", F.lit(None).cast("timestamp"))
    assert GONE not in [row.visitor for row in without_erased(unread, lake, schema).collect()]
    attributes = without_erased(frame, lake, schema, have_moments=False)
    assert [row.visitor for row in attributes.orderBy("timestamp").collect()] == [STAYS, None]


def test_a_list_of_erased_users_that_cannot_be_read_stops_what_lands(spark, schema, tmp_path):
    lake = place(tmp_path) / "visits"
    (lake / "_erased").mkdir(parents=True)
    (lake / "_erased" / "x.json").write_text("{")
    with pytest.raises(ValueError, match=r"erased user .*x.json: cannot be read"):
        without_erased(landed(spark, [STAYS]), lake, schema)
