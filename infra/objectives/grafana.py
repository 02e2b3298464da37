"""Grafana's alert rules, and the dashboard of objectives."""

import json
from collections.abc import Iterator

from infra.objectives.objectives import Group, Limit, Objectives, Share
from infra.objectives.rules import HEADER, Rule, dumped, rules_of

DATA_SOURCE = "prometheus"
"""Uid of the data source in Grafana that the alert rules ask."""
_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 2
_SOURCE = {"type": "prometheus", "uid": "${source}"}


def alert_rules(objectives: Objectives) -> str:
    """A file for Grafana's ``provisioning/alerting``."""
    groups = [
        {
            "orgId": 1,
            "name": f"ranking-{group.name}",
            "folder": "Ranking",
            "interval": "1m",
            "rules": [
                _alert_rule(rule)
                for objective in group.objectives
                for rule in rules_of(objectives, objective)
            ],
        }
        for group in objectives.groups
    ]
    return HEADER + dumped({"apiVersion": 1, "groups": groups})


def _alert_rule(rule: Rule) -> dict[str, object]:
    plain = rule.to_dict()
    burn = f"-{rule.burn_rate.long}" if rule.burn_rate else ""
    return {
        "uid": f"ranking-{rule.objective.name}{burn}",
        "title": f"{rule.objective.name}{burn}",
        "condition": "fires",
        "data": [_query(rule), _threshold()],
        # The expression has no value while all is well.
        "noDataState": "OK",
        "execErrState": "Error",
        "for": rule.objective.for_ or "0s",
        "labels": plain["labels"],
        "annotations": plain["annotations"],
    }


def _query(rule: Rule) -> dict[str, object]:
    # A broken limit may have the value 0, which Grafana takes for well: so it is counted.
    by = f" by ({', '.join(rule.objective.by)})" if rule.objective.by else ""
    return {
        "refId": "broken",
        "relativeTimeRange": {"from": 600, "to": 0},
        "datasourceUid": DATA_SOURCE,
        "model": {"refId": "broken", "instant": True, "expr": f"count{by} ({rule.expression})"},
    }


def _threshold() -> dict[str, object]:
    conditions = [{"evaluator": {"type": "gt", "params": [0]}}]
    return {
        "refId": "fires",
        "datasourceUid": "__expr__",
        "model": {
            "refId": "fires",
            "type": "threshold",
            "expression": "broken",
            "conditions": conditions,
        },
    }


def dashboard(objectives: Objectives) -> str:
    """A dashboard with a panel for each objective: its value or its burn rate, and the limit."""
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    document = {
        "title": "Ranking objectives",
        "uid": "ranking-objectives",
        "description": "Generated from infra/slo.yaml by `make docs`; docs/objectives.md has them.",
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [source]},
        "panels": list(_panels(objectives)),
    }
    return json.dumps(document, indent=1) + "\n"


def _panels(objectives: Objectives) -> Iterator[dict[str, object]]:
    top, number = 0, 0
    for group in objectives.groups:
        number += 1
        yield _row(group, number, top)
        top += 1
        for place, objective in enumerate(group.objectives):
            number += 1
            column, row = place % _COLUMNS, place // _COLUMNS
            position = {
                "h": _HEIGHT,
                "w": _WIDTH,
                "x": column * _WIDTH,
                "y": top + row * _HEIGHT,
            }
            yield {"id": number, "gridPos": position, **_panel(objectives, objective)}
        top += -(-len(group.objectives) // _COLUMNS) * _HEIGHT


def _row(group: Group, number: int, top: int) -> dict[str, object]:
    position = {"h": 1, "w": _WIDTH * _COLUMNS, "x": 0, "y": top}
    return {
        "id": number,
        "type": "row",
        "title": group.title,
        "collapsed": False,
        "gridPos": position,
        "panels": [],
    }


def _panel(objectives: Objectives, objective: Share | Limit) -> dict[str, object]:
    page = f"{objectives.runbooks}{objective.runbook}.md"
    is_address = page.startswith("http")
    links = [{"title": "Runbook", "url": page.removesuffix(".md") + ".html"}] if is_address else []
    lines = _burn_lines(objectives, objective) if isinstance(objective, Share) else None
    unit = objective.unit if isinstance(objective, Limit) else "none"
    return {
        "title": objective.name,
        "description": f"{objective.plain_words} {page}",
        "type": "timeseries",
        "datasource": _SOURCE,
        "links": links,
        "targets": _targets(lines or _limit_lines(objective)),  # type: ignore[arg-type]
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
    }


def _burn_lines(objectives: Objectives, objective: Share) -> list[tuple[str, str]]:
    """Expressions and their legends: how fast the budget is spent, and how fast it may be."""
    legend = _legend(objective.by)
    budget = f"{1 - objective.target:.6g}"
    lines = []
    for rate in objectives.burn_rates:
        lines.append((f"({objective.over(rate.long)}) / {budget}", f"{rate.long} {legend}".strip()))
        lines.append((f"vector({rate.factor:g})", f"limit of {rate.long}"))
    return lines


def _limit_lines(objective: Limit) -> list[tuple[str, str]]:
    limit = objective.limit if "(" in objective.limit else f"vector({objective.limit})"
    return [(objective.indicator, _legend(objective.by) or "value"), (limit, "limit")]


def _targets(lines: list[tuple[str, str]]) -> list[dict[str, object]]:
    return [
        {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": expr, "legendFormat": words}
        for place, (expr, words) in enumerate(lines)
    ]


def _legend(labels: list[str]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in labels)
