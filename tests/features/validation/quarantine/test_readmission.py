"""Rows in quarantine are re-admitted once, count from then on, and make only what follows due."""

import datetime
import json
import re
import shutil

import pytest
from pyspark.sql import functions as F
from support.lake_rows import UNLEARNT

from features import __main__ as features_main
from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW, READMITTED, Lake
from features.pipeline import jobs
from features.pipeline.workspace import Workspace
from features.schema import CREATED
from features.spark.session import landed_struct
from features.validation import checks
from features.validation.due_steps import due
from features.validation.quarantine.held import readmitted_rows

pytestmark = pytest.mark.spark

MOMENT = datetime.datetime(2025, 3, 1, tzinfo=datetime.UTC)
COMPUTED = ("user_state", "item_daily", EXAMPLES)
TABLES = (*COMPUTED, IMPRESSIONS, IMPRESSIONS_RAW, "user_attributes", "item_attributes")
MAPPING = "device:vocabulary: {device: {fridge: phone, toaster: television}}"


@pytest.fixture
def work(spark, built, tmp_path):
    """The built lake, copied."""
    shutil.copytree(built.lake, tmp_path / "lake", symlinks=True, ignore=UNLEARNT)
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


@pytest.fixture
def readmit(work, spark, built, tmp_path, monkeypatch, capsys):
    """Runs the command on the last two days; returns its exit code and its JSON object."""
    monkeypatch.setattr("features.spark.session.start_session", lambda name: spark)
    (tmp_path / "fix.yaml").write_text(MAPPING)
    flags = [f"--lake={tmp_path / 'lake'}", f"--docs={tmp_path}", "--dataset=synthetic"]
    flags += [f"--date={built.days[-2]}", f"--to={built.days[-1]}", f"--available-at={MOMENT}"]
    flags += [f"--mapping={tmp_path / 'fix.yaml'}", f"--file={tmp_path / 'rows.csv'}"]

    def run(rows):
        (tmp_path / "rows.csv").write_text(f"example_id,click,device\n{rows}")
        code = features_main.main(["quarantine", "readmit", *flags])
        work.lake.refresh()
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_rows_are_admitted_once_and_make_only_what_follows_due(
    work, built, readmit, tmp_path, monkeypatch
):
    """Whatever is stopped, killed, repeated or lands again; all that is not due stays as it is."""
    lake, days = work.lake, built.days[-2:]
    day, last = days
    devices = ["fridge", "toaster", "fridge", "phone", "fridge"]
    ids = land(work, day, device=devices, click=[0, 0, 0, 7, 0])
    ids_of_last = land(work, last, device=["fridge", "fridge"])
    assert not checks.check_impressions(work, days, tmp_path).critical
    jobs.publish_features(work, jobs.build(work, built.landing, days), days)
    jobs.examples(work, days)
    assert due(lake, work.schema, built.days) == []
    before, as_built = hashes(lake), versions(lake)
    rows = f"{ids[2]},1,tablet\n{ids[3]},5,tablet\n999999999,0,tablet\n"

    # A day that would be stopped by its check stays as it is.
    with monkeypatch.context() as patch:
        patch.setattr(checks, "check_row_counts", lambda *_: (["rows: too few"], []))
        code, summary = readmit(rows)
    assert (code, summary["admitted"], summary["due"]) == (1, 0, {})
    assert "rows: too few; nothing of this day" in summary["error"]
    assert versions(lake) == as_built

    # The second day is killed when its changes are published and it is not.
    with monkeypatch.context() as patch:
        patch.setattr(Lake, "publish", killed_of(last))
        with pytest.raises(KeyboardInterrupt):
            readmit(rows)
    lake.refresh()
    assert published(work, last, ids_of_last[:2]) == {}
    assert [due(lake, work.schema, [one])[0] for one in days] == ["features", "impressions"]
    code, summary = readmit(rows)
    assert (code, summary["held"], summary["ids_not_held"]) == (0, 2, [999999999])
    assert summary["still_broken"][str(day)] == {"device:vocabulary": 1, "click:range": 1}
    again = {ids[0]: ("phone", 0), ids[2]: ("tablet", 1), ids[4]: ("phone", 0)}
    assert published(work, day, ids[:5]) == again
    assert published(work, last, ids_of_last[:2]).keys() == {*ids_of_last[:2]}
    ((of_day, source, moment, num_rows),) = readmitted_rows(lake, [day])
    assert (of_day, moment, num_rows) == (day, MOMENT, 3)
    assert re.fullmatch(r"fix\.yaml@[0-9a-f]{16} rows\.csv@[0-9a-f]{16}", source)

    # What follows is due, and nothing else; to build it again changes nothing else.
    assert summary["due"] == {table: [str(day), str(last)] for table in COMPUTED}
    flags = f"--available-at {MOMENT.isoformat()} --dataset synthetic --date {day} --to {last}"
    assert summary["commands"][0].startswith(f"python -m features build {flags} && ")
    assert len(summary["dag_runs"]) == 2
    jobs.publish_features(work, jobs.build(work, built.landing, days, available_at=MOMENT), days)
    _, summary = readmit(rows)
    assert summary["due"] == {EXAMPLES: [str(day), str(last)]}, "what is left is named again"
    assert all(" features examples " in one for one in summary["dag_runs"]), "a run ingests anew"
    jobs.examples(work, days)
    assert due(lake, work.schema, built.days) == []
    after = hashes(lake)
    changed = {one for one in before if before[one] != after[one]}
    assert changed == {(table, one) for table in (*COMPUTED, IMPRESSIONS) for one in days}
    rows_of_day = work.features(work.schema.table("item_daily"), [day])
    assert rows_of_day.where(F.col(CREATED) == F.lit(MOMENT)).count() * 2 == rows_of_day.count()

    # Once more it changes nothing.
    as_rebuilt = versions(lake)
    code, summary = readmit(rows)
    assert (code, summary["admitted"], summary["due"]) == (0, 0, {})
    assert versions(lake) == as_rebuilt

    # The day lands again, two rows put right in the log: each is there once, as it should be.
    land(work, day, device=["desktop", "toaster", "phone", "phone", "fridge"])
    assert not checks.check_impressions(work, [day], tmp_path).critical
    landed = {ids[0]: ("desktop", 0), ids[2]: ("phone", 0), ids[4]: ("phone", 0)}
    assert published(work, day, ids[:3] + ids[4:5]) == landed
    assert work.impressions([day]).groupBy("example_id").count().where("count > 1").count() == 0
    assert lake.manifest(IMPRESSIONS, day).corrected_at == MOMENT
