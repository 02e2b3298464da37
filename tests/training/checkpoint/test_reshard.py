"""A checkpoint loads on any number of ranks, under any sharding."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.training.commands import torchrun
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict_from_keys

from training.checkpoint.adagrad_reshard import Columns, column_split, convert
from training.checkpoint.catalog import Checkpoint

SCRIPT = Path(__file__).parents[2] / "support" / "training" / "reshard.py"


def run(built, ranks, *arguments):
    torchrun(SCRIPT, built.lake, *arguments, ranks=ranks)
    target = Path(arguments[2])
    expected = json.loads(target.with_suffix(".json").read_text())
    return expected, _load_state_dict_from_keys(checkpoint_id=Checkpoint.at(target).tensors)


def start_of(target, shapes):
    """What all ranks of a run started with: tables put together from shards, and dense parts."""
    tables = {name: torch.full(shape, torch.nan) for name, shape in shapes.items()}
    parts = [torch.load(path) for path in sorted(target.parent.glob(f"{target.name}.start-*"))]
    for name, (row, column), tensor in itertools.chain.from_iterable(part[0] for part in parts):
        rows, columns = tensor.shape
        tables[name][row : row + rows, column : column + columns] = tensor
    return tables, [part[1] for part in parts]


def assert_same_start(targets, state):
    """To the bit, on any number of ranks under any sharding."""
    shapes = {name: v.shape for name, v in state["model"].items() if "embedding_bags" in name}
    (tables, dense), *others = [start_of(target, shapes) for target in targets]
    for name, rows in tables.items():
        assert len(rows.unique(dim=0)) == len(rows), f"{name}: no shard starts as another one"
        for other, _ in others:
            assert torch.equal(rows, other[name]), name
    for part in itertools.chain(dense, *(more for _, more in others)):
        assert part.keys() == dense[0].keys()
        assert all(torch.equal(part[name], value) for name, value in dense[0].items())
    return tables


@pytest.fixture(scope="module")
def parent(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reshard")
    return folder / "parent", *run(built, 2, "column", 5, folder / "parent")


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("ranks", "sharding", "shards"), [(1, "table", 1), (2, "row", 1), (4, "column", 2)]
)
def test_weights_and_outputs_are_the_same(parent, built, ranks, sharding, shards):
    source, expected, state = parent
    target = source.parent / f"{sharding}-{ranks}"
    assert expected["type"] == "column_wise"
    found, loaded = run(built, ranks, sharding, 0, target, source)
    assert_same_start([source, target], state)
    assert state["model"].keys() == loaded["model"].keys()
    for name, value in state["model"].items():
        assert torch.equal(value, loaded["model"][name]), name
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=0, atol=1e-6)
    was, now = (item_moments(one).view(-1, one_rows(state)) for one in (state, loaded))
    if shards == 2:
        assert found["converted"] == []
        assert torch.equal(now, was)
    else:
        assert f"item_id: 2 column shards to {shards}" in found["converted"]
        torch.testing.assert_close(now[0], was.mean(0))


def item_moments(state):
    held = state["sparse_optimizer"]["state"]["embeddings.embedding_bags.item_id.weight"]
    return next(iter(held.values()))


def one_rows(state):
    return len(state["model"]["embeddings.embedding_bags.item_id.weight"])


@pytest.mark.distributed
def test_the_same_split_keeps_the_moments_to_the_bit(parent, built):
    source, expected, state = parent
    found, loaded = run(built, 2, "column", 0, source.parent / "same", source)
    assert found["converted"] == []
    assert found["scores"] == expected["scores"]
    for name, value in state["sparse_optimizer"]["state"].items():
        for key, moment in value.items():
            assert torch.equal(moment, loaded["sparse_optimizer"]["state"][name][key])


@pytest.mark.distributed
def test_tables_that_grew_are_taken_over_shard_by_shard(built, tmp_path):
    """Four ranks and rows take over what two ranks and columns saved with fewer devices."""
    source = tmp_path / "before"
    _, was = run(built, 2, "column:before", 5, source)
    _, now = run(built, 4, "row", 0, tmp_path / "now", source)
    fresh = assert_same_start([tmp_path / "now"], now)
    for table, rows in (("device", 3), ("item_category", 7), ("item_id", 100_001)):
        name = f"embeddings.embedding_bags.{table}.weight"
        assert torch.equal(was["model"][name], now["model"][name][:rows])
        assert torch.equal(now["model"][name][rows:], fresh[name][rows:])
        old, new = (
            next(iter(one["sparse_optimizer"]["state"][name].values())) for one in (was, now)
        )
        old = old.view(-1, rows).mean(0)
        torch.testing.assert_close(new.flatten()[:rows], old)
        assert float(old.sum()) > 0


def split(*sizes):
    offsets = np.cumsum([0, *sizes[:-1]])
    return tuple(Columns(int(offset), size) for offset, size in zip(offsets, sizes, strict=True))


def test_shards_that_merge_give_a_mean_weighted_by_their_columns():
    moments = torch.tensor([1.0, 2.0, 5.0, 10.0])  # two shards of two rows
    found = convert(moments, split(6, 2), split(8))
    torch.testing.assert_close(found, torch.tensor([0.75 * 1 + 0.25 * 5, 0.75 * 2 + 0.25 * 10]))


def test_a_shard_that_is_split_is_copied():
    moments = torch.tensor([1.0, 2.0])
    assert convert(moments, split(8), split(3, 5)).tolist() == [1.0, 2.0, 1.0, 2.0]


def test_a_shard_may_take_from_two():
    moments = torch.tensor([1.0, 4.0, 7.0])  # three shards of one row
    found = convert(moments, split(2, 2, 2), split(3, 3))
    torch.testing.assert_close(found, torch.tensor([2.0, 6.0]))


def test_rows_are_no_column_shards():
    by_rows = [([0, 0], [50, 8]), ([50, 0], [50, 8])]
    assert column_split(by_rows) == (Columns(0, 8),)
