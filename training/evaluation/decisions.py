"""The gate's decision as plain values: what ``decision.json`` holds and promotion reads."""

import dataclasses
import math
from typing import Any

from training.evaluation import gate
from training.evaluation.comparison import Against, Comparison
from training.evaluation.evaluate import Baseline, Evaluation
from training.evaluation.gate import Alert, Decision

Values = dict[str, Any]


def summary(evaluation: Evaluation) -> Values:
    """The decision as plain values, for JSON; what is not finite is None."""
    decision, base_rate = evaluation.decision, evaluation.base_rate
    control, anchor = evaluation.control, evaluation.anchor
    answering = gate.CHAMPION if gate.CHAMPION in decision.against else gate.BASE_RATE
    return {
        "decision": decision.verdict.value,
        "drill": "spoilt candidate" if evaluation.is_spoilt else None,
        "reasons": decision.reasons,
        "alerts": [alert_values(alert) for alert in decision.alerts],
        "notes": [*decision.notes, *evaluation.notes],
        "checks": [{"says": one.verdict.value, "what": one.text} for one in decision.findings],
        "candidate": evaluation.candidate.manifest.version,
        "champion": evaluation.champion_version,
        "holdout": [evaluation.days[0].isoformat(), evaluation.days[-1].isoformat()],
        "metrics": decision.candidate.to_dict() if decision.candidate else None,
        "champion_metrics": _metrics(decision, gate.CHAMPION),
        "compared_with": answering,
        **_against(decision.against.get(answering)),
        "anchor": None if anchor is None else _baseline(decision, gate.ANCHOR, anchor),
        "control": None if control is None else _baseline(decision, gate.CONTROL, control),
        "calibration": _calibration(evaluation),
        "base_rate": {
            "rate": base_rate.rate,
            "rows": base_rate.rows,
            "days": [base_rate.first_day.isoformat(), base_rate.last_day.isoformat()],
            **_against(decision.against.get(gate.BASE_RATE)),
        },
        "agreement": evaluation.agreement,
        "regret": None if evaluation.regret is None else _finite(evaluation.regret),
    }


def alert_values(alert: Alert) -> Values:
    """An alert, with the page that says what to do."""
    page = f"infra/runbooks/{alert.name}.md"
    return {"alert": alert.name, "runbook": page, "what": alert.text}


def _metrics(decision: Decision, key: str) -> Values | None:
    found = decision.baselines.get(key)
    return found.to_dict() if found else None


def _baseline(decision: Decision, key: str, baseline: Baseline) -> Values:
    manifest = baseline.artifact.manifest
    values = {"version": manifest.version, "day": manifest.day, "metrics": _metrics(decision, key)}
    return {**values, **_against(decision.against.get(key))}


def _against(found: Against | None) -> Values:
    """The comparison with one baseline; None where there is none."""
    return {
        "log_loss_change": _comparison(found.log_loss) if found else None,
        "gauc_change": _comparison(found.gauc) if found and found.gauc else None,
        "gauc_users": found.num_gauc_users if found and found.gauc else None,
        "slices": {n: _comparison(c) for n, c in found.slices.items()} if found else {},
    }


def _comparison(found: Comparison) -> Values:
    return {name: _finite(value) for name, value in dataclasses.asdict(found).items()}


def _calibration(evaluation: Evaluation) -> Values | None:
    found, bounds = evaluation.decision.calibration, evaluation.config.calibration
    if found is None:
        return None
    values = {name: _finite(value) for name, value in dataclasses.asdict(found).items()}
    return {**values, "bounds": list(bounds)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
