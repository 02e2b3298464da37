"""What the bench of rankers makes of their figures: paired intervals, and a part of its page."""

import json
from pathlib import Path

import numpy as np
import pytest

from infra.bench.training import rankers
from infra.bench.training.rankers import BENCHED, PAGE, against, section_of, with_section
from training.config.model import MODELS


def losses(path, by_seed, group):
    np.savez(path, losses=np.float32(by_seed), group=group)
    return path


def test_a_difference_is_of_the_means_over_seeds_and_has_the_interval_of_its_users(tmp_path):
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(400), 5)
    base = random.uniform(0.3, 0.9, (3, 2_000))
    ours = losses(tmp_path / "ours.npz", base, group)
    # Half of the users are 20 % worse, the others 10 % better: more than rows would tell apart.
    by_user = np.where(np.arange(400) % 2, 1.2, 0.9)[group]
    theirs = losses(tmp_path / "theirs.npz", base * by_user, group)
    same = against(ours, ours)
    assert (same["change"], same["low"], same["high"]) == (0, 0, 0)
    found = against(theirs, ours)
    expected = (base * by_user).mean() / base.mean() - 1
    assert found["change"] == pytest.approx(expected, rel=1e-4)
    # 0.15 / sqrt(400) on either side, twice.
    assert found["high"] - found["low"] == pytest.approx(4 * 0.15 / 20, rel=0.25)
    other = losses(tmp_path / "other.npz", base, group[::-1])
    with pytest.raises(ValueError, match="rows of other users"):
        against(other, ours)


def figures(loss, low, high, **more):
    spreads = dict.fromkeys(("log_loss", "ne", "auc", "gauc"), 0.001)
    return {
        **{"log_loss": loss, "ne": 0.8, "auc": 0.7, "gauc": None, "params": 1_000},
        **{"mflop_per_example": 0.5, "spreads": spreads, "rows": {"train": 70_000, "test": 9_000}},
        **{"against": {"change": (low + high) / 2, "low": low, "high": high}, **more},
    }


def test_the_page_says_who_is_better_level_and_worse_and_keeps_its_other_parts():
    found = {
        "wukong": figures(0.55, 0, 0, best_log_loss=0.43),
        "dlrm": figures(0.54, -0.02, -0.01),
        "masknet": figures(0.551, -0.01, 0.02),
        "lightgbm": figures(0.6, 0.01, 0.1, mflop_per_example=None),
    }
    section = section_of("synthetic", found)
    lines = section.splitlines()
    assert lines[0].endswith("9,000 to test; the true probabilities have log loss 0.4300")
    assert [line.split(" | ")[0] for line in lines[4:8]] == [
        *("| dlrm", "| wukong", "| masknet", "| lightgbm"),
    ]
    assert "-1.50 (-2.00 to -1.00)" in lines[4]
    assert "0.5400 ± 0.0025" in lines[4]
    assert "| not defined | 1,000 | none |" in lines[7]
    verdict = "better than Wukong: dlrm; level with it: masknet; worse: lightgbm."
    assert lines[-1] == f"Over users, with these seeds, {verdict}"
    page = PAGE.read_text()
    for dataset in BENCHED:
        changed = with_section(page, dataset, section)
        assert section in changed
        assert with_section(changed, dataset, "") == with_section(page, dataset, "")
    with pytest.raises(ValueError, match="0 parts begin with <!-- else"):
        with_section(page, "else", section)


def test_what_is_known_of_a_ranker_is_not_measured_again_and_all_of_it_is_json(
    tmp_path, monkeypatch
):
    """The command that measures is left out: it writes losses, and returns its figures."""
    asked = []

    def job(package, name, *flags):
        given = dict(flag.removeprefix("--").split("=") for flag in flags)
        asked.append(given)
        Path(given["losses"]).parent.mkdir(exist_ok=True)
        losses(given["losses"], np.full((3, 4), 0.5 + len(asked) / 100), np.arange(4))
        return {**figures(0.5 + len(asked) / 100, 0, 0), "model": given["model"]}

    monkeypatch.setattr(rankers, "run_job", job)
    monkeypatch.setattr(rankers, "FOLDER", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(rankers.PAGE.read_text())
    monkeypatch.setattr(rankers, "PAGE", page)
    request = rankers.RankersRequest(datasets=("frappe-stand-in",))
    found = rankers.run(request)
    assert [one["model"] for one in asked] == [*MODELS, "lightgbm"]
    assert "compute-of" not in asked[-1]
    assert {one["search"] for one in asked} == {"20"}
    assert json.loads(json.dumps(found)) == found
    assert found["frappe-stand-in"]["dlrm"]["against"]["change"] == pytest.approx(0.01 / 0.51)
    assert "worse: dlrm" in page.read_text()
    assert rankers.run(request) == found
    assert len(asked) == len(MODELS) + 1
