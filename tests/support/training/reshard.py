"""One rank of a test: load a checkpoint, if one is named, take steps, and save again.

torchrun reshard.py LAKE SHARDING STEPS TARGET [SOURCE]

SHARDING:before is of the schema as it was before; today's takes such a SOURCE over.
"""

import dataclasses
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from schema_before import AnyExamples, schema_before

from features.datasets.catalog import schema_of
from features.places import Place, place
from training.checkpoint.catalog import Checkpoint, CheckpointManifest
from training.checkpoint.schema_migration import Adoption, InputsRecord
from training.checkpoint.tensors import load_training_state, save, training_state
from training.config.recipe import ShardingConfig
from training.data.batches import batches
from training.distributed.process_group import process_group
from training.model.inputs import inputs_of
from training.recipes import recipe_of
from training.trainer.first_rows import first_rows
from training.trainer.migrate_state import load_adopted_state
from training.trainer.session import Session

TABLES = ("item_id", "user_id")
SHARDINGS = {
    "table": ShardingConfig(),
    "column": ShardingConfig(column_wise=TABLES, min_partition=4),
    "row": ShardingConfig(row_wise=TABLES),
}


def main(lake: Path, sharding: str, steps: int, target: Place, source: Place | None) -> None:
    sharding, _, is_before = sharding.partition(":")
    table = AnyExamples(lake, schema_before() if is_before else schema_of("synthetic"))
    days = table.days(schema_of("synthetic").first_day, schema_of("synthetic").first_day)
    recipe = dataclasses.replace(recipe_of("wukong-tiny"), sharding=SHARDINGS[sharding])
    with process_group():
        session = Session(inputs_of(table.schema), recipe, first_rows(table, days))
        note_start(session, target)
        converted = []
        if source and source.name.endswith("before"):
            adoption = Adoption(InputsRecord.of(schema_before()), InputsRecord.of(table.schema))
            tensors = Checkpoint.at(source).tensors
            converted = [*load_adopted_state(tensors, session, adoption, recipe.model).items()]
        elif source:
            tensors = Checkpoint.at(source).tensors
            converted = load_training_state(tensors, session.model, session.optimizer)
        rank, size = dist.get_rank(), dist.get_world_size()
        stream = batches(
            table, days, batch_size=64, shuffle_rows=999, seed=0, rank=rank, world_size=size
        )
        for batch, _ in zip(stream, range(steps), strict=False):
            session.step(batch, learning_rate_share=1.0)
        values = dict.fromkeys([f.name for f in dataclasses.fields(CheckpointManifest)], "")
        state = training_state(session.model, session.optimizer)
        save(target.parent, state, CheckpointManifest(**values), target.name)
        scores = session.predict(table.read(days).inputs)
        if rank == 0:
            types = {
                name: parameter.sharding_type
                for name, parameter in session.model.plan.plan["embeddings"].items()
            }
            line = {"converted": [str(c) for c in converted], "type": types["item_id"]}
            target.with_suffix(".json").write_text(json.dumps({**line, "scores": scores.tolist()}))


def note_start(session: Session, target: Path) -> None:
    """Leave what this rank starts with beside the target: its shards, and the dense part."""
    shards, dense = [], {}
    for key, value in session.model.state_dict().items():
        if hasattr(value, "local_shards"):
            shards += [(key, s.metadata.shard_offsets, s.tensor) for s in value.local_shards()]
        else:
            dense[key] = value
    torch.save((shards, dense), f"{target}.start-{dist.get_rank()}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        Path(arguments[0]),
        arguments[1],
        int(arguments[2]),
        place(arguments[3]),
        place(arguments[4]) if arguments[4:] else None,
    )
