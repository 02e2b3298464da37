"""The file of objectives, its errors, and what is generated from it."""

import json
import re

import pytest
import yaml
from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from features.push import ages
from features.push import freshness as push
from infra.local.settings import REPOSITORY
from infra.objectives.__main__ import GENERATED
from infra.objectives.objectives import FILE, Limit, Share, parse
from infra.objectives.rules import rules_of
from serving.observability import freshness, metrics

OBJECTIVES = parse(FILE.read_text())
NAMES = [one.name for one in OBJECTIVES.all()]
RULES = [rule for one in OBJECTIVES.all() for rule in rules_of(OBJECTIVES, one)]
OF_PROMETHEUS = {"instance", "pod", "le"}
"""Labels that it adds to what it scrapes, or that a histogram has."""
WORDS = {
    *("sum", "max", "min", "by", "on", "and", "rate", "increase", "histogram_quantile"),
    *("absent", "time"),
}


@pytest.mark.parametrize("path", GENERATED)
def test_what_is_generated_is_fresh(path):
    assert (REPOSITORY / path).read_text() == GENERATED[path](OBJECTIVES), "run make docs"


def exported() -> dict[str, set[str]]:
    """The labels of each series that the endpoint and the push export."""
    found = {}
    for module in (metrics, freshness, push, ages):
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                endings = {Counter: ["_total"], Histogram: ["_bucket", "_count", "_sum"]}
                for ending in endings.get(type(metric), [""]):
                    found[f"{metric._name}{ending}"] = {*metric._labelnames}
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.objective.name)
def test_every_expression_is_of_series_and_labels_that_are_exported(rule):
    known = exported()
    plain = re.sub(r"\[[^\]]*\]|\b(?:by|on)\s*\([^)]*\)|\"[^\"]*\"", " ", rule.expression)
    selectors = re.findall(r"(ranking_\w+)(\{[^}]*\})?", plain)
    assert selectors
    for name, matchers in selectors:
        assert {*re.findall(r"\w+", matchers)} - OF_PROMETHEUS <= known[name], name
    others = set(re.findall(r"[a-zA-Z_:][\w:]*", re.sub(r"\{[^}]*\}", " ", plain))) - WORDS
    assert others == {name for name, _ in selectors}
    grouped = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", rule.expression)
    labels = {label for listed in grouped for label in listed.split(", ")}
    assert labels <= set().union(OF_PROMETHEUS, *(known[name] for name, _ in selectors))


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_has_a_runbook_that_names_it(name):
    (objective,) = (one for one in OBJECTIVES.all() if one.name == name)
    page = REPOSITORY / "infra" / "runbooks" / f"{objective.runbook}.md"
    assert f"`{name}`" in page.read_text()


@pytest.mark.parametrize("objective", OBJECTIVES.all(), ids=lambda one: one.name)
def test_words_name_labels_that_the_alert_has(objective):
    assert set(re.findall(r"\.Labels\.(\w+)", objective.words)) <= {*objective.by}
    for expression in [objective.indicator] if isinstance(objective, Limit) else [objective.all]:
        grouped = re.findall(r"by \(([^)]*)\)", expression)
        assert all({*objective.by} & {*one.split(", ")} for one in grouped)


def test_three_forms_of_the_alerts_have_the_same_rules():
    plain = yaml.safe_load((REPOSITORY / "infra/grafana/ranking-rules.yaml").read_text())
    operator = yaml.safe_load((REPOSITORY / "infra/kubernetes/base/objectives.yaml").read_text())
    assert operator["spec"] == plain
    of_grafana = yaml.safe_load((REPOSITORY / "infra/grafana/ranking-alerts.yaml").read_text())
    rules = [rule for group in plain["groups"] for rule in group["rules"]]
    theirs = [rule for group in of_grafana["groups"] for rule in group["rules"]]
    assert len(theirs) == len(rules) == len({rule["uid"] for rule in theirs})
    for rule, other in zip(rules, theirs, strict=True):
        assert rule["expr"] in other["data"][0]["model"]["expr"]
        assert (rule["labels"], rule["annotations"]) == (other["labels"], other["annotations"])
        assert {one["refId"] for one in other["data"]} >= {other["condition"]}


def test_the_dashboard_has_a_panel_with_the_limit_of_each_objective():
    board = json.loads((REPOSITORY / "infra/grafana/ranking-objectives.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] == "timeseries"]
    assert [panel["title"] for panel in panels] == NAMES
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len({*places}) == len(board["panels"]) == len({one["id"] for one in board["panels"]})
    for panel, objective in zip(panels, OBJECTIVES.all(), strict=True):
        shown = [target["expr"] for target in panel["targets"]]
        if isinstance(objective, Share):
            assert len(shown) == 2 * len(OBJECTIVES.burn_rates)
        else:
            assert shown[0] == objective.indicator
            assert objective.limit in shown[1]
        assert f"infra/runbooks/{objective.runbook}.md" in panel["description"]


def test_with_the_address_of_the_site_a_panel_links_its_runbook():
    text = FILE.read_text().replace("runbooks: infra/", "runbooks: https://docs.example.com/infra/")
    board = json.loads(GENERATED["infra/grafana/ranking-objectives.json"](parse(text)))
    (panel,) = (one for one in board["panels"] if one["title"] == "model-old")
    address = "https://docs.example.com/infra/runbooks/model-old"
    assert panel["links"] == [{"title": "Runbook", "url": f"{address}.html"}]


MINIMAL = {
    "runbooks": "infra/runbooks/",
    "burn_rates": [{"factor": 10, "long": "1h", "short": "5m", "severity": "page"}],
}
LIMIT = {
    **{"name": "old", "words": "Old.", "severity": "page", "runbook": "data-old"},
    **{"indicator": "time() - x", "at_most": "2h"},
}
SHARE = {
    **{"name": "bad", "words": "Bad.", "severity": "page", "runbook": "data-old"},
    **{"bad": "rate(x[window])", "all": "rate(y[window])", "target": 0.99, "window": "30d"},
}


def written(*objectives, **changes):
    group = {"name": "one", "title": "One", "objectives": [*objectives]}
    return yaml.safe_dump({**MINIMAL, "groups": [group], **changes})


def test_a_minimal_file_is_read():
    old, bad = parse(written(LIMIT, SHARE)).all()
    assert (old.limit, bad.over("1h")) == ("7200", "(rate(x[1h])) / (rate(y[1h]))")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (written({**LIMIT, "severity": "wake"}), r"old\.severity: 'wake': Input should be 'page'"),
        (written({**LIMIT, "for": "5 minutes"}), r"old\.for: '5 minutes': String should match"),
        (written({**LIMIT, "runbok": "x"}), r"old: unknown key; do you mean runbook\?"),
        (written({**LIMIT, "at_least": 1}), r"old: needs exactly one of at_most and at_least"),
        (written({**LIMIT, "at_most": "30 hours"}), r"old: at_most: '30 hours'; expected a number"),
        (written({**LIMIT, "at_most": 3, "deadline": True}), r"old: deadline: needs at_most with"),
        (written({**SHARE, "target": 1.5}), r"bad\.target: 1\.5: Input should be less than 1"),
        (written({**SHARE, "all": "rate(y[5m])"}), r"bad: all: must have a range \[window\]"),
        (written({**SHARE, "target": 0.9}), r"objective bad: target 0\.9: above 0\.9, or 10 times"),
        (written(LIMIT, LIMIT), r"the file: name old: there are two objectives of it"),
        (written({**LIMIT, "name": "Old"}), r"Old\.name: 'Old': String should match pattern"),
        (written(LIMIT, runbooks="docs"), r"runbooks: 'docs': String should match"),
        ("groups: [", "slo.yaml: not YAML"),
        ("3", r"slo.yaml: the file: 3: Input should be"),
    ],
)
def test_an_error_names_the_key_the_value_and_the_limit(text, error):
    with pytest.raises(ValueError, match=error):
        parse(text)
