"""One rank of a run, as torchrun starts it: ``python -m training.cli.rank_worker FOLDER``.

FOLDER is the run's on this host; rank 0 finds a pickled ``RankRequest`` in it.
"""

import dataclasses
import datetime
import json
import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path

from features.cli import Summary, run_job
from features.datasets.catalog import schema_of
from features.imports import without_collection
from features.places import place
from features.schema import Schema
from training.cli.rank_requests import (
    EXAMPLES_VERSION,
    MLFLOW_RUN,
    REQUEST,
    RESULT,
    GrowthRank,
    RankRequest,
    SpeedRank,
    TrainingRank,
)
from training.requests import PROBE, TrainRequest

with without_collection():
    import torch.distributed as dist

    from training.checkpoint.catalog import Checkpoints, checkpoint_name
    from training.data.dataset import ExampleTable
    from training.data.immature import IMMATURE_EXAMPLES
    from training.data.pinned import pin_examples
    from training.distributed.failures import note_join
    from training.distributed.process_group import agreed, process_group, reported_failures
    from training.model.grown_config import Operator
    from training.trainer.descent import alerts_of, note_growth
    from training.trainer.trainer import Run, train
    from training.upscale.probe import upscale_probed
    from training.upscale.upscale import upscale


def run_rank(folder: Path) -> Summary:
    """Join the process group, do what is asked, and let a rank of each host write the result."""
    with process_group():
        asked: RankRequest = agreed(lambda: pickle.loads((folder / REQUEST).read_bytes()))
        note_join(folder)
        shared = asked.failures if isinstance(asked, TrainingRank) else None
        with reported_failures(folder, shared):
            found = _found(asked, folder)
            if os.environ["LOCAL_RANK"] == "0":
                (folder / RESULT).write_text(json.dumps(found))
    return {}


def _found(asked: RankRequest, folder: Path) -> Mapping[str, object]:
    match asked:
        case TrainingRank():
            return _train(asked, folder)
        case GrowthRank():
            return _grow(asked)
        case SpeedRank():
            from training.experiments.train_speed import speed_of_ranks

            return speed_of_ranks(asked.configuration)


def _train(rank: TrainingRank, folder: Path) -> Summary:
    asked, schema = rank.asked, schema_of(rank.asked.dataset)
    table = ExampleTable(asked.lake, schema, _agreed_version(rank, schema, folder))
    run = Run(
        schema=schema,
        recipe=rank.recipe,
        run_day=asked.date,
        through=rank.through,
        holdout=table.days(rank.through + datetime.timedelta(days=1), asked.date),
        parent=str(asked.date) if asked.immature else asked.source,
        changed_since=asked.changed_since,
        role=asked.role,
        immature=_immature_rows(asked, schema) if asked.immature else None,
        checkpoint_steps=asked.checkpoint_steps,
        id_log=asked.id_log,
        mlflow_run=folder / MLFLOW_RUN,
    )
    result = train(run, table, Checkpoints(asked.checkpoints, schema))
    parts = [dataclasses.asdict(one) for one in result.parts]
    shards: list[object] = [None] * dist.get_world_size()
    dist.all_gather_object(shards, result.shards)
    return {
        "checkpoint": str(result.checkpoint.path),
        "name": result.checkpoint.name,
        "recipe": run.recipe.name,
        "parent": result.parent,
        "trained_through": run.through.isoformat(),
        "days": len(result.days),
        "examples": result.examples,
        "steps": result.steps,
        "parts": parts,
        **({"immature": result.checkpoint.manifest.immature} if asked.immature else {}),
        "metrics": result.holdout.to_dict() if result.holdout else {},
        "shards": shards,
        "curve": result.curve,
        "table_versions": result.checkpoint.manifest.table_versions,
        "partitions": result.checkpoint.manifest.partitions,
        "rebuilt_days": [str(day) for day in result.rebuilt],
        "alerts": [] if asked.role else alerts_of(result.parent, result.rebuilt),
    }


def _immature_rows(asked: TrainRequest, schema: Schema) -> ExampleTable:
    """The rows whose label is not final, in one version for all ranks; ValueError for none."""

    def newest() -> int:
        found = ExampleTable(asked.lake, schema, table=IMMATURE_EXAMPLES)
        if not found.days(asked.date, asked.date):
            raise ValueError(
                f"table {found.root}: nothing of {asked.date}; run `python -m features examples "
                f"--dataset {schema.name} --date {asked.date}`"
            )
        return found.version

    return ExampleTable(asked.lake, schema, agreed(newest), table=IMMATURE_EXAMPLES)


def _agreed_version(rank: TrainingRank, schema: Schema, folder: Path) -> int:
    """The version of the examples that rank 0 pins: one for all ranks, also when started again."""
    asked, noted = rank.asked, folder / EXAMPLES_VERSION

    def pinned() -> int:
        version = int(noted.read_text()) if noted.exists() else asked.examples_version
        name = checkpoint_name(asked.date, role=asked.role, recipe=rank.recipe.name)
        version = pin_examples(place(asked.lake), schema, name, version)
        noted.write_text(str(version))
        return version

    return agreed(pinned)


def _grow(rank: GrowthRank) -> Summary:
    asked, schema = rank.asked, schema_of(rank.asked.dataset)
    checkpoints = Checkpoints(asked.checkpoints, schema)
    version = agreed(lambda: ExampleTable(asked.lake, schema).version)
    table = ExampleTable(asked.lake, schema, version)
    source = checkpoints.named(rank.source)
    if rank.through and asked.operator == PROBE:
        days = table.days(source.trained_through + datetime.timedelta(days=1), rank.through)
        done = upscale_probed(schema, source, rank.target, table, checkpoints, days=days)
    else:
        operator = Operator(asked.operator)
        done = upscale(schema, source, rank.target, table, checkpoints.root, operator=operator)
    agreed(lambda: note_growth(table, checkpoints, done["name"]))
    return done


if __name__ == "__main__":
    sys.exit(run_job(run_rank, Path(sys.argv[1]), package="training")[0])
