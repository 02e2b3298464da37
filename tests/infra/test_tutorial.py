"""The tutorial works as it is written, up to where it trains; `make tutorial` runs the rest."""

import re
import subprocess

import pytest

from features.datasets.schema_files.build import read_data_set
from infra.drills import tutorial

PROSE = re.sub(r"^```.*?^```", "", tutorial.PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
SHOWN = re.findall(r"^    (.*)$", PROSE, re.MULTILINE)
"""What the page shows of outputs and files, and at its end a command."""


@pytest.mark.process
def test_the_commands_do_what_the_page_shows(tmp_path):
    done = tutorial.run(tmp_path, minutes=False)
    file = tmp_path / "shop" / "shop.yaml"
    written = [line.strip() for line in [*done.stdout.splitlines(), *file.read_text().splitlines()]]
    *shown, schedule = SHOWN
    assert schedule.endswith("make up")
    assert [line for line in shown if line.strip() not in written] == []
    assert len(shown) > 12
    data_set = read_data_set(file)
    assert data_set.schema.label.delay.total_seconds() == 60
    assert len(list((tmp_path / "var" / "landing" / "shop" / "impressions").iterdir())) == 6


@pytest.mark.process
def test_a_command_that_fails_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tutorial, "PAGE", tmp_path / "page.md")
    tutorial.PAGE.write_text("```bash\necho 1\nfalse\necho 2\n```\n")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        tutorial.run(tmp_path, minutes=False)
    assert caught.value.stdout == "1\n"


def test_what_takes_minutes_is_left_to_make(tmp_path):
    whole, quick = (tutorial.script(tmp_path, minutes=minutes) for minutes in (True, False))
    assert "make demo SCHEMA=$SHOP/shop.yaml\n" in whole
    assert "curl -sf http" in whole
    assert "make demo" not in quick
    assert f"cp $SHOP/products.csv {tmp_path}/var/landing/shop/items.csv" in quick
    assert f"export SHOP={tmp_path}/shop\n" in quick
