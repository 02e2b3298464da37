"""What /metrics has, and that each query of the Grafana dashboard is about one of its metrics."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from support.serving import stand_ins

from serving.observability.metrics import ANSWERS, series
from serving.observability.version_metrics import LoadedVersions

DASHBOARD = Path(__file__).parents[3] / "infra" / "grafana" / "ranking-endpoint.json"
LABELS_OF_PROMETHEUS = {"instance", "job"}
"""Prometheus adds them to what it scrapes."""
WORDS = {
    *("sum", "max", "by", "on", "group_left", "rate", "increase", "histogram_quantile"),
}


def samples(guarded):
    answer = guarded.server.http.get("/metrics", headers=guarded.headers)
    families = text_string_to_metric_families(answer.text)
    return [sample for family in families for sample in family.samples]


def value(found, name, **labels):
    return sum(s.value for s in found if s.name == name and labels.items() <= s.labels.items())


@pytest.fixture(scope="module")
def exposed(guarded):
    """Metrics after an answer, a degraded answer and an error."""
    inputs = [
        {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [7]},
        {"name": "item_id", "shape": [1], "datatype": "BYTES", "data": ["a"]},
    ]
    guarded.infer({"inputs": inputs}).raise_for_status()
    assert guarded.infer({}).status_code == 400
    return samples(guarded)


def queries():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def metrics_and_labels(expression):
    """Names of metrics, and names of labels, of a PromQL expression of the kinds used here."""
    labels = set()
    for matchers in re.findall(r"\{([^}]*)\}", expression):
        labels |= set(re.findall(r"(\w+)\s*[!=]", matchers))
    for listed in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        labels |= set(re.findall(r"\w+", listed))
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on)\s*\([^)]*\)", " ", expression)
    return set(re.findall(r"[a-zA-Z_:][\w:]*", rest)) - WORDS, labels - LABELS_OF_PROMETHEUS


@pytest.mark.parametrize("expression", queries())
def test_every_query_of_the_dashboard_names_metrics_and_labels_that_are_there(exposed, expression):
    metrics, labels = metrics_and_labels(expression)
    assert metrics
    for metric in metrics:
        found = [sample for sample in exposed if sample.name == metric]
        assert found, f"{metric} is not at /metrics"
        assert labels <= {label for sample in found for label in sample.labels}, metric


@pytest.mark.parametrize("expression", queries())
def test_every_query_of_the_dashboard_is_of_the_chosen_models_and_tells_them_apart(expression):
    selectors = re.findall(r"ranking_\w+(\{[^}]*\})?", expression)
    assert all('model=~"$model"' in selector for selector in selectors)
    grouped = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression)
    assert grouped
    assert all(labels.split(",")[0] == "model" for labels in grouped)


def test_panels_do_not_overlap_and_have_a_source(exposed):
    panels = json.loads(DASHBOARD.read_text())["panels"]
    positions = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(positions)) == len(panels) == len({panel["id"] for panel in panels})
    assert {panel["datasource"]["uid"] for panel in panels} == {"${source}"}


def test_stages_versions_and_errors_are_counted_for_each_request(guarded, exposed, body):
    guarded.infer(body()).raise_for_status()
    guarded.server.infer(body())  # without the token
    after = samples(guarded)

    def grown(name, **labels):
        return value(after, name, **labels) - value(exposed, name, **labels)

    version = "2025-06-01-first"
    assert grown("ranking_answers_total", version=version) == 1
    assert grown("ranking_requests_total", outcome="complete") == 1
    assert grown("ranking_requests_total", outcome="rejected") == 1
    assert grown("ranking_errors_total", transport="rest", code="401") == 1
    assert grown("ranking_admitted_seconds_count") == 1
    for stage in ("receive", "features", "score"):
        assert grown("ranking_stage_seconds_count", stage=stage) == 1
    loaded = [s.labels for s in after if s.name == "ranking_model_version"]
    assert loaded == [{"model": "stand-in", "version": version}]
    assert value(after, "ranking_requests_in_flight") == 0


def test_the_model_is_ready_and_the_newest_rows_are_those_that_requests_have_read(exposed):
    assert value(exposed, "ranking_model_ready", model="stand-in") == 1
    assert value(exposed, "ranking_model_day_timestamp_seconds", model="stand-in") > 0
    newest = {
        sample.labels["table"]: sample.value
        for sample in exposed
        if sample.name == "ranking_online_row_timestamp_seconds"
    }
    noon = stand_ins.NOON.timestamp()
    assert newest == dict.fromkeys(("user_state", "item_daily"), noon - 86_400)


def test_series_of_versions_that_have_left_are_gone_after_one_more_change():
    """A server that runs for a year would else have series of all its versions."""
    versions = LoadedVersions("of-many")

    def answered(version):
        return REGISTRY.get_sample_value(
            "ranking_answers_total", {"model": "of-many", "version": version}
        )

    for number in range(4):
        version = f"one-of-many-{number}"
        versions.set_roles({"champion": (version, 100.0)})
        series(ANSWERS, "of-many", version).inc()
    assert [answered(f"one-of-many-{number}") for number in range(4)] == [None, None, 1, 1]
    versions.set_roles({"champion": ("never-asked", 100.0)})
    versions.set_roles({})
    versions.set_roles({"champion": ("one-of-many-0", 100.0)})
    assert answered("one-of-many-3") is None
    series(ANSWERS, "of-many", "one-of-many-0").inc()
    assert answered("one-of-many-0") == 1, "it counts again, where its first series has gone"
