"""The training run of one day, on every rank: plan, load, train, evaluate, save."""

import dataclasses
import datetime
import functools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from features.encoding.encode import ModelInputs
from features.schema import Schema
from training.checkpoint.catalog import Checkpoint, CheckpointManifest, Checkpoints, checkpoint_name
from training.checkpoint.schema_migration import Adoption, InputsRecord
from training.checkpoint.tensors import load_training_state, save, training_state
from training.config.recipe import Recipe, recipe_from_dict
from training.data.dataset import ExampleTable, numbered, users_of
from training.data.immature import IMMATURE_EXAMPLES, immature_figures
from training.data.pinned import EXAMPLES
from training.distributed.embedding_plan import local_shards
from training.distributed.process_group import agreed
from training.metrics import Metrics, evaluate
from training.model.grown_config import with_tokens
from training.model.inputs import inputs_of
from training.model.ranker import token_names
from training.trainer.descent import note_learnt, parent_of
from training.trainer.first_rows import first_rows
from training.trainer.grown import is_begun_anew
from training.trainer.health import HealthWatch, PartHealth
from training.trainer.in_run_checkpoint import Progress
from training.trainer.loop import fit, is_pipelined
from training.trainer.migrate_state import load_adopted_state
from training.trainer.session import Session

logger = logging.getLogger(__name__)

_MLFLOW_SECONDS = 60.0
"""Longest wait for the run in which a training is tracked."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What one run is to do."""

    schema: Schema
    recipe: Recipe
    run_day: datetime.date
    through: datetime.date
    """Last day to train on."""
    holdout: Sequence[datetime.date]
    """Days to evaluate on; none of them is trained on."""
    parent: str | None = None
    """Checkpoint to go on from, checked before; None: the newest that fits, or a cold start."""
    changed_since: datetime.date | None = None
    """First day whose examples are not those that earlier runs have learnt; None: there is none."""
    role: str = ""
    """In a trial ``grown`` or ``control``; ``immature``; else empty."""
    immature: ExampleTable | None = None
    """With the role ``immature``: what to train on instead of mature days, the run's partition."""
    checkpoint_steps: int | None = None
    """Steps that a kill may cost; None: the recipe's."""
    id_log: Path | None = None
    """Folder for the ids of every step's examples."""
    mlflow_run: Path
    """File of rank 0 with the id of the MLflow run; a short training waits for it before it
    saves."""

    @property
    def name(self) -> str:
        """Folder of the checkpoint that it writes."""
        return checkpoint_name(self.run_day, role=self.role, recipe=self.recipe.name)


@dataclasses.dataclass(frozen=True)
class Result:
    """What one run did."""

    checkpoint: Checkpoint
    parent: str | None
    days: list[datetime.date]
    examples: int
    steps: int
    curve: list[dict[str, float]]
    parts: list[PartHealth]
    holdout: Metrics | None
    shards: dict[str, list[dict[str, Any]]]
    rebuilt: list[datetime.date]
    """Days in the parent's weights whose rows were others by then."""


def train(run: Run, table: ExampleTable, checkpoints: Checkpoints) -> Result:
    """Train one day's candidate; every rank of the process group calls this."""
    config = run.recipe.training
    parent, rebuilt = agreed(functools.partial(parent_of, run, table, checkpoints))
    first = parent.trained_through + datetime.timedelta(days=1) if parent else datetime.date.min
    learnt, days = table, table.days(first, run.through)
    if run.immature:
        learnt, days = run.immature, [run.run_day]
    adoption = checkpoints.adoption_from(parent) if parent else None
    inputs = inputs_of(run.schema)
    if parent is not None:
        # A grown parent knows its growth groups; in all else the fingerprint has found them equal.
        model = recipe_from_dict(parent.manifest.recipe).model
        model = with_tokens(model, len(token_names(inputs, model)))
        run = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, model=model))
    is_fitted = parent is None or adoption is not None
    session = Session(inputs, run.recipe, first_rows(learnt, days) if is_fitted else None)
    outcomes = _load(parent, adoption, session) if parent else {}
    _log_start(parent, days, session)
    progress = _progress(run, parent, learnt.content_hashes(days), checkpoints)
    growth = parent.manifest.growth if parent else None
    health = HealthWatch(session, growth.get("new_layers", []) if growth else [])
    curve = fit(
        session,
        learnt,
        days,
        epochs=config.warm_epochs if parent else config.cold_epochs,
        is_warm=parent is not None and not is_begun_anew(run.role, parent),
        has_history=parent is not None,
        health=health,
        progress=progress,
        id_log=run.id_log,
    )
    holdout = evaluate_days(session, table, run.holdout)
    manifest = _manifest(run, parent, learnt, days, session.steps, holdout)
    manifest = dataclasses.replace(manifest, judged=table.content_hashes(run.holdout))
    if adoption is not None:
        manifest = dataclasses.replace(manifest, adopted=outcomes)
    if run.immature:
        manifest = _with_immature(manifest, table, learnt, days)
    state = training_state(session.model, session.optimizer)
    saved = save(checkpoints.root, state, manifest, run.name)
    agreed(functools.partial(note_learnt, table, saved))
    progress.remove()
    return Result(
        checkpoint=saved,
        parent=parent.name if parent else None,
        days=days,
        examples=learnt.num_rows(days),
        steps=session.steps,
        curve=curve,
        parts=health.found,
        holdout=holdout,
        shards=local_shards(session.model),
        rebuilt=rebuilt,
    )


def _progress(
    run: Run, parent: Checkpoint | None, partitions: Mapping[str, str], checkpoints: Checkpoints
) -> Progress:
    """Where a run that is ended goes on, while all that it is made of is as it was."""
    identity = {
        "schema": run.schema.fingerprint(),
        "recipe": run.recipe.to_dict(),
        "parent": parent.name if parent else None,
        "partitions": partitions,
    }
    at_most = run.checkpoint_steps
    if at_most is None:
        at_most = run.recipe.training.checkpoint_steps
    return Progress(checkpoints.running(run.name), identity, at_most=at_most)


def evaluate_days(
    session: Session, table: ExampleTable, days: Sequence[datetime.date]
) -> Metrics | None:
    """Metrics of a ranker on some days, on every rank; None where no example of them judges.

    Each rank reads and scores its part, a batch at a time. What the metrics need, scores, labels
    and users, is gathered on rank 0 in the order of the table.
    """
    if not table.num_rows(days):
        return None
    rank, ranks = dist.get_rank(), dist.get_world_size()
    # A rank may have no row.
    none = np.empty(0, dtype=np.int64)
    labels, users, requests = [none], [none], [none]

    def inputs() -> Iterator[ModelInputs]:
        rows = session.config.batch_size
        for examples in table.stream_judged(days, rows=rows, rank=rank, world_size=ranks):
            # Copies: a column would keep all columns of its row group in memory.
            labels.append(examples.label.copy())
            users.append(users_of(examples, table.schema).copy())
            if table.schema.request:
                requests.append(examples.table.column(table.schema.request.name).to_numpy().copy())
            yield examples.inputs

    mine = (session.score(inputs()), *map(np.concatenate, (labels, users, requests)))
    parts: list[Any] | None = [None] * ranks if rank == 0 else None
    dist.gather_object(mine, parts, dst=0)
    metrics: list[Metrics | None] = [None]
    if parts:
        probability, label, user, request = map(np.concatenate, zip(*parts, strict=True))
        groups = numbered(request) if table.schema.request else None
        if len(label):
            metrics = [evaluate(probability, label, numbered(user), groups)]
    dist.broadcast_object_list(metrics, src=0)
    return metrics[0]


def _load(parent: Checkpoint, adoption: Adoption | None, session: Session) -> dict[str, str]:
    """Fill the ranker from its parent; returns, and logs, what was not taken over as it was."""
    if adoption is None:
        found = load_training_state(parent.tensors, session.model, session.optimizer)
        outcomes = {f"moments of {one.table}": f"converted: {one}" for one in found}
    else:
        source = recipe_from_dict(parent.manifest.recipe).model
        outcomes = load_adopted_state(parent.tensors, session, adoption, source)
    if dist.get_rank() == 0:
        for what, outcome in outcomes.items():
            logger.warning("from checkpoint %s: %s: %s", parent.name, what, outcome)
    return outcomes


def _log_start(parent: Checkpoint | None, days: Sequence[datetime.date], session: Session) -> None:
    if dist.get_rank() != 0:
        return
    start = f"warm from {parent.name}" if parent else "cold: no earlier checkpoint fits"
    span = f"{days[0]} to {days[-1]}" if days else "none"
    logger.info("%s; %d days to train on (%s)", start, len(days), span)
    logger.info(
        "dense part: %s, about %s MB on each rank, %s; batches %s",
        session.plan.dense.parallelism,
        f"{session.plan.dense.bytes_by_rank / 2**20:,.0f}",
        "bf16 autocast" if session.is_bf16 else "float32",
        "copied and exchanged ahead" if is_pipelined(session) else "one after the other",
    )
    for module, parameters in session.model.plan.plan.items():
        for name, parameter in parameters.items():
            logger.info(
                "plan: %s.%s %s on ranks %s, kernel %s",
                *(module, name, parameter.sharding_type),
                *(parameter.ranks, parameter.compute_kernel),
            )


def _manifest(
    run: Run,
    parent: Checkpoint | None,
    table: ExampleTable,
    days: Sequence[datetime.date],
    steps: int,
    holdout: Metrics | None,
) -> CheckpointManifest:
    is_of_days = days and not run.immature
    through = days[-1] if is_of_days else (parent.trained_through if parent else run.through)
    return CheckpointManifest(
        dataset=run.schema.name,
        schema_fingerprint=run.schema.fingerprint(),
        model_fingerprint=run.recipe.model_fingerprint(),
        recipe=run.recipe.to_dict(),
        run_day=run.run_day.isoformat(),
        trained_through=max(through, run.through).isoformat(),
        trained_days=len(days),
        examples=table.num_rows(days),
        steps=steps,
        ranks=dist.get_world_size(),
        parent=parent.name if parent else None,
        family=[*parent.manifest.family, parent.name] if parent else [],
        partitions=table.content_hashes(days),
        mlflow_run=agreed(lambda: _once_written(run.mlflow_run)),
        inputs=dataclasses.asdict(InputsRecord.of(run.schema)),
        metrics=holdout.to_dict() if holdout else {},
        role=run.role,
        table_versions={EXAMPLES: table.version},
    )


def _with_immature(
    manifest: CheckpointManifest,
    mature: ExampleTable,
    learnt: ExampleTable,
    days: Sequence[datetime.date],
) -> CheckpointManifest:
    """The manifest where a run has learnt rows whose label was not final: no further mature day."""
    return dataclasses.replace(
        manifest,
        immature=immature_figures(learnt, days),
        table_versions={EXAMPLES: mature.version, IMMATURE_EXAMPLES: learnt.version},
    )


def _once_written(file: Path) -> str:
    """Wait for a file that another process writes; returns its text."""
    deadline = time.monotonic() + _MLFLOW_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{file}: no MLflow run within {_MLFLOW_SECONDS:.0f} s")
        time.sleep(0.05)
    return file.read_text()
