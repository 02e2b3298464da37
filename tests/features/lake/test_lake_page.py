"""The examples of docs/lake.md run as they are written."""

import re
from pathlib import Path

import pytest
from deltalake import DeltaTable

from features.lake.commit import REWRITES
from features.lake.snapshot import snapshot
from features.places import place

pytestmark = pytest.mark.spark
PAGE = (Path(__file__).resolve().parents[3] / "docs" / "lake.md").read_text()
BLOCKS = dict(re.findall(r'^```python title="(\w+)"\n(.*?)^```', PAGE, re.M | re.S))


@pytest.fixture
def run(spark, built, monkeypatch):
    """Run an example on the built lake instead of ``var/lake``; returns what it found."""
    monkeypatch.setenv("RANKING_ROOT", str(built.root))

    def found(name):
        names = {}
        source = BLOCKS[name].replace("var/lake", str(built.lake))
        exec(compile(source, f"docs/lake.md: {name}", "exec"), names)
        return names["found"]

    return found


def test_the_page_has_an_example_for_each_engine():
    assert list(BLOCKS) == ["deltalake", "duckdb", "polars", "spark", "feast"]


@pytest.mark.parametrize("name", ["deltalake", "duckdb", "polars", "spark"])
def test_an_engine_reads_the_rows_of_a_day(run, built, name):
    table = snapshot(place(built.lake) / "synthetic" / "examples")
    assert len(run(name)) == table.partition(built.days[2]).rows > 0


def test_feast_answers_each_question(run):
    found = run("feast")
    assert len(found) == 2
    assert {"user_id", "event_timestamp", "item_impressions_1d"} <= set(found.columns)


def test_the_page_names_what_a_commit_carries(built):
    commit = DeltaTable(str(built.lake / "synthetic" / "examples")).history()[0]
    section = PAGE.partition("## What a commit carries")[2].partition("\n##")[0]
    rows = re.findall(r"^\| (`.+?) \|", section, re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    # This one has made its days; only commits that copy days say so.
    assert named - {REWRITES} <= set(commit)
    assert REWRITES in named
