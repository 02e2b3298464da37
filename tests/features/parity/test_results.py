"""What a comparison leaves: a page, a result, a partition of the lake, an alert."""

import datetime
import json

import pytest
from support.features.planted_log import (
    DATE,
    NOON,
    ONE_DAY,
    SCHEMA,
    answer,
    good_lake,
    good_log,
    write_lake,
    write_log,
)

from features.cli import SkippedError
from features.lake.snapshot import snapshot
from features.parity import commands
from features.parity.commands import PARITY_COMMANDS, ParityRequest
from features.parity.results import max_unexplained, newest_results, parity_is_required
from features.places import place


@pytest.fixture
def parity(tmp_path, monkeypatch):
    """The command over the planted log and lake."""
    monkeypatch.setattr(commands, "schema_of", lambda _: SCHEMA)
    for name in ("RANKING_LOG_FOLDER", "RANKING_LOG_SHARE", "RANKING_LOG_HASH_KEY"):
        monkeypatch.delenv(name, raising=False)
    folders = {name: place(tmp_path / name) for name in ("lake", "docs", "log")}

    def run(**flags):
        given = {"dataset": SCHEMA.name, "date": DATE, "max_unexplained": 0.001, **folders}
        return PARITY_COMMANDS["parity"](ParityRequest(**{**given, **flags}))

    return run


@pytest.fixture
def log(tmp_path):
    """Ten answers of the day, in one of which a value is wrong."""
    rows = good_lake()
    write_lake(tmp_path / "lake", rows)
    logged = good_log(rows, *(answer(f"a{n}", 7, "ab", NOON) for n in range(10)))
    logged[5]["item_weight"] = 99.0
    write_log(tmp_path / "log", logged)
    return logged


def test_a_day_leaves_a_page_a_result_and_its_rows_in_the_lake(tmp_path, parity, log):
    found = parity()
    assert (found["window"], found["compared"], found["unexplained_share"]) == (str(DATE), 40, 0.05)
    (feature,) = found["features"]
    assert (feature["feature"], feature["causes"]) == ("item_weight", {"unexplained": 0.05})
    page = (tmp_path / "docs" / found["report"]).read_text()
    assert "a2" in page
    assert "99.0" in page
    assert "99.0" in found["markdown"]
    result = json.loads((tmp_path / "docs" / SCHEMA.name / "parity" / f"{DATE}.json").read_text())
    assert {one["feature"] for one in result["features"]} > {"item_weight", "item_daily_missing"}
    rows = snapshot(place(tmp_path / "lake") / SCHEMA.name / "parity_results").read(DATE)
    rows = {(row["feature"], row["cause"]): row for row in rows.to_pylist()}
    assert rows["item_weight", "unexplained"]["mismatched"] == 2
    assert rows["item_daily_missing", "any"] == {
        "table": "item_daily",
        "feature": "item_daily_missing",
        "cause": "any",
        "compared": 40.0,
        "mismatched": 0.0,
    }


def test_a_broken_parity_raises_an_alert_with_its_runbook(parity, log):
    (alert,) = parity()["alerts"]
    assert alert["alert"] == "parity-broken"
    assert alert["what"] == (
        f"{DATE}: 5.000% of the candidates have an unexplained mismatch; at most 0.100%"
    )
    assert "alerts" not in parity(max_unexplained=0.05)


def test_an_hour_is_one_result_and_no_day_of_the_lake(tmp_path, parity, log):
    assert parity(hour=12)["window"] == f"{DATE}T12"
    assert snapshot(place(tmp_path / "lake") / SCHEMA.name / "parity_results").days == []
    with pytest.raises(SkippedError, match=f"no answers of {DATE}T11 in the log"):
        parity(hour=11)


def test_a_day_is_due_once_when_all_its_tables_are_built(tmp_path, parity, log):
    with pytest.raises(SkippedError, match=f"no day of the week before {DATE} is due"):
        parity(due=True)
    assert parity(date=DATE + 3 * ONE_DAY, due=True)["window"] == str(DATE)
    with pytest.raises(SkippedError, match="is due"):
        parity(date=DATE + 3 * ONE_DAY, due=True)


def test_a_day_that_is_not_built_is_not_due(tmp_path, parity):
    rows = good_lake()
    before = {name: {d: of for d, of in days.items() if d < DATE} for name, days in rows.items()}
    write_lake(tmp_path / "lake", before)
    write_log(tmp_path / "log", good_log(rows))
    with pytest.raises(SkippedError, match="is due"):
        parity(date=DATE + ONE_DAY, due=True)


def test_without_a_log_there_is_nothing_to_do(parity):
    with pytest.raises(SkippedError, match="no answers"):
        parity()
    with pytest.raises(SkippedError, match="RANKING_LOG_FOLDER: not set"):
        parity(log=None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"hour": 24}, "--hour: 24; 0 to 23"),
        ({"hour": 3, "due": True}, "--hour: 3; not with --due"),
        ({"max_candidates": 0}, "--max-candidates: 0; at least 1"),
        ({"max_unexplained": 1.0}, "--max-unexplained: 1.0; from 0 to below 1"),
    ],
)
def test_wrong_flags_are_named(flags, message):
    with pytest.raises(ValueError, match=message):
        ParityRequest(dataset="synthetic", date=DATE, **flags)


def result(folder, window, *, compared=10.0, share=0.0):
    path = folder / "shop" / "parity" / f"{window}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    moment = datetime.datetime.now(datetime.UTC).isoformat()
    content = {"ends_at": moment, "made_at": moment, "compared": compared}
    path.write_text(json.dumps({**content, "unexplained_share": share}))


def test_the_newest_day_counts_and_the_newest_hour_after_it(tmp_path):
    reports = place(tmp_path)
    assert newest_results(reports, "shop") == []
    for window in ("2025-06-14", "2025-06-15T23", "2025-06-15T09"):
        result(tmp_path, window)
    result(tmp_path, "2025-06-16T00", compared=0.0)

    def newest():
        return [one.window for one in newest_results(reports, "shop")]

    assert newest() == ["2025-06-15T23", "2025-06-14"]
    result(tmp_path, "2025-06-15")
    assert newest() == ["2025-06-15"]
    (tmp_path / "shop" / "parity" / "2025-06-17.json").write_text("{}")
    with pytest.raises(ValueError, match=r"parity result .*2025-06-17.json: is none"):
        newest()


def test_limits_of_the_environment_are_checked(monkeypatch):
    monkeypatch.setenv("RANKING_MAX_UNEXPLAINED", "0.01")
    assert max_unexplained() == 0.01
    monkeypatch.setenv("RANKING_MAX_UNEXPLAINED", "few")
    with pytest.raises(ValueError, match="RANKING_MAX_UNEXPLAINED: 'few'; a number"):
        max_unexplained()
    monkeypatch.setenv("RANKING_REQUIRE_PARITY", "maybe")
    with pytest.raises(ValueError, match="RANKING_REQUIRE_PARITY: 'maybe'; on or off"):
        parity_is_required()
