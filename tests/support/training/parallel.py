"""One rank of a test: the same run in several ways, and how far each is from the plain one.

torchrun parallel.py LAKE FOLDER: rank 0 writes FOLDER/found.json and checkpoints beside it.
"""

import contextlib
import dataclasses
import datetime
import functools
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from features.datasets.catalog import schema_of
from training.checkpoint.catalog import CheckpointManifest
from training.checkpoint.tensors import load_training_state, save, training_state
from training.config.recipe import (
    Communication,
    DenseParallelism,
    Pipeline,
    Precision,
    ShardingConfig,
    TableDtype,
    TableOptimizer,
)
from training.data.dataset import ExampleTable, user_groups
from training.distributed.process_group import process_group
from training.metrics import evaluate
from training.model.inputs import inputs_of
from training.recipes import recipe_of
from training.trainer.first_rows import FirstRows, first_rows
from training.trainer.in_run_checkpoint import Progress
from training.trainer.loop import fit
from training.trainer.session import Session
from training.trainer.trainer import evaluate_days

# Said and not left to the device, so that the plain run is plain on CUDA too.
PLAIN = {"pipeline": Pipeline.OFF, "precision": Precision.FLOAT32}
AHEAD = {"pipeline": Pipeline.ON}
BF16 = {"precision": Precision.BF16}
ADAM = {"table_optimizer": TableOptimizer.ADAM}
WAYS = {
    "plain": {},
    "pipeline": AHEAD,
    "fsdp2": {"parallelism": DenseParallelism.FSDP2},
    "bf16": BF16,
    "all": {"parallelism": DenseParallelism.FSDP2, **AHEAD, **BF16},
    "half tables": {"table_dtype": TableDtype.FLOAT16},
    "fp16 exchange": {"communication": Communication.FP16},
    "adam": ADAM,
    "adam all": {"parallelism": DenseParallelism.FSDP2, **AHEAD, **ADAM},
}


class StoppedError(Exception):
    pass


class StopsAt(Progress):
    stop = 0

    def after_step(self, session, position):
        super().after_step(session, position)
        if position.step == self.stop:
            self.wait()
            raise StoppedError


def session_of(table, way="plain") -> Session:
    recipe = recipe_of("wukong-tiny")
    training = {**PLAIN, **WAYS[way]}
    parallelism = training.pop("parallelism", DenseParallelism.DDP)
    communication = training.pop("communication", Communication.FLOAT32)
    recipe = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, dropout=0.3),
        training=dataclasses.replace(recipe.training, batch_size=128, shuffle_rows=700, **training),
        sharding=ShardingConfig(
            column_wise=("item_id",),
            row_wise=("user_id",),
            min_partition=4,
            dense_parallelism=parallelism,
            communication=communication,
        ),
    )
    # The bounds on losses are those of rankers that start where chance has put them.
    first = FirstRows(first_rows(table, days_of(table)).dense)
    return Session(inputs_of(table.schema), recipe, first)


def days_of(table):
    return table.days(datetime.date.min, datetime.date.max)[:2]


def train(session, table, folder, *, at_most=0, stop=10**9):
    progress = StopsAt(folder / "saves", {"run": 1}, at_most=at_most)
    progress.stop = stop
    return fit(
        *(session, table, days_of(table)),
        epochs=2,
        is_warm=False,
        progress=progress,
        id_log=folder / "ids",
    )


def whole(state):
    """Tensors by name, in one piece."""
    return {
        key: value.full_tensor() if isinstance(value, DTensor) else value
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and not hasattr(value, "local_shards")
    }


def farthest(left, right):
    """Largest difference over tensors of one rank, then over ranks."""
    assert left.keys() == right.keys()
    found = [0.0] + [float((left[key].double() - right[key].double()).abs().max()) for key in left]
    found = [max(found)] * 2
    dist.all_gather_object(found, found[0])
    return max(found)


def tables_of(session):
    return {key: value for key, value in session.local_tensors() if "embeddings" in key}


def dense_of(session):
    state = training_state(session.model, session.optimizer)
    return whole(state["model"]) | {
        f"adam.{k}": v for k, v in whole(state["dense_optimizer"]).items()
    }


def log_of(folder):
    return (folder / "ids" / f"rank-{dist.get_rank()}.jsonl").read_text()


@functools.cache
def run(way, table, folder):
    """Session, losses, scores and normalised entropy of an undisturbed run."""
    session = session_of(table, way)
    curve = train(session, table, folder / way)
    examples = table.read(days_of(table))
    scores = session.predict(examples.inputs)
    metrics = evaluate(scores, examples.label, user_groups(examples, table.schema))
    return session, [point["loss"] for point in curve], scores, metrics.ne


def compared(way, base, table, folder):
    """A run one way against the run it must be equal to, or near."""
    expected, expected_losses, expected_scores, _ = run(base, table, folder)
    session, losses, scores, ne = run(way, table, folder)
    dense = dense_of(session)
    found = {
        "loss": max(abs(a - b) for a, b in zip(losses, expected_losses, strict=True)),
        "ne": ne,
        "dense": farthest(dense, dense_of(expected)),
        "scores": float(abs(scores - expected_scores).max()),
        "mean_scores": float(abs(scores - expected_scores).mean()),
        "ids": log_of(folder / way) == log_of(folder / base),
        "table_dtypes": sorted({str(value.dtype) for value in tables_of(session).values()}),
        "dtypes": sorted({str(value.dtype) for value in dense.values()}),
        "pieces": sum(isinstance(p, DTensor) for _, p in session.model.named_parameters()),
        "steps": session.steps,
    }
    if base == "plain":
        found["tables"] = farthest(tables_of(session), tables_of(expected))
    return found, session


def resumed(way, table, folder):
    """A run that ends after step 12 and goes on from step 10, against one that does not."""
    undisturbed, *_ = run(way, table, folder)
    stopped = folder / f"{way} stopped"
    with contextlib.suppress(StoppedError):
        train(session_of(table, way), table, stopped, at_most=10, stop=12)
    session = session_of(table, way)
    train(session, table, stopped, at_most=10**6)
    return {
        "dense": farthest(dense_of(session), dense_of(undisturbed)),
        "tables": farthest(tables_of(session), tables_of(undisturbed)),
        "ids": log_of(stopped) == log_of(folder / way),
    }


def moved(session, table, folder):
    """How far a checkpoint of pieces is when it is loaded whole; it is kept for one rank too."""
    values = dict.fromkeys([f.name for f in dataclasses.fields(CheckpointManifest)], "")
    state = training_state(session.model, session.optimizer)
    saved = save(folder, state, CheckpointManifest(**values), "checkpoint")
    other = session_of(table)
    load_training_state(saved.tensors, other.model, other.optimizer)
    dense = dense_of(session)
    if dist.get_rank() == 0:
        torch.save(dense, folder / "dense.pt")
    return farthest(dense_of(other), dense)


def streamed(way, table, folder):
    """Metrics of days that each rank reads in part, and of the same days read whole by each."""
    session, *_ = run(way, table, folder)
    examples = table.read(days_of(table))
    scores = session.predict(examples.inputs)
    whole = evaluate(scores, examples.label, user_groups(examples, table.schema))
    found = evaluate_days(session, table, days_of(table))
    return {"whole": whole.to_dict(), "parts": found.to_dict()}


BASES = {
    **dict.fromkeys(("pipeline", "fsdp2", "bf16", "all", "half tables", "fp16 exchange"), "plain"),
    "adam all": "adam",
}


def main(lake: Path, folder: Path) -> None:
    table = ExampleTable(lake, schema_of("synthetic"))
    with process_group():
        found = {}
        for way, base in BASES.items():
            found[way], session = compared(way, base, table, folder)
            if way == "fsdp2":
                found["moved"] = moved(session, table, folder)
        found["resumed"] = resumed("all", table, folder)
        found["holdout"] = streamed("plain", table, folder)
        if dist.get_rank() == 0:
            (folder / "found.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
