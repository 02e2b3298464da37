"""Rows in quarantine are re-admitted once, count from then on, and make only what follows due."""

import datetime
import shutil

import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW, READMITTED, Lake
from features.pipeline import jobs
from features.pipeline.workspace import Workspace
from features.schema import CREATED
from features.spark.session import landed_struct
from features.validation import checks
from features.validation.due_steps import due
from features.validation.quarantine.held import readmitted_rows
from features.validation.quarantine.mapping import Replacement
from features.validation.quarantine.readmission import readmit_days
from features.validation.quarantine.readmit import Correction

pytestmark = pytest.mark.spark

MOMENT = datetime.datetime(2025, 3, 1, tzinfo=datetime.UTC)
TABLES = ("user_state", "item_daily", EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW)
KNOWN = [
    Replacement("device:vocabulary", "device", "fridge", "phone"),
    Replacement("device:vocabulary", "device", "toaster", "television"),
]


@pytest.fixture
def work(spark, built, tmp_path):
    """The built lake, copied."""
    shutil.copytree(built.lake, tmp_path / "lake", symlinks=True)
    return Workspace(spark, built.schema, Lake(tmp_path / "lake", built.schema.name))


def land(work, day, **changes):
    """The raw rows of a day with some values of the first ones changed; returns their ids."""
    ordered = work.impressions([day], IMPRESSIONS_RAW).orderBy("example_id").collect()
    rows = [row.asDict() for row in ordered]
    for column, values in changes.items():
        for row, value in zip(rows, values, strict=False):
            row[column] = value
    frame = work.spark.createDataFrame(rows, landed_struct(work.schema))
    work.replace(frame.withColumn("day", F.lit(day)), IMPRESSIONS_RAW, [day], keys=["example_id"])
    return [row["example_id"] for row in rows]


def versions(lake):
    return {table: lake.snapshot(table).version for table in (*TABLES, READMITTED)}


def hashes(lake):
    return {(t, day): lake.manifest(t, day).content_hash for t in TABLES for day in lake.days(t)}


def published(work, day, ids):
    rows = work.impressions([day]).where(F.col("example_id").isin(ids))
    return {row.example_id: (row.device, row.click) for row in rows.collect()}


def killed_of(day):
    """``Lake.publish`` of a job that is killed between the changes of a day and the day."""
    publish = Lake.publish

    def killed(self, staged):
        if staged.days == [day] and staged.table != READMITTED:
            raise KeyboardInterrupt
        return publish(self, staged)

    return killed


def by(*replacements, rows=None, source="fix.yaml@1"):
    return Correction(replacements=replacements, rows=rows, source=source, moment=MOMENT)


def test_rows_are_admitted_once_and_make_only_what_follows_due(work, built, tmp_path, monkeypatch):
    """Whatever is killed, repeated or lands again; a rebuild of what is due changes nothing else."""
    lake, days, reports = work.lake, built.days[-2:], tmp_path / "reports"
    day, last = days
    devices = ["fridge", "toaster", "fridge", "phone", "fridge"]
    ids = land(work, day, device=devices, click=[0, 0, 0, 7, 0])
    ids_of_last = land(work, last, device=["fridge", "fridge"])
    assert not checks.check_impressions(work, days, reports).critical
    jobs.publish_features(work, jobs.build(work, built.landing, days), days)
    jobs.examples(work, days)
    assert due(lake, work.schema, built.days) == []
    before = hashes(lake)

    # The second day is killed when its changes are published and it is not.
    rows = {"example_id": [ids[2], ids[3], -1], "click": [1, 5, 0], "device": ["tablet"] * 3}
    correction = by(*KNOWN, rows=work.spark.createDataFrame(pa.table(rows)))
    with monkeypatch.context() as patch:
        patch.setattr(Lake, "publish", killed_of(last))
        with pytest.raises(KeyboardInterrupt):
            readmit_days(work, days, correction, reports)
    assert published(work, last, ids_of_last[:2]) == {}
    assert [due(lake, work.schema, [one])[0] for one in days] == ["features", "impressions"]
    found = readmit_days(work, days, correction, reports)
    assert [(one.held, one.corrected, one.admitted) for one in found.days] == [(2, 2, 0), (0, 0, 0)]
    assert found.days[0].still_broken == {"device:vocabulary": 1, "click:range": 1}
    again = {ids[0]: ("phone", 0), ids[2]: ("tablet", 1), ids[4]: ("phone", 0)}
    assert published(work, day, ids[:5]) == again
    assert published(work, last, ids_of_last[:2]).keys() == {*ids_of_last[:2]}
    assert readmitted_rows(lake, [day]) == [(day, "fix.yaml@1", MOMENT, 3)]

    # It is done: once more changes nothing, and what is due stays due.
    assert found.due == dict.fromkeys(("user_state", "item_daily", EXAMPLES), days)
    flags = f"--available-at {MOMENT.isoformat()} --dataset synthetic --date {day} --to {last}"
    assert found.commands[0].startswith(f"python -m features build {flags} && ")
    assert found.runs[0].startswith("airflow dags trigger daily_ranking_synthetic --conf")
    as_published = versions(lake)
    assert readmit_days(work, days, correction, reports).due == found.due
    assert versions(lake) == as_published

    jobs.publish_features(work, jobs.build(work, built.landing, days, available_at=MOMENT), days)
    jobs.examples(work, days)
    assert due(lake, work.schema, built.days) == []
    assert readmit_days(work, days, correction, reports).due == {}
    after = hashes(lake)
    changed = {one for one in before if before[one] != after[one]}
    assert changed == {(table, one) for table in TABLES[:-1] for one in days}
    rows = work.features(work.schema.table("item_daily"), [day])
    assert rows.where(F.col(CREATED) == F.lit(MOMENT)).count() * 2 == rows.count()

    # The day lands again, two rows put right in the log: each is there once, as it should be.
    land(work, day, device=["desktop", "toaster", "phone", "phone", "fridge"])
    assert not checks.check_impressions(work, [day], reports).critical
    landed = {ids[0]: ("desktop", 0), ids[2]: ("phone", 0), ids[4]: ("phone", 0)}
    assert published(work, day, ids[:3] + ids[4:5]) == landed
    assert work.impressions([day]).groupBy("example_id").count().where("count > 1").count() == 0
    assert lake.manifest(IMPRESSIONS, day).corrected_at == MOMENT
