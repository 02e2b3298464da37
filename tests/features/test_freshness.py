"""The dashboard and the alerting rules of the push read what it exports."""

import json
import re
from pathlib import Path

import prometheus_client
import pytest
import yaml

from features import freshness

FOLDER = Path(__file__).parents[2] / "infra" / "grafana"
WORDS = {"sum", "max", "by", "on", "rate", "histogram_quantile", "or"}


def expressions() -> list[str]:
    panels = json.loads((FOLDER / "ranking-push.json").read_text())["panels"]
    rules = yaml.safe_load((FOLDER / "ranking-push-alerts.yaml").read_text())["groups"][0]["rules"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    return [*found, *(rule["expr"] for rule in rules)]


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


def test_the_alert_and_its_page_have_one_name():
    (group,) = yaml.safe_load((FOLDER / "ranking-push-alerts.yaml").read_text())["groups"]
    (rule,) = group["rules"]
    assert rule["alert"] == freshness.RUNBOOK
    page = Path(__file__).parents[2] / rule["annotations"]["runbook"]
    assert page.stem == freshness.RUNBOOK
    assert page.exists()


def test_percentiles_of_nothing_are_nothing():
    assert freshness.percentiles([]) == {"p50_seconds": None, "p99_seconds": None}
    assert freshness.percentiles([1, 2, 3]) == {"p50_seconds": 2.0, "p99_seconds": 2.98}
