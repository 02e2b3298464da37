"""The page of a study, and the command that writes it."""

import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import escape
from support.made_points import runs

from features.pages import site
from training.__main__ import main
from training.experiments.scaling.advice import Current, study
from training.experiments.scaling.page import page, panel
from training.experiments.scaling.points import append_points

LADDER = 1e6 * 2.0 ** np.arange(6)


def ladder(x):
    return 0.03 * (x / 1e6) ** -0.4 + 0.82


def points():
    recipes = {LADDER[5]: "wukong-small-x3"}
    return [
        *runs(ladder, LADDER, axis="compute", unit="FLOPs an example", recipes=recipes),
        *runs(
            lambda x: ladder(x) + 0.01, LADDER, axis="compute", unit="FLOPs an example", model="<b>"
        ),
        *runs(lambda x: 0.83, LADDER, axis="rows", unit="rows <i>"),
    ]


CURRENT = {"name": "of <u>today", "model": "wukong", "x": {"compute": LADDER[4]}, "ne": 0.8403}


@pytest.fixture(scope="module")
def found():
    return study(points(), Current(**CURRENT))


def test_the_page_has_the_advice_a_panel_an_axis_and_nothing_of_the_points_unescaped(found):
    html = site.html(page(found, name="trial"))
    assert escape(found.advice.sentences[0]) in html
    assert re.findall(r"<figcaption>(.*?)</figcaption>", html) == [
        "Wukong&#39;s ladder",
        "Rows per table",
    ]
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(svg)
    assert not re.search(r"<(b|i|u)>", html)
    assert "src=" not in html
    assert "<link" not in html


def test_a_panel_shows_points_law_band_floor_production_and_the_step(found):
    upper, lower = panel(found, "compute").axes
    assert upper.get_xscale() == "log"
    labels = set(upper.get_legend_handles_labels()[1])
    assert labels == {"wukong", "<b>", "production", "next"}
    drawn = {tuple(line.get_xdata()) for line in upper.lines}
    assert tuple(LADDER) in drawn
    diamond = next(line for line in upper.lines if line.get_marker() == "D")
    assert (diamond.get_xdata()[0], diamond.get_ydata()[0]) == (LADDER[4], 0.8403)
    texts = " ".join(text.get_text() for text in upper.texts)
    gamma = next(c.gamma for c in found.curves if (c.axis, c.model) == ("compute", "wukong"))
    assert gamma.estimate in [line.get_ydata()[0] for line in upper.lines]
    assert f"floor of wukong {gamma.estimate:.4f}" in texts
    assert lower.get_xlabel() == "FLOPs an example"
    flat = panel(found, "rows").axes[0]
    assert "floor not identified" in [text.get_text() for text in flat.texts]


@pytest.mark.process
def test_the_command_prints_the_law_and_writes_the_page_without_torch(tmp_path):
    file, current = tmp_path / "trial.jsonl", tmp_path / "current.json"
    append_points(file, points())
    current.write_text(json.dumps(CURRENT))
    code = (
        "import sys; from training.__main__ import main; "
        f"code = main(['law', '--points', {str(file)!r}, '--current', {str(current)!r}, "
        f"'--reports', {str(tmp_path)!r}]); sys.exit(3 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["advice"]["target"] == "wukong-small-x3"
    assert "<svg" in (tmp_path / summary["report"]).read_text()
    written = json.loads((tmp_path / summary["report"]).with_name("law.json").read_text())
    assert written["advice"] == summary["advice"]


@pytest.mark.parametrize("text", ["[]", "{", '{"model": "wukong"}', '{"x": 3}'])
def test_a_bad_file_of_the_production_model_is_named(tmp_path, capsys, text):
    file, current = tmp_path / "trial.jsonl", tmp_path / "current.json"
    append_points(file, points())
    current.write_text(text)
    assert main(["law", f"--points={file}", f"--current={current}"]) == 1
    assert "current.json: " in json.loads(capsys.readouterr().out)["error"]


def test_help_names_exactly_the_flags(capsys):
    with pytest.raises(SystemExit):
        main(["law", "--help"])
    shown = set(re.findall(r"--[a-z]+", capsys.readouterr().out))
    assert shown == {"--help", "--points", "--current", "--reports"}
