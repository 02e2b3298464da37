"""A study ends in advice that a growth can take, or says why there is none yet."""

import json
from types import SimpleNamespace

import pytest
from support.training.commands import run_command

from features.cli import SkippedError
from training.experiments.scaling.points import read_points
from training.experiments.sweep.run_study import _current, advice_file, advised_target


def test_a_study_writes_points_a_page_and_advice(built, tmp_path):
    """The command itself, on the smallest ranker; nothing is done twice."""
    folders = [f"--{name}={tmp_path / name}" for name in ("study", "tracking", "reports")]
    flags = (
        "--recipe=wukong-tiny",
        "--axis=data",
        "--points=5",
        "--seeds=1",
        "--budget=9",
        "--batch-size=128",
    )
    asked = ("scaling", "--dataset=synthetic", f"--lake={built.lake}", *folders, *flags)
    found = run_command(*asked)
    assert found["swept"]["data"]["left_out"] == []
    assert len(read_points(tmp_path / "study" / "synthetic.jsonl")) == 5
    assert "examples" in (tmp_path / "reports" / found["report"]).read_text()
    advice = json.loads(advice_file(tmp_path / "study", built.schema).read_text())
    assert advice["text"] == found["advice"]
    assert advice["target"] == found["target"]
    again = run_command(*asked)
    assert again["swept"]["data"]["estimated_minutes"] == 0
    assert again["advice"] == found["advice"]


def test_too_few_steps_for_the_sizes_are_refused(built, tmp_path):
    folders = [f"--{name}={tmp_path / name}" for name in ("study", "tracking", "reports")]
    flags = ("--recipe=wukong-tiny", "--axis=data", "--batch-size=1024")
    asked = ("scaling", "--dataset=synthetic", f"--lake={built.lake}", *folders, *flags)
    assert "4 steps of 1024 examples; too few for 5 sizes" in run_command(*asked, code=1)["error"]


def test_production_is_on_every_axis_that_its_recipe_determines(built):
    def known(recipe):
        return _current(built.schema, SimpleNamespace(recipe=recipe, version="7")).x

    assert known("wukong-small-l4")["depth"] == 4
    assert known("wukong-small-l4")["compute"] > known("wukong-small")["compute"]
    assert "depth" not in known("dlrm-small")


def test_too_small_a_budget_is_no_failure(built, tmp_path):
    folders = [f"--{name}={tmp_path / name}" for name in ("study", "tracking", "reports")]
    flags = ("--recipe=wukong-tiny", "--axis=dense,overarch", "--budget=0")
    found = run_command("scaling", "--dataset=synthetic", f"--lake={built.lake}", *folders, *flags)
    assert len(found["swept"]["overarch"]["left_out"]) == 5
    assert "points: 0" in found["law"]


def test_advice_that_is_missing_or_gains_nothing_is_reported(built, tmp_path):
    with pytest.raises(SkippedError, match=r"no .*synthetic-advice.json; run"):
        advised_target(tmp_path, built.schema)
    path = advice_file(tmp_path, built.schema)
    path.write_text(json.dumps({"target": None, "text": ["Nothing gains."]}))
    with pytest.raises(SkippedError, match="no recipe is shown to gain: Nothing gains"):
        advised_target(tmp_path, built.schema)
    path.write_text(json.dumps({"target": "wukong-small-x2", "text": ["Grow."]}))
    assert advised_target(tmp_path, built.schema) == "wukong-small-x2"
