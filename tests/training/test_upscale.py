"""A trained checkpoint grows, on two ranks, and the next day's training goes on from it."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict_from_keys
from training_door import door

from training.checkpoint import load_whole
from training.checkpoints import Checkpoint, Checkpoints
from training.config import recipe_from_dict
from training.inputs import inputs_of
from training.ranker import Ranker

pytestmark = pytest.mark.distributed
TARGET = "wukong-tiny-x2"


@dataclasses.dataclass(frozen=True)
class Family:
    parent: Checkpoint
    grown: Checkpoint
    told: dict
    next_day: dict
    refused: dict
    parent_before: dict[str, bytes]


@pytest.fixture(scope="module")
def family(built, tmp_path_factory) -> Family:
    root = tmp_path_factory.mktemp("family")
    folders = [f"--{name}={root / name}" for name in ("tracking", "reports")]
    shared = ["--dataset=synthetic", f"--lake={built.lake}", f"--checkpoints={root / 'check'}"]
    first, second = built.days[-2:]
    door("train", *shared, *folders, f"--date={first}", "--recipe=wukong-tiny")
    checkpoints = Checkpoints(root / "check", built.schema)
    parent = checkpoints.named(str(first))
    before = files(parent.path)
    told = door("upscale", *shared, f"--from={first}", f"--to={TARGET}")
    refused = door("upscale", *shared, f"--from={first}", "--to=wukong-tiny", code=1)
    grown = checkpoints.named(f"{first}-{TARGET}")
    next_day = door("train", *shared, *folders, f"--date={second}", f"--recipe={TARGET}")
    return Family(parent, grown, told, next_day, refused, before)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def ranker_of(checkpoint: Checkpoint, schema) -> Ranker:
    model = recipe_from_dict(checkpoint.manifest.recipe).model
    ranker = Ranker(inputs_of(schema), model)
    load_whole(checkpoint.path, ranker)
    return ranker


def test_the_parent_was_trained(family):
    assert family.parent.manifest.metrics["ne"] < 0.98


def test_the_grown_checkpoint_answers_as_its_parent(family, built):
    from training.dataset import ExampleTable
    from training.upscale import golden_batch

    batch = golden_batch(built.schema, ExampleTable(built.lake, built.schema))
    parent, grown = (
        ranker_of(checkpoint, built.schema) for checkpoint in (family.parent, family.grown)
    )
    with torch.no_grad():
        difference = (parent(batch.dense, batch.sparse) - grown(batch.dense, batch.sparse)).abs()
    assert difference.max() < 1e-5
    assert family.told["max_logit_difference"] < 1e-5
    assert set(family.told["logit_differences"]) == {"evaluating", "training"}
    assert sum(p.numel() for p in grown.parameters()) > sum(p.numel() for p in parent.parameters())


def test_tables_and_their_optimiser_are_the_parents_to_the_bit(family):
    parent, grown = (
        _load_state_dict_from_keys(checkpoint_id=checkpoint.path)
        for checkpoint in (family.parent, family.grown)
    )
    assert_equal(parent["sparse_optimizer"], grown["sparse_optimizer"])
    tables = [name for name in parent["model"] if name.startswith("embeddings")]
    assert tables
    for name in tables:
        assert torch.equal(parent["model"][name], grown["model"][name])


def assert_equal(left, right):
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    else:
        assert left == right


def test_moments_come_along(family):
    keys = FileSystemReader(str(family.grown.path)).read_metadata().state_dict_metadata
    name = "interaction.net.layers.0.linear_compression"
    state = _load_state_dict_from_keys(checkpoint_id=family.grown.path)["dense_optimizer"]
    assert any(name in key for key in keys)
    assert state[f"{name}.step"] > 0
    assert state[f"{name}.exp_avg_sq"].any()
    assert (state[f"{name}.exp_avg"] == 0).any(), "those of new weights are zero"
    new = "interaction.net.layers.2.linear_compression"
    assert state[f"{new}.step"] == 0


def test_the_manifest_tells_of_the_growth_and_the_parent_stays_usable(family):
    growth = family.grown.manifest.growth
    assert growth["parent"] == family.parent.name
    assert "stack: l 2 to 3" in growth["changes"]
    assert family.grown.manifest.family[-1] == family.parent.name
    assert files(family.parent.path) == family.parent_before


def test_the_next_day_goes_on_from_the_grown_checkpoint(family):
    assert family.next_day["parent"] == family.grown.name
    assert family.next_day["days"] == 1


def test_a_target_that_is_not_larger_is_refused(family):
    assert "nothing grows" in family.refused["error"]
