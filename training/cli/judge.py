"""Runs the gate of a day, and draws the family of the rankers."""

import argparse
import dataclasses
from typing import Any

from features.schema import Schema
from training.data.dataset import ExampleTable
from training.evaluation import family_page, reports
from training.evaluation.decisions import summary
from training.evaluation.evaluate import Versions, evaluate_candidate
from training.evaluation.findings import GateConfig
from training.registry import champions
from training.registry.aliases import CHAMPION
from training.registry.family_tree import family
from training.registry.mlflow_registry import Registry


def judge(schema: Schema, options: argparse.Namespace) -> dict[str, Any]:
    """Judge a day's candidate, or that of a trial, and write the decision and its page.

    Raises:
        ValueError: There is no such candidate, one of a trial's two versions is missing, a first
            champion is asked for where there is one, or a model has trained on a day of the
            holdout.
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
    versions = _versions(registry, options, candidate=candidate)
    limits = GateConfig(accepts_unknown=options.first)
    judged = evaluate_candidate(
        *(schema, ExampleTable(options.lake, schema), options.artifacts, versions),
        day=options.date,
        config=dataclasses.replace(limits, gauc_margin=None) if options.no_gauc else limits,
        is_spoilt=options.drill == "spoilt",
    )
    decided = summary(judged)
    if not judged.is_spoilt:
        registry.set_decision(candidate, decided["decision"])
    known = family(schema, registry, checkpoints=options.checkpoints, artifacts=options.artifacts)
    page = reports.write_gate_page(
        options.reports, schema.name, options.date.isoformat(), judged, known
    )
    return {**decided, "report": page}


def _versions(registry: Registry, options: argparse.Namespace, *, candidate: str) -> Versions:
    """The candidate and the versions that it is compared with.

    A candidate that has become champion since is compared with the champion that it replaced. A
    drill may spoil the champion itself, and is judged against what it was.
    """
    line = champions.line_of_champions(registry)
    if line and line[0].version == candidate and not options.drill:
        line = line[1:]
    anchors = champions.anchors(line, options.date, days=options.anchor_days)
    return Versions(
        candidate=candidate,
        champion=line[0].version if line else None,
        anchors=[version.version for version in anchors],
        control=options.control,
    )


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
    """Hold: the champion is newer than the day, and has trained on the holdout."""
    held = {
        "decision": "hold",
        "candidate": candidate,
        "champion": champion,
        "reasons": [f"champion is of {registry.day_of(champion)}, after {options.date}"],
        "alerts": [],
    }
    kind = reports.gate_kind(is_trial=bool(options.control))
    reports.write_decision(options.reports / schema.name / kind / options.date.isoformat(), held)
    return held
