"""``python -m training drift``: a day of the log, or of the examples, and what comes of it."""

import datetime
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.logs.logged_days import answers, write_log
from support.training.artifacts import random_ranker, random_rows, write_random
from support.training.written_examples import DAY_OF_ROWS, SCHEMA, days_of, written_examples

from features.lake.commit import remove
from features.lake.day_file import replace_day
from features.places import put_whole
from features.schema.fingerprints import rows_fingerprint
from training.__main__ import main
from training.artifact import artifact
from training.artifact.manifest import read_manifest
from training.artifact.reference import REFERENCE, make_reference
from training.data.dataset import TABLE, ExampleTable
from training.data.profile import Key, Profile
from training.monitoring.drift_days import LandedExamples, LoggedAnswers, Profiles
from training.monitoring.drift_job import RESULT_FILE

ROWS, DAYS = 200, 17
DATES = [DAY_OF_ROWS + datetime.timedelta(days=number) for number in range(DAYS)]
LAST = DATES[-1]
RUNBOOKS = Path(__file__).parents[3] / "infra" / "runbooks"


def dearer(rows):
    """The same rows with prices ten times as high."""
    prices = np.array(rows["item_price"]) * 10
    return rows.set_column(rows.column_names.index("item_price"), "item_price", [prices])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Examples and log of the same days, of which the last is dearer, and a version."""
    root = tmp_path_factory.mktemp("drift")
    table = written_examples(root / "lake", num_rows=ROWS, row_group=ROWS, days=DAYS)
    replace_day(
        table.root,
        LAST,
        [dearer(random_rows(SCHEMA, ROWS, seed=5))],
        fingerprint=rows_fingerprint(SCHEMA),
        row_group_rows=ROWS,
    )
    table = ExampleTable(root / "lake", SCHEMA)
    plain = write_random(root / "without", SCHEMA)
    fields = json.loads((plain / "manifest.json").read_text())
    ranker = random_ranker(SCHEMA)
    reference = make_reference(
        SCHEMA,
        table,
        learnt=days_of(table)[:3],
        held_out=[],
        score=lambda inputs: np.linspace(0, 1, len(inputs), dtype=np.float32),
    )
    kept = ("trained_through", "recipe", "config", "parents", "metrics", "mlflow_run", "tables")
    artifact.write(
        root / "artifacts",
        ranker,
        SCHEMA,
        random_rows(SCHEMA, 64),
        more_files={REFERENCE: reference.to_bytes()},
        day=str(DATES[2]),
        **{name: fields[name] for name in kept},
    )
    version = next((root / "artifacts" / SCHEMA.name).iterdir()).name
    days = [
        answers(SCHEMA, ROWS, day=day, seed=n, model_version=version)
        for n, day in enumerate(DATES[:-1])
    ]
    # Of the last day half stands for two answers each; what a shadow saw is of no matter.
    share = np.where(np.arange(ROWS) % 20 < 10, 0.5, 1.0)
    days.append(
        dearer(
            answers(
                SCHEMA, ROWS, day=LAST, seed=99, model_version=version, inclusion_probability=share
            )
        )
    )
    days.append(answers(SCHEMA, ROWS, day=LAST, seed=98, role="shadow", model_version="other"))
    write_log(root / "log", SCHEMA, days)
    return root


def run(root, capsys, *flags, day=LAST):
    """Exit code and summary."""
    folders = [f"--{name}={root / name}" for name in ("lake", "artifacts", "reports")]
    code = main(["drift", "--dataset=synthetic", f"--date={day}", *folders, *flags])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def version(root):
    return next((root / "artifacts" / SCHEMA.name).iterdir()).name


def folder(root, source, day=LAST):
    return root / "reports" / SCHEMA.name / "drift" / source / str(day)


def test_what_drifted_in_the_log_is_an_alert_with_its_reason(root, version, capsys):
    code, found = run(root, capsys, f"--log={root / 'log'}")
    assert (code, found["version"], found["source"], found["rows"]) == (0, version, "log", ROWS)
    assert [one["feature"] for one in found["drifted"]] == ["item_price"]
    (alert,) = found["alerts"]
    assert alert["what"].startswith("item_price: ")
    assert (RUNBOOKS / f"{alert['alert']}.md").exists()
    page = (root / "reports" / found["report"]).read_text()
    assert "item_price" in page
    assert "drift" in page


def test_each_statistic_of_the_day_is_a_row(root, capsys):
    run(root, capsys, f"--log={root / 'log'}")
    rows = [
        json.loads(line) for line in (folder(root, "log") / "rows.jsonl").read_text().splitlines()
    ]
    names = {(row["slice"], row["feature"], row["statistic"]) for row in rows}
    assert len(names) == len(rows)
    assert {
        ("all", "label", "rate"),
        ("all", "score", "ks"),
        ("device = phone", "rows", "rate"),
    } <= names
    drifted = {row["feature"] for row in rows if row["alert"]}
    assert drifted == {"item_price"}
    assert all(row["p"] < row["alpha"] for row in rows if row["alert"])


def test_answers_count_by_their_weight_and_those_of_a_shadow_do_not(root, capsys):
    run(root, capsys, f"--log={root / 'log'}")
    kept = Profile.from_bytes((folder(root, "log") / "profile.parquet").read_bytes())
    score = kept.sketches[Key("all", "score")]
    assert score.total + score.missing == ROWS // 2 * 2 + ROWS // 2
    assert kept.about["version"] != "other"


def test_a_second_run_writes_the_same_and_a_later_day_goes_on(root, capsys):
    run(root, capsys, f"--log={root / 'log'}")
    before = {path.name: path.read_bytes() for path in folder(root, "log").iterdir()}
    run(root, capsys, f"--log={root / 'log'}")
    assert {path.name: path.read_bytes() for path in folder(root, "log").iterdir()} == before


def test_the_day_before_did_not_drift(root, capsys):
    _, found = run(root, capsys, f"--log={root / 'log'}", day=DATES[-2])
    assert (found["judged"], found["drifted"], found["alerts"]) == (True, [], [])


def test_without_a_log_the_examples_are_compared(root, version, capsys, monkeypatch):
    monkeypatch.delenv("RANKING_LOG_FOLDER", raising=False)
    code, found = run(root, capsys, f"--version={version}")
    assert (code, found["source"], found["label_day"]) == (0, "examples", str(LAST))
    assert "item_price" in [one["feature"] for one in found["drifted"]]


def test_a_version_without_a_reference_and_a_day_without_rows_are_skipped(root, capsys):
    (old,) = (root / "without" / SCHEMA.name).iterdir()
    assert read_manifest(old).content_sha256.keys() == {"weights.safetensors", "golden.parquet"}
    flags = (f"--log={root / 'log'}", f"--artifacts={root / 'without'}", f"--version={old.name}")
    code, found = run(root, capsys, *flags)
    assert (code, found["skipped"][:42]) == (99, f"artifact {old.name}: has no reference"[:42])
    code, found = run(root, capsys, flags[0], day=LAST + datetime.timedelta(days=9))
    assert (code, "no rows to compare" in found["skipped"]) == (99, True)


def test_a_day_that_has_changed_is_read_again(root, version, capsys):
    """A kept profile of another day's rows is no noise of the weeks before."""
    run(root, capsys, f"--version={version}")
    path = folder(root, "examples", DATES[-3]) / "profile.parquet"
    kept = path.read_bytes()
    changed = Profile.from_bytes(kept)
    changed.about["stamp"] = "of rows that were there before"
    path.write_bytes(changed.to_bytes())
    run(root, capsys, f"--version={version}")
    assert path.read_bytes() == kept


def put_examples(root, rows):
    """Replace the last day's examples."""
    of = {"fingerprint": rows_fingerprint(SCHEMA), "row_group_rows": ROWS}
    replace_day(root / "lake" / SCHEMA.name / TABLE, LAST, [rows], **of)


def test_a_day_is_looked_at_again_when_its_labels_have_come(root, capsys, tmp_path):
    """And alerts what they show, not again what the first look has alerted."""
    # With the profiles of days that are there already.
    own = shutil.copytree(root, tmp_path / "own")
    for source in ("log", "examples"):
        (folder(own, source) / RESULT_FILE).unlink(missing_ok=True)
    remove(own / "lake" / SCHEMA.name / TABLE, [LAST], metadata={})
    for day in DATES[-7:-1]:
        put_whole(folder(own, "log", day) / RESULT_FILE, b'{"has_labels": true, "drifted": []}')
    asked = (f"--log={own / 'log'}", "--due")
    after = LAST + datetime.timedelta(days=1)
    code, found = run(own, capsys, *asked, day=after)
    assert (code, found["day"], found["has_labels"]) == (0, str(LAST), False)
    assert [one["feature"] for one in found["drifted"] if one["is_new"]] == ["item_price"]
    code, found = run(own, capsys, *asked, day=after)
    assert (code, found["skipped"]) == (99, f"no day of the week before {after} is due")
    rows = random_rows(SCHEMA, ROWS, seed=5)
    place = rows.column_names.index("label")
    put_examples(own, rows.set_column(place, "label", [np.ones(ROWS, dtype=np.int64)]))
    code, found = run(own, capsys, *asked, day=after)
    assert (code, found["day"], found["has_labels"]) == (0, str(LAST), True)
    assert [one["feature"] for one in found["drifted"] if one["is_new"]] == ["label"]
    (alert,) = found["alerts"]
    assert alert["what"].startswith("label: rate")
    assert "item_price" not in alert["what"]
    assert run(own, capsys, *asked, day=after)[0] == 99


def test_labels_that_come_later_are_in_the_days_that_tell_the_noise(root, capsys, tmp_path):
    """Though what was answered on the day is not read again."""
    own = shutil.copytree(root, tmp_path / "own", ignore=shutil.ignore_patterns("reports"))
    examples = ExampleTable(own / "lake", SCHEMA)
    answered = LoggedAnswers(own / "log", SCHEMA)
    without = Profiles(tmp_path / "kept", SCHEMA, answered, examples=None).of_day(LAST)
    assert Key("all", "label") not in without.sketches
    log = SimpleNamespace(name=answered.name, stamp=answered.stamp)
    kept = Profiles(tmp_path / "kept", SCHEMA, log, examples=examples).of_day(LAST)
    assert kept.sketches[Key("all", "label")].total == ROWS
    whole = Profiles(tmp_path / "anew", SCHEMA, answered, examples=examples).of_day(LAST)
    assert kept.to_bytes() == whole.to_bytes()


def test_labels_of_examples_stay_in_a_profile_of_an_earlier_version(root, tmp_path):
    """It does not say of which examples its labels are."""
    examples = ExampleTable(root / "lake", SCHEMA)
    source = LandedExamples(examples, SCHEMA, version="v", score=lambda rows: rows.dense[:, 0])
    profiles = Profiles(tmp_path, SCHEMA, source, examples=examples)
    whole = profiles.of_day(LAST)
    about = {name: said for name, said in whole.about.items() if name != "label_stamp"}
    put_whole(tmp_path / str(LAST) / "profile.parquet", Profile(about, whole.sketches).to_bytes())
    source.rows = None
    assert profiles.of_day(LAST).to_bytes() == whole.to_bytes()
    assert Key("all", "label") in whole.sketches
