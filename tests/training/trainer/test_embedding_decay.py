"""L2 on embeddings, under the fused optimiser and under Adam."""

import dataclasses

import pytest
import torch
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbeddingBag
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from features.datasets.catalog import schema_of
from training.config.recipe import TableOptimizer
from training.data.batch import Batch
from training.distributed.process_group import process_group
from training.model.inputs import inputs_of
from training.recipes import recipe_of
from training.trainer.session import Session

pytestmark = pytest.mark.distributed


def test_embedding_decay_reaches_the_fused_optimiser():
    """FBGEMM ignores the decay in its default mode: a looked-up row must shrink without a loss."""
    recipe = recipe_of("wukong-small")
    config = dataclasses.replace(recipe.training, embedding_decay=1.0)
    schema = schema_of("movielens-100k")
    with process_group():
        session = Session(inputs_of(schema), dataclasses.replace(recipe, training=config), None)
        name = next(k for k in session.model.state_dict() if "item_id" in k and "weight" in k)
        table = session.model.state_dict()[name].local_shards()[0].tensor
        before = table.clone()
        pooled = session.model.module.embeddings(_one_row(schema)).to_dict()
        (sum(value.sum() for value in pooled.values()) * 1e-3).backward()
        after = session.model.state_dict()[name].local_shards()[0].tensor
        # The loss alone would move every column alike; the decay pulls them towards each other.
        assert after[2].std() < before[2].std() / 2
        assert torch.equal(after[1], before[1])


def test_tables_of_one_feature_have_no_decay_on_any_device():
    """FBGEMM's kernel for CPUs has none for them; CUDA's would have it."""
    with process_group():
        session = Session(inputs_of(schema_of("movielens-100k")), recipe_of("wukong-small"), None)
        decays = {
            table.name: kernel.emb_module.optimizer_args.weight_decay
            for lookup in session.model.module.embeddings._lookups
            for kernel in lookup.modules()
            if isinstance(kernel, BatchedFusedEmbeddingBag)
            for table in kernel.config.embedding_tables
        }
    shared = {name for name, decay in decays.items() if decay > 0}
    assert shared == {"item_id"}
    assert decays.keys() - shared


def test_adams_embedding_decay_pulls_rows_that_no_example_asked_for():
    recipe = recipe_of("wukong-small")
    config = dataclasses.replace(
        recipe.training,
        embedding_decay=0.1,
        sparse_learning_rate=1e-3,
        table_optimizer=TableOptimizer.ADAM,
    )
    schema = schema_of("movielens-100k")
    inputs = inputs_of(schema)
    with process_group():
        session = Session(inputs, dataclasses.replace(recipe, training=config), None)
        name = next(key for key, _ in session.local_tensors() if "item_id" in key)
        before = session.snapshot()[name]
        dense = torch.zeros(1, len(inputs.dense))
        batch = Batch(dense, _one_row(schema), torch.ones(1), torch.ones(1))
        for _ in range(3):
            session.step(batch, learning_rate_share=1.0)
        after = session.snapshot()[name]
    # Adam takes steps of its learning rate against a gradient that stays the same.
    unseen = before[5]
    assert (unseen.abs() > 0.01).any()
    steps = torch.where(unseen.abs() > 0.01, 3e-3 * unseen.sign(), unseen - after[5])
    torch.testing.assert_close(after[5], unseen - steps, rtol=0, atol=2e-4)


def _one_row(schema):
    keys = [column.name for column in schema.sparse_inputs()]
    ones = torch.ones(len(keys), dtype=torch.int32)
    values = torch.full((len(keys),), 2, dtype=torch.int64)
    return KeyedJaggedTensor.from_lengths_sync(keys=keys, values=values, lengths=ones)
