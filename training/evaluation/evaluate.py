"""The evaluation job: a candidate and its baselines on unseen days, and the gate's decision.

A trial has a third ranker, the control: what the candidate grew from, trained on the same days.
Then the candidate must be shown to be better than the champion and than it.
"""

import dataclasses
import datetime
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from features.places import Place
from features.schema import Schema
from training.artifact import artifact
from training.artifact.artifact import Artifact
from training.artifact.manifest import ArtifactError, Manifest, read_manifest
from training.data.dataset import ExampleTable
from training.evaluation import gate
from training.evaluation.agreement import agreement
from training.evaluation.comparison import Scores
from training.evaluation.findings import GateConfig
from training.evaluation.gate import Decision, decide
from training.evaluation.holdout import score_days
from training.metrics import log_losses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Versions:
    """The candidate and the versions that it is compared with."""

    candidate: str
    champion: str | None = None
    """None when nothing serves yet."""
    anchors: Sequence[str] = ()
    """Older champions; the first that can still be scored is the anchor."""
    control: str | None = None
    """The un-grown ranker of a trial; then better is asked for."""


@dataclasses.dataclass(frozen=True)
class BaseRate:
    """Positive rate of all days up to the last that the candidate has trained on."""

    rate: float
    rows: int
    first_day: datetime.date
    last_day: datetime.date


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation: the decision, and what the report draws."""

    config: GateConfig
    decision: Decision
    champion_version: str | None
    rankers: dict[str, Artifact]
    """``candidate`` and its baselines by the gate's keys, those that can be scored on the days."""
    scores: dict[str, Scores]
    """(rows,) of each of them; a drill's candidate has them permuted."""
    days: list[datetime.date]
    label: npt.NDArray[np.int64]
    notes: list[str]
    """Which baselines could not be scored, and why there is no anchor."""
    base_rate: BaseRate
    agreement: dict[str, float | None] | None
    """How candidate and champion agree (``training.evaluation.agreement``); None without a
    champion."""
    regret: float | None
    """Log loss above that of the true probabilities, in generated data."""
    is_spoilt: bool


def evaluate_candidate(
    schema: Schema,
    table: ExampleTable,
    artifacts: Place,
    versions: Versions,
    *,
    day: datetime.date,
    config: GateConfig | None = None,
    is_spoilt: bool = False,
) -> Evaluation:
    """Score candidate and baselines on (candidate's trained_through, day] and let the gate decide.

    Args:
        schema: The data set's schema.
        table: The training examples.
        artifacts: Folder of all artifacts.
        versions: Who is judged, and against whom.
        day: Last day of the holdout.
        config: The gate's limits; None: the usual ones.
        is_spoilt: A drill: the candidate's scores are permuted between rows first.

    Raises:
        ValueError: A model has trained on a day of the holdout, the holdout or the days before it
            have no rows, the control is not the candidate's, or a first champion is asked for where
            there is one.
    """
    config = config or GateConfig()
    rankers, notes = _load(schema, artifacts / schema.name, versions, config)
    through = datetime.date.fromisoformat(rankers["candidate"].manifest.trained_through)
    days = table.days(through + datetime.timedelta(days=1), day)
    for ranker in rankers.values():
        refuse_overlap(ranker, days)
    base_rate = base_rate_of(table, through)
    scored = score_days(schema, table, days, rankers)
    scores = scored.scores
    candidate = scores.pop("candidate")
    if is_spoilt:
        candidate = np.random.default_rng(0).permutation(candidate)
    label, best = scored.holdout.label, scored.best_log_loss
    theirs, groups = scores.get(gate.CHAMPION), scored.holdout.group
    decision = decide(config, scored.holdout, candidate, scores, base_rate=base_rate.rate)
    if schema.label.immature:
        judged = len(label) + scored.num_begun_before
        notes.append(
            f"requests: {judged:,} of {table.num_rows(days):,} rows judge; the others are of "
            "requests that may be learnt before they are mature"
        )
    if scored.num_begun_before:
        notes.append(
            f"requests: {scored.num_begun_before} rows are left out, of requests that began on the "
            "day before the holdout"
        )
    return Evaluation(
        config=config,
        decision=decision,
        champion_version=versions.champion,
        rankers=rankers,
        scores={"candidate": candidate, **scores},
        days=days,
        label=label,
        notes=notes,
        base_rate=base_rate,
        agreement=None if theirs is None else agreement(candidate, theirs, groups),
        regret=None if best is None else float(log_losses(candidate, label).mean()) - best,
        is_spoilt=is_spoilt,
    )


def _load(
    schema: Schema, root: Place, versions: Versions, config: GateConfig
) -> tuple[dict[str, Artifact], list[str]]:
    """The candidate and what it is held against, by role; and why one of these is not there.

    Raises:
        ValueError: The control is not the candidate's, or a first champion is asked for where there
            is one.
    """
    rankers = {"candidate": artifact.load(root / versions.candidate, schema)}
    notes = _stranger_to(schema, root, versions.champion)
    if versions.champion and not notes:
        if config.accepts_unknown:
            raise ValueError(
                f"first: {versions.champion} is champion; --first is for the first one"
            )
        rankers[gate.CHAMPION] = artifact.load(root / versions.champion, schema)
    anchor, why_none = _anchor(root, versions.anchors, schema)
    if anchor:
        rankers[gate.ANCHOR] = anchor
    if versions.control:
        rankers[gate.CONTROL] = artifact.load(root / versions.control, schema)
        refuse_stranger(rankers["candidate"].manifest, rankers[gate.CONTROL].manifest)
    return rankers, [*notes, *why_none]


def base_rate_of(table: ExampleTable, through: datetime.date) -> BaseRate:
    """The base rate of all days through one of them; ValueError where none is left in the lake."""
    days = table.days(datetime.date.min, through)
    rows = table.num_rows(days)
    if not rows:
        raise ValueError(
            f"base rate of the training days: no examples through {through} in {table.root}; run "
            "`python -m features examples` for them"
        )
    return BaseRate(table.positives(days) / rows, rows, days[0], days[-1])


def _stranger_to(schema: Schema, root: Place, champion: str | None) -> list[str]:
    """Why a champion cannot be scored since the schema changed; empty where it can.

    Else no candidate of the new schema could ever replace it. A champion whose files are damaged is
    no such case: it fails the evaluation when it is loaded.
    """
    if champion is None:
        return []
    found = read_manifest(root / champion).schema_fingerprint
    if found == schema.fingerprint():
        return []
    return [
        f"champion {champion}: reads the inputs of schema {found}, and the examples have those of "
        f"{schema.fingerprint()}; not compared, and the base rate must be beaten"
    ]


def _anchor(
    root: Place, versions: Sequence[str], schema: Schema
) -> tuple[Artifact | None, list[str]]:
    """The first artifact that can be scored, and why those before it, or all, cannot."""
    notes: list[str] = []
    for version in versions:
        try:
            return artifact.load(root / version, schema), notes
        except ArtifactError as error:
            notes.append(f"anchor {version}: cannot be scored: {error}")
    return None, [*notes, "anchor: no older champion; not compared"]


def refuse_overlap(model: Artifact, days: list[datetime.date]) -> None:
    """ValueError when a model has trained on one of the days on which it is to be judged."""
    through = datetime.date.fromisoformat(model.manifest.trained_through)
    if days and through >= days[0]:
        raise ValueError(
            f"trained_through of {model.manifest.version}: {through}; must be before the holdout's "
            f"first day {days[0]}"
        )


def refuse_stranger(candidate: Manifest, control: Manifest) -> None:
    """ValueError unless a control went on from what the candidate grew from, as far as it did."""
    grown_from = candidate.growth["parent"] if candidate.growth else None
    if grown_from is None or control.parents[-1:] != [grown_from]:
        raise ValueError(
            f"control {control.version}: went on from {control.parents[-1:]}; the candidate "
            f"{candidate.version} grew from {grown_from}"
        )
    if control.trained_through != candidate.trained_through:
        raise ValueError(
            f"control {control.version}: trained through {control.trained_through}; the candidate "
            f"through {candidate.trained_through}"
        )
