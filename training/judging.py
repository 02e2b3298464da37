"""The ``evaluate`` and ``family`` verbs: who is compared with whom, and where it is written."""

import argparse
from typing import Any

from features.schema import Schema
from training import family_page, report
from training.aliases import CHAMPION
from training.dataset import ExampleTable
from training.evaluation import evaluate_candidate, summary
from training.family import family
from training.registry import Registry


def judge(schema: Schema, options: argparse.Namespace) -> dict[str, Any]:
    """Judge a day's candidate, or that of a trial, and write the decision and its page.

    Raises:
        ValueError: There is no such candidate, one of a trial's two versions is missing, or a model
            has trained on a day of the holdout.
    """
    if bool(options.candidate) != bool(options.control):
        raise ValueError(
            f"candidate {options.candidate!r}, control {options.control!r}; a trial has both"
        )
    registry = Registry(options.tracking, schema.name)
    candidate = options.candidate or registry.version_of(options.date)
    champion = registry.alias(CHAMPION)
    if champion is not None and registry.day_of(champion) > options.date:
        return _hold(schema, options, registry, candidate=candidate, champion=champion)
    judged = evaluate_candidate(
        schema,
        ExampleTable(options.lake, schema),
        options.artifacts,
        day=options.date,
        candidate_version=candidate,
        # A drill may spoil the champion itself, and is judged against what it was.
        champion_version=champion if champion != candidate or options.drill else None,
        control_version=options.control,
        is_spoilt=options.drill == "spoilt",
    )
    decided = summary(judged)
    if not judged.is_spoilt:
        registry.set_decision(candidate, decided["decision"])
    known = family(schema, registry, checkpoints=options.checkpoints, artifacts=options.artifacts)
    page = report.write_gate_page(
        options.reports, schema.name, options.date.isoformat(), judged, known
    )
    return {**decided, "report": page}


def show_family(schema: Schema, options: argparse.Namespace) -> dict[str, Any]:
    """Write the page of the family; returns its members and the page."""
    members = family(
        schema,
        Registry(options.tracking, schema.name),
        checkpoints=options.checkpoints,
        artifacts=options.artifacts,
    )
    page = family_page.write_family_page(options.reports, schema.name, members)
    plain = [member.to_dict() for member in members]
    return {"dataset": schema.name, "members": plain, "report": page}


def _hold(
    schema: Schema,
    options: argparse.Namespace,
    registry: Registry,
    *,
    candidate: str,
    champion: str,
) -> dict[str, Any]:
    """Judged on these days again, a later champion would have trained on them."""
    held = {
        "decision": "hold",
        "candidate": candidate,
        "champion": champion,
        "reasons": [f"champion is of {registry.day_of(champion)}, after {options.date}"],
    }
    kind = report.gate_kind(is_trial=bool(options.control))
    report.write_decision(options.reports / schema.name / kind / options.date.isoformat(), held)
    return held
