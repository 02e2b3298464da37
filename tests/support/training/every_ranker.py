"""One rank of a test: every ranker trains sharded, is saved, exported, loaded and asked again.

``torchrun`` starts it with the folder of a built lake and an empty folder; rank 0 writes one line
of JSON for each ranker.
"""

import dataclasses
import datetime
import json
import sys
from pathlib import Path

import numpy as np
import torch.distributed as dist

from features.datasets.catalog import schema_of
from training.artifact import artifact
from training.checkpoint.catalog import CheckpointManifest
from training.checkpoint.tensors import load_whole, save, training_state
from training.config.model import MODELS
from training.config.recipe import ShardingConfig, TableOptimizer
from training.data.dataset import ExampleTable
from training.distributed.process_group import process_group
from training.model.inputs import inputs_of
from training.model.ranker import Ranker
from training.recipes import recipe_of
from training.trainer.first_rows import first_rows
from training.trainer.loop import fit
from training.trainer.session import Session


def run(name, table, folder):
    recipe = recipe_of(f"{name.split(':')[0]}-small")
    training = dataclasses.replace(recipe.training, is_compiled=False)
    if name.endswith(":adam"):
        training = dataclasses.replace(training, table_optimizer=TableOptimizer.ADAM)
    sharding = ShardingConfig(column_wise=("item_id",), min_partition=8)
    recipe = dataclasses.replace(recipe, name=name, training=training, sharding=sharding)
    days = table.days(datetime.date.min, datetime.date.max)
    session = Session(inputs_of(table.schema), recipe, first_rows(table, days))
    fit(session, table, days[:2], epochs=1, is_warm=False)
    examples = table.read(days[2:3])
    expected = session.predict(examples.inputs)
    manifest = CheckpointManifest(
        **dict.fromkeys([f.name for f in dataclasses.fields(CheckpointManifest)], ""),
    )
    state = training_state(session.model, session.optimizer)
    saved = save(folder / name.replace(":", "-"), state, manifest, "2025-01-01")
    if dist.get_rank() == 0:
        ranker = Ranker(inputs_of(table.schema), recipe.model)
        load_whole(saved.tensors, ranker)
        written = artifact.write(
            folder / "artifacts" / name.replace(":", "-"),
            ranker,
            table.schema,
            examples.table.slice(0, artifact.GOLDEN_ROWS),
            day="2025-01-01",
            trained_through="2025-01-01",
            recipe=name,
            config={"model": dataclasses.asdict(recipe.model)},
            parents=[],
            metrics={},
            mlflow_run="",
        )
        directory = folder / "artifacts" / name.replace(":", "-") / table.schema.name
        loaded = artifact.load(directory / written.version, table.schema)
        difference = np.abs(loaded.score(examples.inputs) - expected).max()
        shards = [key for key, value in session.local_tensors() if "embeddings" in key]
        line = {"model": name, "difference": float(difference), "shards": len(shards)}
        sys.stdout.write(json.dumps({**line, "spread": float(expected.std())}) + "\n")
    dist.barrier()


def main(lake: Path, folder: Path) -> None:
    schema = schema_of("synthetic")
    with process_group():
        for name in (*MODELS, "wukong:adam"):
            run(name, ExampleTable(lake, schema), folder)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
