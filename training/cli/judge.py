"""Runs the gate of a day."""

import dataclasses

from features.places import place
from features.schema import Schema
from training.data.dataset import ExampleTable
from training.evaluation import reports
from training.evaluation.evaluate import Versions, evaluate_candidate
from training.evaluation.findings import GateConfig
from training.registry import champions
from training.registry.aliases import CHAMPION
from training.registry.family_tree import family
from training.registry.mlflow_registry import Registry
from training.registry.model_lineage import note_model_read
from training.requests import EvaluateRequest


def judge(schema: Schema, request: EvaluateRequest) -> dict[str, object]:
    """Judge a day's candidate, or that of a trial, and write the decision and its page.

    Raises:
        ValueError: There is no such candidate, a first champion is asked for where there is
            one, or a model has trained on a day of the
            holdout.
    """
    registry = Registry(request.tracking, schema.name)
    candidate = request.candidate or registry.version_of(request.date)
    champion = registry.alias(CHAMPION)
    if champion is not None and registry.day_of(champion) > request.date:
        return _hold(schema, request, registry, candidate=candidate, champion=champion)
    versions = _versions(registry, request, candidate=candidate)
    for version in (candidate, versions.champion, *versions.anchors, request.control):
        if version:
            note_model_read(place(request.artifacts) / schema.name / version)
    limits = GateConfig(accepts_unknown=request.first)
    judged = evaluate_candidate(
        *(schema, ExampleTable(request.lake, schema), request.artifacts, versions),
        day=request.date,
        config=dataclasses.replace(limits, gauc_margin=None) if request.no_gauc else limits,
        is_spoilt=request.drill == "spoilt",
    )
    decided = reports.summary(judged)
    if not judged.is_spoilt:
        registry.set_decision(candidate, str(decided["decision"]))
    known = family(schema, registry, checkpoints=request.checkpoints, artifacts=request.artifacts)
    page = reports.write_gate_page(
        request.reports, schema.name, request.date.isoformat(), judged, known
    )
    return {**decided, "report": page}


def _versions(registry: Registry, request: EvaluateRequest, *, candidate: str) -> Versions:
    """The candidate and the versions that it is compared with.

    A candidate that has become champion since is compared with the champion that it replaced. A
    drill may spoil the champion itself, and is judged against what it was.
    """
    line = champions.line_of_champions(registry)
    if line and line[0].version == candidate and not request.drill:
        line = line[1:]
    anchors = champions.anchors(line, request.date, days=request.anchor_days)
    return Versions(
        candidate=candidate,
        champion=line[0].version if line else None,
        anchors=[version.version for version in anchors],
        control=request.control,
    )


def _hold(
    schema: Schema,
    request: EvaluateRequest,
    registry: Registry,
    *,
    candidate: str,
    champion: str,
) -> dict[str, object]:
    """Hold: the champion is newer than the day, and has trained on the holdout."""
    held: dict[str, object] = {
        "decision": "hold",
        "candidate": candidate,
        "champion": champion,
        "reasons": [f"champion is of {registry.day_of(champion)}, after {request.date}"],
        "alerts": [],
    }
    kind = reports.gate_kind(is_trial=bool(request.control))
    reports.write_decision(request.reports / schema.name / kind / request.date.isoformat(), held)
    return held
