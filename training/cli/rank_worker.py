"""One rank of a run, as torchrun starts it: ``python -m training.cli.rank_worker FILE``.

FILE is in the run's folder and has a pickled ``RankRequest``.
"""

import datetime
import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path

from features.cli import Summary, run_job
from features.datasets.catalog import schema_of
from features.imports import without_collection
from training.cli.rank_requests import (
    MLFLOW_RUN,
    RESULT,
    GrowthRank,
    RankRequest,
    SpeedRank,
    TrainingRank,
)

with without_collection():
    import torch.distributed as dist

    from training.checkpoint.catalog import Checkpoints
    from training.data.dataset import ExampleTable
    from training.distributed.process_group import process_group, reported_failures
    from training.trainer.trainer import Run, train
    from training.upscale.upscale import upscale


def run_rank(file: Path) -> Summary:
    """Join the process group, do what the file asks, and let rank 0 write the result."""
    asked: RankRequest = pickle.loads(file.read_bytes())
    with process_group(), reported_failures(file.parent):
        found: Mapping[str, object]
        match asked:
            case TrainingRank():
                found = _train(asked, mlflow_run=file.parent / MLFLOW_RUN)
            case GrowthRank():
                found = _grow(asked)
            case SpeedRank():
                from training.experiments.train_speed import speed_of_ranks

                found = speed_of_ranks(asked.configuration)
        if dist.get_rank() == 0:
            (file.parent / RESULT).write_text(json.dumps(found))
    return {}


def _train(rank: TrainingRank, *, mlflow_run: Path) -> Summary:
    asked, schema = rank.asked, schema_of(rank.asked.dataset)
    table = ExampleTable(asked.lake, schema)
    run = Run(
        schema=schema,
        recipe=rank.recipe,
        run_day=asked.date,
        through=rank.through,
        holdout=table.days(rank.through + datetime.timedelta(days=1), asked.date),
        parent=asked.source,
        role=asked.trial or "",
        checkpoint_steps=asked.checkpoint_steps,
        id_log=asked.id_log,
        mlflow_run=mlflow_run,
    )
    result = train(run, table, Checkpoints(asked.checkpoints, schema))
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
        "metrics": result.holdout.to_dict() if result.holdout else {},
        "shards": shards,
        "curve": result.curve,
        "partitions": table.content_hashes(result.days),
    }


def _grow(rank: GrowthRank) -> Summary:
    asked, schema = rank.asked, schema_of(rank.asked.dataset)
    checkpoints = Checkpoints(asked.checkpoints, schema)
    table = ExampleTable(asked.lake, schema)
    source = checkpoints.named(rank.source)
    return upscale(schema, source, rank.target, table, checkpoints.root)


if __name__ == "__main__":
    sys.exit(run_job(run_rank, Path(sys.argv[1]), package="training")[0])
