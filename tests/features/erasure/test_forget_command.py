"""The command on a lake that Spark has made: hashes, what lands again, and who comes back."""

import datetime
import json
import shutil

import pytest
from support.lake_rows import UNLEARNT

from features.__main__ import main
from features.lake.lake import IMPRESSIONS_RAW, Lake
from features.pipeline.ingestion.ingest import ingest
from features.pipeline.workspace import Workspace
from features.places import place

NAME = "synthetic"


@pytest.fixture
def var(built, tmp_path, monkeypatch, spark):
    monkeypatch.setattr("features.spark.session.start_session", lambda name: spark)
    monkeypatch.setenv("RANKING_VAR", str(tmp_path))
    for folder in ("lake", "landing"):
        shutil.copytree(built.root / folder, tmp_path / folder, ignore=UNLEARNT)
    return tmp_path


def forget(capsys, user, *flags):
    code = main(["forget", f"--dataset={NAME}", f"--user={user}", "--without-models", *flags])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def users_by_day(lake, table, days):
    return {day: lake.snapshot(table).read(day, ["user_id"])["user_id"].to_pylist() for day in days}


def test_a_user_is_erased_stays_away_when_days_land_again_and_may_come_back(
    built, var, spark, capsys
):
    days, root = built.days, place(var) / "lake"
    before = users_by_day(Lake(root, NAME), IMPRESSIONS_RAW, days)
    user = next(one for one in range(1, 151) if all(one in users for users in before.values()))
    noon = datetime.datetime.combine(days[3], datetime.time(12), datetime.UTC)
    code, summary = forget(capsys, user, "--grace-hours=0", f"--until={noon.isoformat()}")
    assert code == 0, summary
    lake = Lake(root, NAME)
    tables = {"impressions_raw", "impressions", "user_state", "user_state_end_of_day", "examples"}
    assert tables <= summary["removed"].keys()
    for name in summary["removed"]:
        if "user_id" in lake.snapshot(name).read(lake.days(name)[0]).column_names:
            found = users_by_day(lake, name, lake.days(name))
            assert not any(user in users for users in found.values()), name
    landed = {f"impressions/{day}.parquet": users.count(user) for day, users in before.items()}
    assert summary["landed"] == {**landed, "user_attributes": 1}
    (file,) = (var / "reports" / "forget").iterdir()
    proof = json.loads(file.read_text())
    assert all(table["untouched_unchanged"] for table in proof["tables"].values())
    expected = {day: lake.manifest(IMPRESSIONS_RAW, day).content_hash for day in days}
    # As if the days had landed without the user; up to the moment, from which on one comes back.
    ingest(Workspace(spark, built.schema, Lake(root, NAME)), place(var) / "landing", days)
    lake = Lake(root, NAME)
    again = {day: lake.manifest(IMPRESSIONS_RAW, day).content_hash for day in days}
    assert {day: again[day] for day in days[:3]} == {day: expected[day] for day in days[:3]}
    now = users_by_day(lake, IMPRESSIONS_RAW, days)
    moments = lake.snapshot(IMPRESSIONS_RAW)
    for day in days:
        rows = moments.read(day, ["user_id", "timestamp"]).to_pylist()
        assert all(row["timestamp"] > noon for row in rows if row["user_id"] == user)
        assert [one for one in now[day] if one != user] == [
            one for one in before[day] if one != user
        ]
    assert now[days[-1]].count(user) == before[days[-1]].count(user)


def test_a_dry_run_and_a_wrong_request_change_nothing(built, var, capsys):
    code, summary = forget(capsys, 7, "--dry-run", "--without-landed")
    assert code == 0
    assert summary["tables"]["impressions"]
    assert not (var / "lake" / NAME / "_erased").exists()
    assert not (var / "reports" / "forget").exists()
    code, summary = forget(capsys, "seven", "--dry-run")
    assert code == 1
    assert "is of type int64" in summary["error"]
