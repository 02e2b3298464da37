"""``python -m serving policy``: what follows from what the monitors found about a day."""

import dataclasses
import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING

from features.cli import Command, SkippedError, Summary
from features.datasets.catalog import schema_of
from features.options import OfDataset, OfDay, folder, from_flags, option
from features.places import Place
from serving.cli.requests import OfArtifacts, OfEndpoint, OfTracking

if TYPE_CHECKING:
    from serving.policy.decision import Decision
    from serving.policy.journal import Journal

POLICY_VARIABLE = "RANKING_POLICY"
"""Variable: the file of the policy table."""
_FILE = Path(__file__).parents[2] / "infra" / "policy.yaml"
_DAYS_DUE = 7
_ON_A_CLUSTER = "on a cluster an earlier version comes back by `canary`"


def policy_file() -> Path:
    """The table that the environment names, or the repository's."""
    return Path(os.environ.get(POLICY_VARIABLE) or _FILE)


@from_flags
class PolicyRequest(OfEndpoint, OfTracking, OfArtifacts, OfDay, OfDataset):
    """Do what the policy says about a day: alert, roll back, ask for a training, or nothing.

    Reads what parity, freshness, quality and drift said, takes the first row of the table that
    holds, and notes it in the journal among the reports. No model is changed while its data are at
    fault, or while nobody knows whether they are.
    """

    lake: Place = folder("lake", "the Parquet tables, one partition a day")
    reports: Place = folder("reports", "what the monitors found, and the journal")
    policy: Path = option(
        f"the table (else {POLICY_VARIABLE}, or infra/policy.yaml of the repository)",
        metavar="FILE",
        parse=Path,
        default_factory=policy_file,
    )
    service: str | None = option(
        "name of the InferenceService: there an earlier champion comes back by `canary` alone, and "
        "a roll-back is an alert",
        default=None,
    )
    namespace: str = option("its namespace", default="default")
    due: bool = option(
        "instead of --date the oldest day of the week before it that is not in the journal, and "
        "whose served inputs and drift were looked at or which is over for --wait-hours; nothing "
        "to do where there is none",
        default=False,
    )
    wait_hours: int = option("how long a day may wait for its comparison", default=36)
    dry_run: bool = option("say what would follow; change and note nothing", default=False)


def _policy(request: PolicyRequest) -> Summary:
    from serving.policy.act import act, versions_of
    from serving.policy.decision import decide
    from serving.policy.findings import findings_of, windows_of
    from serving.policy.journal import Journal
    from serving.policy.table import Action, read_policy
    from serving.release.endpoint_client import Endpoint
    from serving.release.rollback import RollbackError
    from training.registry.mlflow_registry import Registry

    schema, policy = schema_of(request.dataset), read_policy(request.policy)
    journal = Journal(request.reports, schema.name)
    day = _due(request, journal) if request.due else request.date
    registry = Registry(request.tracking, schema.name)
    learnt = day - datetime.timedelta(days=schema.maturity_days)
    serving = versions_of(registry)
    if request.service:
        serving = dataclasses.replace(serving, previous=None, no_way_back=_ON_A_CLUSTER)
    findings = findings_of(schema, day, lake=request.lake, reports=request.reports)
    decision = decide(
        policy,
        day=day,
        findings=findings,
        windows=windows_of(schema, day, reports=request.reports),
        serving=serving,
        before=journal.before(day),
    )
    summary: Summary = {
        "dataset": schema.name,
        "date": day.isoformat(),
        "row": decision.row,
        "action": decision.action.value,
        "is_held": decision.is_held,
        "why": decision.why,
        "version": decision.version,
        "retrain_days": _retrain_days(decision, learnt),
        "findings": {name: [one.state.value, one.what] for name, one in findings.items()},
    }
    if request.dry_run or journal.has_later(day):
        # What is so now is not changed by a look at the past.
        return {**summary, "retrain_days": [], "note": "nothing was done or noted"}
    try:
        done = act(
            decision,
            serving,
            registry=registry,
            endpoint=Endpoint.from_environment(request.endpoint, model=schema.name),
            artifacts=request.artifacts / schema.name,
        )
    except (RollbackError, SkippedError) as error:
        # Noted, so that later days are decided; the alert says what was due.
        why = f"{decision.why}; {decision.action} failed: {error}"
        decision = dataclasses.replace(decision, action=Action.ALERT, is_held=True, why=why)
        done = {}
        summary |= {"action": decision.action.value, "is_held": True, "why": why}
    report = journal.note(day, decision, findings, done)
    return {**summary, "done": done, "report": report, "alerts": _alerts(decision)}


def _due(request: PolicyRequest, journal: "Journal") -> datetime.date:
    """The oldest day that waits for a decision; SkippedError where there is none."""
    from features.parity.results import has_result
    from serving.policy.findings import has_drift

    now = datetime.datetime.now(datetime.UTC)
    for back in range(_DAYS_DUE, 0, -1):
        day = request.date - datetime.timedelta(days=back)
        end = datetime.datetime.combine(
            day + datetime.timedelta(days=1), datetime.time(), datetime.UTC
        )
        is_over = now - end >= datetime.timedelta(hours=request.wait_hours)
        is_compared = has_result(request.reports, request.dataset, day.isoformat())
        is_compared = is_compared and has_drift(request.reports, request.dataset, day)
        if (is_over or is_compared) and not journal.has(day):
            return day
    raise SkippedError(f"{request.dataset}: no day of the week before {request.date} is due")


def _retrain_days(decision: "Decision", newest: datetime.date) -> list[str]:
    """The first and the last day that a training is asked to learn again; none: it is not."""
    if not decision.replay_days:
        return []
    first = newest - datetime.timedelta(days=decision.replay_days - 1)
    return [first.isoformat(), newest.isoformat()]


def _alerts(decision: "Decision") -> list[dict[str, str]]:
    """A person is to know when something is due that is not done, and when a model gave way."""
    if decision.action.value in {"nothing", "retrain"} or decision.runbook is None:
        return []
    return [{"alert": decision.runbook, "what": f"{decision.row}: {decision.why}"}]


POLICY: dict[str, Command] = {"policy": _policy}
