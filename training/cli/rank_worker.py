"""One rank of a training run, as torchrun starts it."""

import argparse
import contextlib
import datetime
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from features.schema import Schema
from training.checkpoint.catalog import Checkpoints
from training.config.recipe import Recipe
from training.data.dataset import ExampleTable
from training.distributed.device import device_of_rank
from training.distributed.failures import report
from training.distributed.malloc import keep_freed_memory
from training.registry.parent_selection import holdout_start
from training.trainer.trainer import Result, Run, train
from training.upscale.upscale import upscale

WAIT = datetime.timedelta(minutes=10)
"""How long a rank waits for the others; then it fails, and torchrun starts all ranks again."""
_GLOO = "third_party/gloo"
"""Part of every error message of gloo; its errors have no type of their own."""


def run_rank(schema: Schema, recipe: Recipe, options: argparse.Namespace) -> None:
    """Join the process group, train, and let rank 0 write the result file."""
    with process_group(), reported_failures(options.result.parent):
        table = ExampleTable(options.lake, schema)
        through = holdout_start(schema, options)
        run = Run(
            schema=schema,
            recipe=recipe,
            run_day=options.date,
            through=through,
            holdout=table.days(through + datetime.timedelta(days=1), options.date),
            parent=options.source,
            role=options.trial or "",
            checkpoint_steps=options.checkpoint_steps,
            id_log=options.id_log,
            mlflow_run=options.mlflow_run,
        )
        result = train(run, table, Checkpoints(options.checkpoints, schema))
        shards: list[object] = [None] * dist.get_world_size()
        dist.all_gather_object(shards, result.shards)
        if dist.get_rank() == 0:
            values = _plain(run, table, result, shards)
            options.result.write_text(json.dumps(values))


def grow_rank(schema: Schema, target: Recipe, options: argparse.Namespace) -> None:
    """Join the process group, grow a checkpoint, and let rank 0 write the result file."""
    with process_group(), reported_failures(options.result.parent):
        checkpoints = Checkpoints(options.checkpoints, schema)
        table = ExampleTable(options.lake, schema)
        source = checkpoints.named(options.source)
        found = upscale(schema, source, target, table, checkpoints.root)
        if dist.get_rank() == 0:
            options.result.write_text(json.dumps(found))


@contextlib.contextmanager
def reported_failures(folder: Path) -> Iterator[None]:
    """Write a failure of this rank's own into a folder, for the launcher to end the run.

    A rank that fails because another one was lost writes nothing: torchrun starts all again.
    """
    try:
        yield
    except (Exception, CheckpointException) as error:
        if not _is_loss_of_a_rank(error):
            report(folder, dist.get_rank(), error)
        raise


def _is_loss_of_a_rank(error: BaseException) -> bool:
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, dist.DistError) or _GLOO in str(chain):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join the process group that torchrun set up; alone, one of this process."""
    keep_freed_memory()
    alone = {} if "RANK" in os.environ else _environment_alone()
    os.environ.update(alone)
    device = device_of_rank()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Saves while training goes on, and exchanges of Python objects, need a backend of the CPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=WAIT)
    try:
        yield
    finally:
        dist.destroy_process_group()
        # A process that is started later is no rank of this group.
        for name in alone:
            del os.environ[name]


def _environment_alone() -> dict[str, str]:
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _plain(
    run: Run, table: ExampleTable, result: Result, shards: list[object]
) -> dict[str, object]:
    return {
        "checkpoint": str(result.checkpoint),
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
