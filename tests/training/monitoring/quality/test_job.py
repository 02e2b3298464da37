"""The job: from the log and the lake to a day's rows, verdicts and page."""

import dataclasses
import datetime
import json

import numpy as np
import pyarrow as pa
import pytest
from markupsafe import Markup
from support.quality.quality_logs import (
    BY_REQUEST,
    DAY,
    ITEMS,
    asked,
    impressions_of,
    logged,
    write_examples,
    write_log,
)

from features.cli import SkippedError
from features.pages import figures
from features.places import place
from training.artifact.manifest import MANIFEST, Manifest
from training.monitoring.quality.job import measure_quality
from training.monitoring.quality.results import (
    DAY_FILE,
    ROWS_FILE,
    day_folder,
    read_days,
    write_day,
)

NEXT = DAY + datetime.timedelta(days=1)


def stored(root, day=DAY):
    """What was written of a day: the verdicts, the rows and the page."""
    folder = place(root / "reports") / day_folder(BY_REQUEST.name, day)
    rows = [json.loads(line) for line in (folder / ROWS_FILE).read_text().splitlines()]
    page = (folder / "index.html").read_text()
    return json.loads((folder / DAY_FILE).read_text()), rows, page


def shown(root, rows, *, day=DAY, odds=1.0):
    write_examples(root / "lake", BY_REQUEST, day, impressions_of(BY_REQUEST, rows, odds=odds))


def write_manifest(root, *, learnt_through, ne=None):
    """Of an artifact, what is read of it; returns its path."""
    manifest = Manifest(
        **dict.fromkeys(("dataset", "schema_fingerprint", "recipe", "mlflow_run"), ""),
        version="v1",
        day=learnt_through,
        trained_through=learnt_through,
        config={},
        parents=[],
        metrics={"ne": ne},
        content_sha256={},
    )
    path = root / "artifacts" / BY_REQUEST.name / "v1" / MANIFEST
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(dataclasses.asdict(manifest)))
    return path


def replaced(rows, **columns):
    for name, column in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


@pytest.fixture
def no_drawing(monkeypatch):
    """Charts take most of the time; where nothing is asked of them, they are empty."""
    monkeypatch.setattr(figures, "svg", lambda draw, *, label: Markup("<svg/>"))


@pytest.fixture
def rows(tmp_path):
    made = logged(BY_REQUEST, 300)
    write_log(tmp_path / "log", BY_REQUEST, made)
    return made


def test_a_day_is_estimated_first_and_measured_by_a_later_days_run(tmp_path, rows):
    first = measure_quality(BY_REQUEST, asked(tmp_path))
    assert (first["state"], first["alerts"], first["measured_days"]) == ("estimated", [], [])
    before, _, page = stored(tmp_path)
    assert before["versions"][0]["is_broken"] is None
    assert "Labels of the day are not final" in page

    shown(tmp_path, rows)
    write_log(tmp_path / "log", BY_REQUEST, logged(BY_REQUEST, 30, day=NEXT, first=1_000))
    second = measure_quality(BY_REQUEST, asked(tmp_path, NEXT))
    assert (second["state"], second["measured_days"]) == ("estimated", [str(DAY)])
    after, _, page = stored(tmp_path)
    (was,), (version,) = before["versions"], after["versions"]
    assert (after["state"], after["found_rows"], after["not_found_rows"]) == ("measured", 3_000, 0)
    assert version["estimated"] == was["estimated"]
    for name, off in version["estimate_off"].items():
        measured = version["measured"][name]["value"]
        assert off == pytest.approx(was["estimated"][name]["value"] - measured)
        assert off == version["estimate_off_of_found"][name]
    assert "Estimates before the labels came" in page
    assert stored(tmp_path, NEXT)[0]["state"] == "estimated"


@pytest.mark.usefixtures("no_drawing")
def test_a_rerun_replaces_its_day_by_the_same(tmp_path, rows):
    shown(tmp_path, rows)
    measure_quality(BY_REQUEST, asked(tmp_path))
    first = stored(tmp_path)
    measure_quality(BY_REQUEST, asked(tmp_path))
    assert stored(tmp_path) == first


@pytest.mark.usefixtures("no_drawing")
def test_a_miscalibrated_version_is_broken_in_the_stored_rows_and_raises_one_alert(tmp_path, rows):
    canary = logged(BY_REQUEST, 200, first=500, role="canary", model_version="v2", seed=9)
    write_log(tmp_path / "log", BY_REQUEST, canary)
    both = [impressions_of(BY_REQUEST, rows, odds=3.0), impressions_of(BY_REQUEST, canary)]
    write_examples(tmp_path / "lake", BY_REQUEST, DAY, pa.concat_tables(both))
    summary = measure_quality(BY_REQUEST, asked(tmp_path))
    result, _, page = stored(tmp_path)
    said = {one["version"]: (one["is_broken"], one["requests"]) for one in result["versions"]}
    assert said == {"v1": (True, 300), "v2": (False, 200)}
    (alert,) = summary["alerts"]
    assert alert["alert"] == "quality-broken"
    assert alert["what"].startswith(f"{DAY}: v1 as champion: calibration 0.")
    assert ">broken<" in page


@pytest.mark.usefixtures("no_drawing")
def test_a_shadow_that_is_broken_is_stored_and_alarms_nobody(tmp_path, rows):
    shadow = replaced(
        rows,
        score=pa.array(np.full(len(rows), 0.9, np.float32)),
        role=pa.array(["shadow"] * len(rows)),
        model_version=pa.array(["v3"] * len(rows)),
    )
    write_log(tmp_path / "log", BY_REQUEST, shadow)
    shown(tmp_path, rows)
    summary = measure_quality(BY_REQUEST, asked(tmp_path))
    said = {one["role"]: one["is_broken"] for one in stored(tmp_path)[0]["versions"]}
    assert (said, summary["alerts"]) == ({"champion": False, "shadow": True}, [])


@pytest.mark.usefixtures("no_drawing")
def test_there_is_a_row_for_each_slice_and_hour_of_each_version(tmp_path):
    half = pa.array([["store_unavailable"]] * 150 * ITEMS + [[]] * 150 * ITEMS)
    rows = logged(BY_REQUEST, 300, degraded_by=half)
    write_log(tmp_path / "log", BY_REQUEST, rows)
    shown(tmp_path, rows)
    measure_quality(BY_REQUEST, asked(tmp_path))
    found = [one for one in stored(tmp_path)[1] if one["kind"] == "measured"]
    hours = {name: [] for name in ("all", "degraded answers")}
    for one in found:
        hours.setdefault(one["slice"], []).append((one["hour"], one["requests"]))
    assert {name: len(parts) for name, parts in hours.items()} == {
        **{"all": 25, "degraded answers": 13, "new users": 25, "new items": 25},
    }
    assert dict(hours["all"])[None] == 300 == sum(n for hour, n in hours["all"] if hour is not None)
    assert dict(hours["degraded answers"])[None] == 150
    assert {"ne", "ne_low", "ne_high", "calibration_high", "gauc", "request_mrr"} <= set(found[0])


@pytest.mark.usefixtures("no_drawing")
def test_a_score_that_is_no_probability_breaks_its_version_and_is_in_no_figure(tmp_path):
    scores = logged(BY_REQUEST, 300)["score"].to_numpy().copy()
    scores[7] = np.nan
    rows = logged(BY_REQUEST, 300, score=pa.array(scores))
    write_log(tmp_path / "log", BY_REQUEST, rows)
    shown(tmp_path, logged(BY_REQUEST, 300))
    measure_quality(BY_REQUEST, asked(tmp_path))
    (version,) = stored(tmp_path)[0]["versions"]
    assert (version["bad_scores"], version["is_broken"]) == (1, True)
    assert version["measured"]["ne"]["value"] < 1


@pytest.mark.usefixtures("no_drawing")
def test_estimates_of_later_days_use_the_shift_of_the_newest_measured_day(tmp_path, rows):
    """The log's scores are too low by a third of the odds; so are those of the day after."""
    shown(tmp_path, rows, odds=1.5)
    measure_quality(BY_REQUEST, asked(tmp_path))
    shift = stored(tmp_path)[0]["versions"][0]["logit_shift"]
    assert shift == pytest.approx(np.log(1.5), abs=0.15)
    later = logged(BY_REQUEST, 300, day=NEXT, first=1_000, seed=8)
    write_log(tmp_path / "log", BY_REQUEST, later)
    measure_quality(BY_REQUEST, asked(tmp_path, NEXT))
    (version,) = stored(tmp_path, NEXT)[0]["versions"]
    assert version["estimate_shift"] == shift
    assert version["estimated"]["positive_rate"]["value"] > later["score"].to_numpy().mean() + 0.03


@pytest.mark.usefixtures("no_drawing")
def test_the_age_of_a_version_is_that_of_the_newest_day_that_it_learnt(tmp_path, rows):
    manifest = write_manifest(tmp_path, learnt_through="2025-03-01", ne=0.2)
    shown(tmp_path, rows)
    measure_quality(BY_REQUEST, asked(tmp_path))
    (version,) = stored(tmp_path)[0]["versions"]
    known = ("learnt_through", "age_days", "training_ne", "champion_ne", "is_broken")
    assert [version[name] for name in known] == ["2025-03-01", 4, 0.2, 0.2, True]
    assert "at most 0.2100" in version["reason"]

    manifest.unlink()
    write_log(tmp_path / "log", BY_REQUEST, logged(BY_REQUEST, 30, day=NEXT, first=1_000))
    measure_quality(BY_REQUEST, asked(tmp_path, NEXT))
    (version,) = stored(tmp_path, NEXT)[0]["versions"]
    assert [version[name] for name in known[:4]] == ["2025-03-01", 5, 0.2, 0.2]


@pytest.mark.usefixtures("no_drawing")
def test_days_of_a_version_that_grows_old_say_how_often_to_retrain(tmp_path, rows):
    """The days before are the first one again, with an NE that is lower the younger it is."""
    write_manifest(tmp_path, learnt_through=str(DAY - datetime.timedelta(days=9)))
    shown(tmp_path, rows)
    measure_quality(BY_REQUEST, asked(tmp_path))
    result = stored(tmp_path)[0]
    version = result["versions"][0]
    ne = version["measured"]["ne"]["value"]
    for age in range(1, 9):
        version["age_days"] = age
        version["measured"]["ne"]["value"] = ne * 1.02 ** (age - 9)
        day = str(DAY - datetime.timedelta(days=9 - age))
        write_day(place(tmp_path / "reports"), {**result, "day": day}, [])
    summary = measure_quality(BY_REQUEST, asked(tmp_path))
    assert summary["retrain_after_days"] == pytest.approx(np.log(1.01) / np.log(1.02))
    assert summary["ne_by_age"].startswith("NE has lost 1.0% at the age of 0.5 days")
    history = list(
        read_days(
            place(tmp_path / "reports"), BY_REQUEST.name, DAY - datetime.timedelta(days=9), DAY
        )
    )
    assert [one["versions"][0]["age_days"] for one in history] == [*range(1, 10)]


@pytest.mark.usefixtures("no_drawing")
def test_requests_of_moments_given_by_callers_are_joined_with_the_days_of_these(tmp_path):
    """A replay: answers of today to requests of long ago, of two days."""
    rows = pa.concat_tables([logged(BY_REQUEST, 150), logged(BY_REQUEST, 150, day=NEXT, first=150)])
    today = pa.array([datetime.date(2026, 1, 1)] * len(rows))
    write_log(tmp_path / "log", BY_REQUEST, replaced(rows, day=today))
    shown(tmp_path, rows.slice(0, 1_500))
    request = asked(tmp_path, datetime.date(2026, 1, 1))
    assert measure_quality(BY_REQUEST, request)["state"] == "estimated"
    shown(tmp_path, rows.slice(1_500), day=NEXT)
    assert measure_quality(BY_REQUEST, request)["found_rows"] == 3_000


@pytest.mark.usefixtures("no_drawing")
def test_a_day_without_answers_is_skipped(tmp_path, rows):
    with pytest.raises(SkippedError, match=f"the log has no answers of {NEXT}"):
        measure_quality(BY_REQUEST, asked(tmp_path, NEXT))


@pytest.mark.usefixtures("no_drawing")
def test_a_log_that_nobody_names_is_an_error(tmp_path, monkeypatch):
    monkeypatch.delenv("RANKING_LOG_FOLDER", raising=False)
    with pytest.raises(ValueError, match="RANKING_LOG_FOLDER: not set"):
        measure_quality(BY_REQUEST, asked(tmp_path, log=None))


@pytest.mark.usefixtures("no_drawing")
def test_an_open_day_that_cannot_be_measured_holds_up_no_other(tmp_path, rows, caplog):
    measure_quality(BY_REQUEST, asked(tmp_path))
    other = dataclasses.replace(BY_REQUEST, history_length=BY_REQUEST.history_length + 1)
    write_examples(tmp_path / "lake", other, DAY, impressions_of(BY_REQUEST, rows))
    write_log(tmp_path / "log", BY_REQUEST, logged(BY_REQUEST, 30, day=NEXT, first=1_000))
    assert measure_quality(BY_REQUEST, asked(tmp_path, NEXT))["state"] == "estimated"
    assert f"{DAY} stays open" in caplog.text
    assert stored(tmp_path)[0]["state"] == "estimated"


@pytest.mark.parametrize("loss", [0.0, 1.0])
def test_a_share_that_cannot_be_lost_is_refused(tmp_path, loss):
    with pytest.raises(ValueError, match="--loss"):
        asked(tmp_path, loss=loss)
