"""Partitions are replaced whole, or not at all, and their hash depends on the rows alone."""

import datetime
import os
import signal
import textwrap

import pytest
from support import forks

from features.lake.lake import Lake, day_range

pytestmark = pytest.mark.spark

MONDAY = datetime.date(2025, 1, 6)


def rows(spark, days, values):
    data = [(day, f"id-{value}", [value], float(value)) for day in days for value in values]
    return spark.createDataFrame(data, "day date, id string, list array<int>, value double")


def read(spark, lake, table, days):
    struct = "id string, list array<int>, value double"
    frame = lake.read(spark, table, spark.createDataFrame([], struct).schema, days)
    return sorted(row["id"] for row in frame.collect())


def test_writing_twice_with_other_partitions_and_order_gives_the_same_hash(spark, tmp_path):
    lake = Lake(tmp_path, "d")
    first = lake.replace(rows(spark, [MONDAY], range(50)), "t", [MONDAY], keys=["id"])
    shuffled = rows(spark, [MONDAY], reversed(range(50))).repartition(7)
    spark.conf.set("spark.sql.shuffle.partitions", "5")
    second = lake.replace(shuffled, "t", [MONDAY], keys=["id"])
    spark.conf.set("spark.sql.shuffle.partitions", "2")
    assert first == second
    changed = lake.replace(rows(spark, [MONDAY], range(1, 51)), "t", [MONDAY], keys=["id"])
    assert changed[0].content_hash != first[0].content_hash


def test_replacing_a_day_leaves_the_others_and_an_empty_day_is_a_partition(spark, tmp_path):
    lake = Lake(tmp_path, "d")
    days = day_range(MONDAY, MONDAY + datetime.timedelta(days=2))
    lake.replace(rows(spark, days[:2], [1, 2]), "t", days, keys=["id"])
    assert [lake.manifest("t", day).rows for day in days] == [2, 2, 0]
    lake.replace(rows(spark, days[:1], [3]), "t", days[:1], keys=["id"])
    assert read(spark, lake, "t", days) == ["id-1", "id-2", "id-3"]
    assert lake.days("t") == days


def test_rows_of_another_day_are_an_error_and_nothing_changes(spark, tmp_path):
    lake = Lake(tmp_path, "d")
    lake.replace(rows(spark, [MONDAY], [1]), "t", [MONDAY], keys=["id"])
    tuesday = MONDAY + datetime.timedelta(days=1)
    with pytest.raises(ValueError, match="outside the days to replace"):
        lake.replace(rows(spark, [tuesday], [2]), "t", [MONDAY], keys=["id"])
    assert read(spark, lake, "t", [MONDAY]) == ["id-1"]


def test_an_absent_partition_is_named_with_what_there_is(tmp_path):
    with pytest.raises(ValueError, match=r"t/day=2025-01-06: not in .*no partition"):
        Lake(tmp_path, "d").manifest("t", MONDAY)


def test_a_job_killed_while_writing_leaves_the_old_partition(spark, spark_remote, tmp_path):
    lake = Lake(tmp_path, "d")
    before = lake.replace(rows(spark, [MONDAY], [1, 2]), "t", [MONDAY], keys=["id"])
    script = tmp_path / "killed.py"
    job = f"""
        import datetime, os, pathlib, signal
        from features.spark.session import start_session
        from features.lake import commit
        from features.lake.lake import Lake
        spark = start_session("killed")
        lake = Lake(pathlib.Path({str(tmp_path)!r}), "d")
        commit._write = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
        frame = spark.createDataFrame([(datetime.date(2025, 1, 6), "new", [1], 1.0)],
                                      "day date, id string, list array<int>, value double")
        lake.replace(frame, "t", [datetime.date(2025, 1, 6)], keys=["id"])
        """
    script.write_text(textwrap.dedent(job))
    done = forks.run([str(script)], {**os.environ, **spark_remote})
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list((tmp_path / "d" / "t" / f"day={MONDAY}").glob("*.parquet"))) == 2
    assert read(spark, lake, "t", [MONDAY]) == ["id-1", "id-2"]
    assert lake.manifest("t", MONDAY) == before[0]
