"""Past days are made in chunks, and again only where something is missing or newer."""

import datetime
import functools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.shop.land_shop import land_shop

from features import __main__ as features_main
from features.commands import COMMANDS
from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW, Lake
from features.pipeline.ingestion.ingest import ingest
from features.provenance.learnt import Learnt, Step, put_learnt, rows_of
from features.validation import checks
from features.validation.due_steps import STEPS, due, mature

pytestmark = pytest.mark.spark

SHOP = Path(__file__).resolve().parents[2] / "support" / "shop" / "shop.yaml"
DAYS = [datetime.date(2025, 3, day) for day in (1, 2, 3, 4)]
MOMENT = datetime.datetime(2025, 6, 1, tzinfo=datetime.UTC)


def test_days_that_are_current_are_left_alone(work, built):
    assert due(work.lake, work.schema, built.days) == []
    work.lake.compact(EXAMPLES, most_rows=10**9)
    assert due(work.lake, work.schema, built.days) == []


def test_days_that_are_not_there_are_made_from_the_first_step_that_is_missing(work, built):
    later = [built.days[-1] + datetime.timedelta(days=1)]
    assert due(work.lake, work.schema, later) == [*STEPS]
    assert due(work.lake, work.schema, [built.days[-1], *later]) == [*STEPS]
    work.lake.remove(EXAMPLES, built.days[-1:])
    assert due(work.lake, work.schema, built.days) == ["examples"]


def test_what_lands_again_is_made_again_and_all_that_follows(work, built, tmp_path):
    """The same rows again lead to nothing; others make their day due, and what follows of them."""
    before, day, after = built.days[2:5]
    ingest(work, built.landing, [day])
    checks.check_impressions(work, [day], tmp_path)
    assert due(work.lake, work.schema, built.days) == []
    raw = work.impressions([day], IMPRESSIONS_RAW)
    work.replace(raw.where("example_id % 9 > 0"), IMPRESSIONS_RAW, [day], keys=["example_id"])
    assert due(work.lake, work.schema, [day]) == [*STEPS]
    assert due(work.lake, work.schema, [before, after]) == []
    checks.check_impressions(work, [day], tmp_path)
    assert due(work.lake, work.schema, [day]) == ["features", "examples"]


def test_features_that_were_built_again_make_later_days_due_where_they_are_others(
    work, built, builds
):
    before, day, after = built.days[2:5]
    builds.publish(day)
    assert due(work.lake, work.schema, built.days) == []
    builds.publish(day, available_at=MOMENT)
    assert due(work.lake, work.schema, [before]) == []
    assert due(work.lake, work.schema, [day]) == ["examples"]
    assert due(work.lake, work.schema, [after]) == ["features", "examples"]


def test_days_of_another_schema_are_made_again(work, built):
    other = work.schema.without_push()
    assert due(work.lake, other, built.days) == ["features", "examples"]


def test_examples_are_of_days_whose_labels_are_final(work):
    """They come later than impressions, and begin with the lake."""
    late = SimpleNamespace(maturity_days=2)
    lake = SimpleNamespace(days=lambda _: DAYS[:2])
    assert mature(lake, late, DAYS[:2]) == []
    assert mature(lake, late, DAYS) == DAYS[:2]
    assert mature(lake, work.schema, DAYS) == DAYS


@pytest.fixture
def history(spark, tmp_path, monkeypatch, capsys):
    """Runs the command on the shop's landed log, in a lake of the name given."""
    monkeypatch.setenv("RANKING_SCHEMAS", str(SHOP))
    monkeypatch.setenv("RANKING_VAR", str(tmp_path))
    monkeypatch.setattr("features.spark.session.start_session", lambda name: spark)
    land_shop(tmp_path / "landing" / "shop", days=len(DAYS), rows_a_day=60)

    def run(lake: str, *flags: str):
        where = ["--dataset=shop", f"--lake={tmp_path / lake}"]
        span = [f"--date={DAYS[0]}", f"--to={DAYS[-1]}"]
        code = features_main.main(["history", *where, *span, *flags])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


@pytest.fixture
def command(history, tmp_path, capsys):
    """Runs another command on all days; returns its exit code and a part of its summary."""

    def run(name: str, lake: str, *flags: str, key: str = "stale"):
        where = ["--dataset=shop", f"--lake={tmp_path / lake}"]
        span = [f"--date={DAYS[0]}", f"--to={DAYS[-1]}"]
        code = features_main.main([name, *where, *span, *flags])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])[key]

    return run


def hashes(folder: Path):
    lake = Lake(folder, "shop")
    tables = (IMPRESSIONS, "user_state", "item_daily", EXAMPLES)
    return [lake.manifest(table, day).content_hash for table in tables for day in DAYS]


def test_a_history_that_was_killed_goes_on_where_it_stopped(history, tmp_path, monkeypatch):
    """Whatever the chunks are, the rows are those of one range, and nothing is made twice."""
    calls, original = [], COMMANDS["build"]

    @functools.wraps(original)
    def build(request):
        calls.append(str(request.date))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(request)

    with monkeypatch.context() as killed:
        killed.setitem(COMMANDS, "build", build)
        with pytest.raises(KeyboardInterrupt):
            history("chunks", "--days-per-chunk=2")
    assert calls == ["2025-03-01", "2025-03-03"]
    code, summary = history("chunks", "--days-per-chunk=2")
    # The impressions of the second chunk were there.
    assert (code, summary["days_made"]) == (0, {"impressions": 0, "features": 2, "examples": 2})
    assert history("chunks")[1]["days_made"] == dict.fromkeys(STEPS, 0)
    assert history("range")[1]["days_made"] == dict.fromkeys(STEPS, 4)
    assert hashes(tmp_path / "chunks") == hashes(tmp_path / "range")


def test_only_what_a_landed_day_touches_is_made_again_and_equals_a_full_rebuild(
    history, command, tmp_path
):
    """Skipped days are named; afterwards the lake is that of one who saw the new log alone."""
    assert history("lake")[0] == 0
    assert command("stale", "lake", "--check") == (0, [])
    for name in ("ingest", "build", "examples"):
        assert command(name, "lake", key="unchanged") == (0, [*map(str, DAYS)])
    file = next((tmp_path / "landing" / "shop" / "impressions").glob(f"{DAYS[1]}.*"))
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-7]))
    code, stale = command("stale", "lake", "--check")
    found = {(one["table"], one["day"]) for one in stale}
    touched = {(IMPRESSIONS_RAW, str(DAYS[1])), (IMPRESSIONS, str(DAYS[1]))}
    tables = ("user_state", "item_daily", EXAMPLES)
    touched |= {(table, str(day)) for table in tables for day in DAYS[1:]}
    assert (code, found) == (1, touched)
    assert [one["input"] for one in stale[0]["reasons"]] == ["landed"]
    code, summary = history("lake")
    assert (code, summary["unchanged"]) == (0, [str(DAYS[0])])
    assert summary["days_made"] == {"impressions": 1, "features": 3, "examples": 3}
    assert command("stale", "lake", "--check") == (0, [])
    history("anew")
    assert hashes(tmp_path / "lake") == hashes(tmp_path / "anew")


def test_a_day_that_landed_again_waits_where_it_was_learnt(history, command, tmp_path):
    history("lake")
    lake = Lake(tmp_path / "lake", "shop")
    days = {day: rows_of(lake.manifest(EXAMPLES, day)) for day in lake.days(EXAMPLES)}
    steps = [Step(by="2025-03-04", days=days)]
    put_learnt(lake.root, Learnt(checkpoint="2025-03-04", at=MOMENT, steps=steps))
    file = next((tmp_path / "landing" / "shop" / "impressions").glob(f"{DAYS[1]}.*"))
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-7]))
    before = lake.manifest(IMPRESSIONS_RAW, DAYS[1])
    code, reason = command("ingest", "lake", key="error")
    assert code == 1
    assert "2025-03-04 has learnt examples of 3 days that follow" in reason
    lake.refresh()
    assert lake.manifest(IMPRESSIONS_RAW, DAYS[1]) == before
    code, rules = command("ingest", "lake", "--again", key="reruns")
    assert (code, rules[f"{IMPRESSIONS_RAW} {DAYS[1]}"]) == (0, "hold")
    lake.refresh()
    assert lake.manifest(IMPRESSIONS_RAW, DAYS[1]).rows == before.rows - 7


def test_a_chunk_without_a_day_is_wrong_usage(capsys):
    flags = ["--dataset=synthetic", "--date=2025-01-01", "--days-per-chunk=0"]
    with pytest.raises(SystemExit) as ended:
        features_main.main(["history", *flags])
    assert ended.value.code == 2
    assert "--days-per-chunk: 0; at least 1" in capsys.readouterr().err
