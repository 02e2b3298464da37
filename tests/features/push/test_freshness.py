"""The dashboard of the push reads what it exports."""

import json
import re
import time
from pathlib import Path

import prometheus_client
import pytest

from features.push import freshness
from infra.objectives.objectives import FILE, parse

FOLDER = Path(__file__).parents[3] / "infra" / "grafana"
WORDS = {"sum", "max", "by", "on", "rate", "histogram_quantile", "or"}


def expressions() -> list[str]:
    panels = json.loads((FOLDER / "ranking-push.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_every_expression_is_of_exported_metrics(expression):
    rest = re.sub(r"\[[^\]]*\]|\b(?:by|on)\s*\([^)]*\)", " ", expression)
    named = set(re.findall(r"[a-zA-Z_:][\w:]*", rest)) - WORDS
    freshness.BATCHES.labels("written")
    exported = {
        sample.name
        for family in prometheus_client.REGISTRY.collect()
        for sample in family.samples
        if family.name.startswith("ranking_push")
    }
    assert named
    assert named <= exported


def test_the_alert_has_a_page_and_the_name_of_its_objective():
    names = [one.name for one in parse(FILE.read_text()).all() if one.runbook == freshness.RUNBOOK]
    assert freshness.RUNBOOK in names
    assert (FOLDER.parent / "runbooks" / f"{freshness.RUNBOOK}.md").exists()


def test_percentiles_of_nothing_are_nothing():
    assert freshness.percentiles([]) == {"p50_seconds": None, "p99_seconds": None}
    assert freshness.percentiles([1, 2, 3]) == {"p50_seconds": 2.0, "p99_seconds": 2.98}


def test_a_file_is_measured_once_and_beyond_the_delay_there_is_one_alert(tmp_path, caplog):
    """Also after a restart, at which everything is offered again."""

    def measure(delay_seconds):
        return freshness.Freshness(
            delay_seconds=delay_seconds,
            mark=tmp_path / "measured.txt",
            alerts=tmp_path / "alerts",
            dataset="synthetic",
        )

    files = [tmp_path / "first", tmp_path / "second"]
    for path in files:
        path.touch()
    time.sleep(0.002)  # the summary rounds to milliseconds
    running = measure(1e-9)
    assert len(running.readable(running.arrivals(files))) == 2
    running.wait([0.0])
    summary = running.summary()
    assert summary["files"] == 2
    assert 0 < summary["p50_seconds"] <= summary["p99_seconds"] < 60
    notice = json.loads((tmp_path / "alerts" / "features-late.json").read_text())
    assert notice["runbook"] == "infra/runbooks/features-late.md"
    assert "readable too late; the schema declares 1e-09 s" in notice["error"]
    assert caplog.text.count("ALERT") == 1
    restarted = measure(60.0)
    assert restarted.arrivals(files) == []
    third = tmp_path / "third"
    third.touch()
    arrivals = restarted.arrivals([*files, third])
    assert len(arrivals) == 1
    restarted.wait(arrivals)
    assert len(restarted.readable(arrivals)) == 1
    assert caplog.text.count("ALERT") == 1
