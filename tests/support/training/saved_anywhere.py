"""One rank of a test: save a ranker of random numbers, load it into another, and compare.

saved_anywhere.py FOLDER NAME
"""

import dataclasses
import sys

import torch
import torch.distributed as dist

from features.datasets.catalog import schema_of
from features.places import Place, place
from training.checkpoint.catalog import CheckpointManifest
from training.checkpoint.tensors import load_training_state, save, training_state
from training.config.recipe import ShardingConfig
from training.distributed.process_group import process_group
from training.model.inputs import inputs_of
from training.recipes import recipe_of
from training.trainer.session import Session


def session() -> Session:
    """A tiny ranker whose two largest tables are in pieces where there are several ranks."""
    sharding = ShardingConfig(column_wise=("item_id", "user_id"), min_partition=4)
    recipe = dataclasses.replace(recipe_of("wukong-tiny"), sharding=sharding)
    return Session(inputs_of(schema_of("synthetic")), recipe, None)


def manifest(**fields: object) -> CheckpointManifest:
    """Of a checkpoint of the newest day, as far as a test asks."""
    values = dict.fromkeys([field.name for field in dataclasses.fields(CheckpointManifest)], "")
    return CheckpointManifest(**{**values, "run_day": "2025-01-01", **fields})


def randomise(ranker: Session, seed: int) -> None:
    """Other values for what training goes on from: in the tables, others on every rank."""
    for name, tensor in local_tensors(ranker).items():
        torch.manual_seed(seed + (dist.get_rank() if "embedding_bags" in name else 0))
        if tensor.is_floating_point() and tensor.dim():
            tensor.copy_(torch.rand_like(tensor))


def local_tensors(ranker: Session) -> dict[str, torch.Tensor]:
    """What this rank holds of the training state."""
    found: dict[str, torch.Tensor] = {}
    waiting = [("", training_state(ranker.model, ranker.optimizer))]
    while waiting:
        prefix, values = waiting.pop()
        for name, value in values.items():
            if isinstance(value, dict):
                waiting.append((f"{prefix}{name}.", value))
            elif hasattr(value, "local_shards"):
                found |= {f"{prefix}{name}": s.tensor for s in value.local_shards()}
            else:
                found[f"{prefix}{name}"] = value.detach()
    return found


def main(folder: Place, name: str) -> None:
    with process_group():
        mine, other = session(), session()
        randomise(mine, seed=1)
        saved = save(folder, training_state(mine.model, mine.optimizer), manifest(), name)
        converted = load_training_state(saved.tensors, other.model, other.optimizer)
        assert not converted
        expected, found = local_tensors(mine), local_tensors(other)
        assert expected.keys() == found.keys()
        compared = [n for n in expected if not n.startswith("dense_optimizer")]
        assert all(torch.equal(expected[n], found[n]) for n in compared)


if __name__ == "__main__":
    main(place(sys.argv[1]), sys.argv[2])
