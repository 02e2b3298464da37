"""What a build has staged is judged before it is published: every table of it, or none."""

import datetime

import pytest

from features.lake.candidate import manifest
from features.lake.commit import ConflictError
from features.lake.lake import IMPRESSIONS, IMPRESSIONS_RAW, Lake
from features.pipeline import jobs
from features.pipeline.ingestion.ingest import ingest
from features.runbooks import RunbookError
from features.validation import checks

pytestmark = pytest.mark.spark
TABLES = ("user_state", "item_daily", "user_attributes", "item_attributes")


def versions(work) -> dict[str, int]:
    work.lake.refresh()
    return {table: work.lake.snapshot(table).version for table in TABLES}


def listed(work, days) -> list[str]:
    return [table for table in TABLES if manifest(work.lake.root, table, days).exists()]


def test_a_build_is_not_live_before_its_check_and_is_published_once(work, built, tmp_path):
    day = built.days[-1]
    before = versions(work)
    rows = work.lake.manifest("user_state", day)
    jobs.build(work, built.landing, [day])
    assert versions(work) == before
    assert listed(work, [day]) == ["user_state", "item_daily"]
    first = checks.check_features(work, [day], tmp_path / "reports")
    assert [outcome.table for outcome in first] == ["user_state", "item_daily"]
    after = versions(work)
    assert after == {**before, "user_state": 1, "item_daily": 1}
    assert work.lake.manifest("user_state", day) == rows
    assert listed(work, [day]) == []
    assert checks.check_features(work, [day], tmp_path / "reports") == []
    assert versions(work) == after


def test_a_check_without_a_build_of_exactly_its_days_names_the_command(
    work, waiting, built, tmp_path
):
    tomorrow = built.days[-1] + datetime.timedelta(days=1)
    days = [built.days[-1], tomorrow]
    with pytest.raises(RunbookError, match=r"no build of exactly these days waits") as raised:
        checks.check_features(work, days, tmp_path / "reports")
    line = f"python -m features build --dataset synthetic --date {days[0]} --to {days[1]}"
    assert str(raised.value).endswith(f"first run {line}")
    for others in (days, [tomorrow]):
        with pytest.raises(RunbookError, match=f"features of {others[0]}.*: no build of exactly"):
            checks.check_features(waiting, others, tmp_path / "reports")


def test_a_check_of_days_of_which_nothing_has_changed_has_nothing_to_do(work, built, tmp_path):
    before = versions(work)
    assert checks.check_features(work, built.days[-2:], tmp_path / "reports") == []
    assert versions(work) == before


def test_a_broken_critical_rule_leaves_every_table_as_it_was_and_the_candidate_listed(
    waiting, built, tmp_path, spoil
):
    work, day = waiting, built.days[-1]
    before = versions(work)
    spoil(day, "item_id", None)
    outcomes = {o.table: o for o in checks.check_features(work, [day], tmp_path / "reports")}
    assert [text.split(": ")[0] for text in outcomes["item_daily"].critical] == ["item_id:present"]
    assert outcomes["user_state"].critical == []
    assert versions(work) == before
    assert listed(work, [day]) == ["user_state", "item_daily"]
    found = outcomes["item_daily"]
    assert found.candidate == str(manifest(work.lake.root, "item_daily", [day]))
    assert all((work.lake.root / "item_daily" / file).exists() for file in found.files)


def test_the_second_of_two_builds_of_a_day_is_the_one_that_is_published(
    waiting, built, tmp_path, spoil
):
    work, day = waiting, built.days[-1]
    spoil(day, "item_id", None)
    second = jobs.build(work, built.landing, [day])
    outcomes = checks.check_features(work, [day], tmp_path / "reports")
    assert [outcome.critical for outcome in outcomes] == [[], []]
    files = {one.table: {file.path for file in one.files} for one in second}
    for table in ("user_state", "item_daily"):
        live = work.lake.snapshot(table).files(day)
        assert {path.split(f"/{table}/")[1] for path in live} == files[table]


def test_a_check_that_was_killed_between_its_commits_is_finished_by_the_next(
    waiting, built, tmp_path, monkeypatch
):
    work, day = waiting, built.days[-1]
    before = versions(work)
    publish = Lake.publish

    def killed_at_the_second(lake, staged):
        if staged.table == "item_daily":
            raise KeyboardInterrupt
        return publish(lake, staged)

    monkeypatch.setattr(Lake, "publish", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        checks.check_features(work, [day], tmp_path / "reports")
    monkeypatch.undo()
    assert versions(work) == {**before, "user_state": 1}
    retried = checks.check_features(work, [day], tmp_path / "reports")
    assert [outcome.table for outcome in retried] == ["item_daily"]
    assert versions(work) == {**before, "user_state": 1, "item_daily": 1}
    assert listed(work, [day]) == []


def test_a_day_that_was_replaced_since_the_build_is_a_conflict_that_names_the_winner(
    waiting, built, tmp_path
):
    work, day = waiting, built.days[-1]
    other = Lake(work.lake.root.parent, work.schema.name, job="other")
    rows = work.features(work.schema.table("user_state"), [day])
    other.replace(rows, "user_state", [day], keys=["user_id"])
    work.lake.refresh()
    with pytest.raises(ConflictError, match=f"user_state: {day} replaced by job other of run by"):
        checks.check_features(work, [day], tmp_path / "reports")


def test_impressions_and_their_quarantine_are_listed_until_they_are_published(
    work, built, tmp_path
):
    day = built.days[-1]
    before = work.lake.snapshot(IMPRESSIONS).version
    few = work.impressions([day], IMPRESSIONS_RAW).limit(5)
    work.replace(few, IMPRESSIONS_RAW, [day], keys=["example_id"])
    stopped = checks.check_impressions(work, [day], tmp_path / "reports")
    assert stopped.critical
    staged = work.lake.candidate(IMPRESSIONS, [day])
    assert (staged.partitions()[0].rows, staged.description.fingerprint) == (
        5,
        work.lake.manifest(IMPRESSIONS, day).fingerprint,
    )
    assert stopped.candidate == str(manifest(work.lake.root, IMPRESSIONS, [day]))
    assert work.lake.snapshot(IMPRESSIONS).version == before
    ingest(work, built.landing, [day])
    assert not checks.check_impressions(work, [day], tmp_path / "reports").critical
    assert work.lake.candidate(IMPRESSIONS, [day]) is None
    work.lake.refresh()
    assert work.lake.snapshot(IMPRESSIONS).version == before + 1
