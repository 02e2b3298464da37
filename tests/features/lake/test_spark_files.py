"""Spark writes and reads the same rows on a disk and in an object store, by one writer."""

import datetime
import itertools

import pyarrow.parquet as pq
import pytest

from features.lake.lake import Lake, day_range
from features.places import place

pytestmark = pytest.mark.spark

MONDAY = datetime.date(2025, 1, 6)
DAYS = day_range(MONDAY, MONDAY + datetime.timedelta(days=2))
COLUMNS = (
    "day date, id bigint, at timestamp, words array<string>, numbers array<bigint>, rate double, "
    "name string"
)


def frame(spark, *, rows=40):
    noon = datetime.datetime.combine(MONDAY, datetime.time(12), datetime.UTC)
    data = [
        (
            DAYS[number % 2],
            number,
            noon + datetime.timedelta(microseconds=number),
            [None, "é"] if number % 3 else None,
            [number, None],
            float("nan") if number % 5 == 0 else number / 7,
            None if number % 4 == 0 else f"name {number}",
        )
        for number in range(rows)
    ]
    return spark.createDataFrame(data, COLUMNS)


def written(spark, root, **how):
    lake = Lake(root, "d")
    return lake, lake.replace(frame(spark), "t", DAYS, keys=["id"], **how)


def test_content_and_rows_do_not_depend_on_the_place(spark, anywhere, tmp_path):
    lake, partitions = written(spark, anywhere)
    here, expected = written(spark, place(tmp_path / "here"))
    assert partitions == expected
    struct = frame(spark).drop("day").schema
    read = lake.read(spark, "t", struct, DAYS).orderBy("id")
    assert read.schema == here.read(spark, "t", struct, DAYS).schema
    names = read.columns
    wanted = here.read(spark, "t", struct, DAYS).orderBy("id").select(*names)
    assert repr(read.collect()) == repr(wanted.collect())
    assert read.where("id > 35").count() == 4
    assert read.count() == 40  # a filter that was pushed into a reader would stay
    assert [lake.manifest("t", day).rows for day in DAYS] == [20, 20, 0]


def test_a_large_day_has_several_files_whose_rows_depend_on_the_keys_alone(spark, anywhere):
    lake, once = written(spark, anywhere, files_per_day=3)
    files = {}
    for attempt in range(2):
        snapshot = lake.snapshot("t")
        files[attempt] = [
            pq.read_table(path, filesystem=snapshot.filesystem, partitioning=None)["id"].to_pylist()
            for path in snapshot.files(DAYS[0])
        ]
        shuffled = frame(spark).repartition(7)
        again = lake.replace(shuffled, "t", DAYS, keys=["id"], files_per_day=3)
        assert again == once
    assert files[0] == files[1]
    assert len(files[0]) == 3
    assert all(ids == sorted(ids) for ids in files[0])
    assert sorted(itertools.chain(*files[0])) == list(range(0, 40, 2))
    assert len(lake.snapshot("t").files(DAYS[2])) == 1
    assert written(spark, anywhere / "one")[1] == once


def test_the_log_says_who_wrote_from_which_versions(spark, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKING_RUN", "daily_ranking/scheduled__2025-01-06")
    lake = Lake(tmp_path, "d", job="build")
    lake.replace(frame(spark), "input", DAYS, keys=["id"])
    struct = frame(spark).drop("day").schema
    rows = lake.read(spark, "input", struct, DAYS)
    (part, *_) = lake.replace(rows, "t", DAYS, keys=["id"], fingerprint="print")
    said = lake.snapshot("t").history()[0]
    assert said["job"] == "build"
    assert said["run"] == "daily_ranking/scheduled__2025-01-06"
    assert said["inputs"] == {"input": 0}
    assert said["fingerprint"] == "print"
    assert said["content_hashes"][str(part.day)] == part.content_hash
    assert said["rows"] == {str(day): rows for day, rows in zip(DAYS, (20, 20, 0), strict=True)}


def test_a_table_is_read_by_spark_at_a_version(spark, anywhere):
    lake, _ = written(spark, anywhere)
    lake.replace(frame(spark, rows=1), "t", DAYS[:1], keys=["id"])
    path = str(lake.root / "t")
    source = spark.read.format("delta")
    assert source.load(path).count() == 21
    assert source.option("versionAsOf", 0).load(path).count() == 40


def test_a_candidate_is_read_before_any_version_names_it(spark, anywhere):
    lake, _ = written(spark, anywhere)
    staged = lake.stage(frame(spark, rows=4), "t", DAYS, keys=["id"])
    lake.put(staged, DAYS)
    struct = frame(spark).drop("day").schema
    found = Lake(anywhere, "d").candidate("t", DAYS)
    assert found == staged
    with lake.preview(found):
        assert lake.read(spark, "t", struct, DAYS).count() == 4
    assert lake.read(spark, "t", struct, DAYS).count() == 40
    assert lake.publish(found) == staged.partitions()
    lake.discard("t", DAYS)
    assert lake.read(spark, "t", struct, DAYS).count() == 4
    assert lake.candidate("t", DAYS) is None
