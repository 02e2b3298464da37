"""Alerting rules from objectives, for Prometheus itself and for its operator on Kubernetes."""

import dataclasses
from collections.abc import Iterator

import yaml

from infra.objectives.objectives import BurnRate, Limit, Objective, Objectives, Share

HEADER = "# Generated from infra/slo.yaml by `make docs`.\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One alerting rule."""

    objective: Objective
    expression: str
    severity: str
    runbook: str
    """Path or address of the page."""
    burn_rate: BurnRate | None = None
    """Of a share."""

    def to_dict(self) -> dict[str, object]:
        """The rule as Prometheus reads it."""
        burn = {"burn_rate": f"{self.burn_rate.factor:g}"} if self.burn_rate else {}
        held = {"for": self.objective.for_} if self.objective.for_ else {}
        return {
            "alert": self.objective.name,
            "expr": self.expression,
            **held,
            "labels": {"severity": self.severity, **burn},
            "annotations": {"summary": self.objective.words, "runbook": self.runbook},
        }


def limit_expression(objective: Limit) -> str:
    """PromQL that has a value while a limit is broken."""
    sign = ">" if objective.at_least is None else "<"
    limit = objective.limit
    if "(" in limit and objective.by:
        sign = f"{sign} on ({', '.join(objective.by)})"
    return f"({objective.indicator}) {sign} {limit}"


def burn_expression(objective: Share, rate: BurnRate) -> str:
    """PromQL that has a value while an error budget is spent too fast over both ranges."""
    most = f"{rate.factor * (1 - objective.target):.6g}"
    return " and ".join(f"{objective.over(window)} > {most}" for window in (rate.long, rate.short))


def rules_of(objectives: Objectives, objective: Share | Limit) -> Iterator[Rule]:
    """The rules of one objective: of a share one for each burn rate.

    What is a ticket is never more than that, however fast its budget is spent.
    """
    runbook = f"{objectives.runbooks}{objective.runbook}.md"
    if isinstance(objective, Limit):
        expression = limit_expression(objective)
        yield Rule(
            objective=objective,
            expression=expression,
            severity=objective.severity,
            runbook=runbook,
        )
        return
    for rate in objectives.burn_rates:
        yield Rule(
            objective=objective,
            expression=burn_expression(objective, rate),
            severity="ticket" if objective.severity == "ticket" else rate.severity,
            runbook=runbook,
            burn_rate=rate,
        )


def groups(objectives: Objectives) -> list[dict[str, object]]:
    """The groups of rules as Prometheus reads them."""
    return [
        {
            "name": f"ranking-{group.name}",
            "rules": [
                rule.to_dict()
                for objective in group.objectives
                for rule in rules_of(objectives, objective)
            ],
        }
        for group in objectives.groups
    ]


def prometheus(objectives: Objectives) -> str:
    """A file of rules, for ``rule_files`` of Prometheus."""
    return HEADER + dumped({"groups": groups(objectives)})


def operator(objectives: Objectives) -> str:
    """The same as an object for Prometheus' operator."""
    return HEADER + dumped(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "ranking", "namespace": "ranking"},
            "spec": {"groups": groups(objectives)},
        }
    )


def dumped(document: object) -> str:
    """YAML in the order of the document, whose lines a person reads."""
    return str(yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True))
