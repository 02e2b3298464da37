"""A linear term beside the interaction, of any ranker."""

import dataclasses

import pytest
import torch

from features.datasets.catalog import schema_of
from features.schema import Kind
from training.config.model import MODELS, ModelConfig
from training.config.recipe import TableOptimizer
from training.distributed.process_group import process_group
from training.model.grown_config import GrowthError, Operator, grown_model
from training.model.inputs import Inputs, SparseInput, inputs_of
from training.model.ranker import InteractionArch
from training.recipes import recipe_of
from training.trainer.session import Session
from training.upscale.upscale import _grown_interaction, _Step

INPUTS = Inputs(
    sparse=tuple(SparseInput(f"field_{n}", 9, f"field_{n}") for n in range(3)),
    dense=(Kind.COUNT, Kind.RATE),
)


def config(name: str) -> ModelConfig:
    return dataclasses.replace(recipe_of(name).model, dropout=0.0, has_first_order=True)


def batch(dim: int, rows: int = 64) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(1)
    return torch.rand(rows, 2), torch.randn(rows, 3 * dim), []


@pytest.mark.parametrize("model", MODELS)
def test_it_adds_a_weight_for_each_entry_of_an_embedding_and_each_number(model):
    arch = InteractionArch(INPUTS, config(f"{model}-small"))
    dense, pooled, pretrained = batch(32)
    without = arch(dense, pooled, pretrained)
    assert torch.equal(without, arch.net(arch.tokens(dense, pooled, pretrained)))
    embeddings, numbers = torch.randn(3 * 32), torch.randn(2)
    with torch.no_grad():
        arch.first_order.embeddings.weight.copy_(embeddings)
        arch.first_order.dense.weight.copy_(numbers)
    term = pooled @ embeddings + arch.tokens.normaliser(dense) @ numbers
    assert torch.allclose(arch(dense, pooled, pretrained), without + term, atol=1e-4)


def test_it_begins_at_zero_and_learns_from_the_first_step():
    arch = InteractionArch(INPUTS, config("dlrm-small"))
    arch(*batch(32)).sum().backward()
    for weight in arch.first_order.parameters():
        assert not weight.any()
        assert weight.grad.all()


def test_there_is_none_by_default_nor_for_numbers_that_are_not_there():
    assert InteractionArch(INPUTS, recipe_of("dlrm-small").model).first_order is None
    arch = InteractionArch(dataclasses.replace(INPUTS, dense=()), config("dlrm-small"))
    assert arch.first_order.dense is None
    assert arch(torch.zeros(5, 0), torch.randn(5, 96), []).shape == (5,)


def test_it_is_part_of_the_shape_and_one_that_is_not_there_is_as_before():
    """Checkpoints from before there was such a term fit recipes without it."""
    recipe = recipe_of("wukong-small")
    assert recipe.model_fingerprint() == "c84f720f0ad68442"
    other = dataclasses.replace(recipe, model=config("wukong-small"))
    assert other.model_fingerprint() != recipe.model_fingerprint()


def test_a_ranker_that_grows_keeps_it_as_it_is():
    source = config("wukong-tiny")
    target = config("wukong-tiny-x2")
    torch.manual_seed(0)
    parent = InteractionArch(INPUTS, source)
    with torch.no_grad():
        for parameter in parent.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    num_tokens = parent.tokens.num_tokens
    target = grown_model(source, target, num_tokens=num_tokens)
    step = _Step(source, target, Operator.EXACT, num_tokens)
    grown = _grown_interaction(INPUTS, parent, step, torch.device("cpu"))
    assert torch.equal(grown.first_order.embeddings.weight, parent.first_order.embeddings.weight)
    rows = batch(source.embedding_dim)
    with torch.no_grad():
        assert torch.allclose(grown(*rows), parent(*rows), atol=1e-5)
        parent.first_order.dense.weight.zero_()
        assert not torch.allclose(grown(*rows), parent(*rows), atol=1e-2)


def test_growing_neither_adds_nor_drops_it():
    source, target = recipe_of("wukong-tiny").model, config("wukong-tiny-x2")
    with pytest.raises(GrowthError, match="has_first_order: False to True"):
        grown_model(source, target, num_tokens=4)


@pytest.mark.parametrize(
    "settings",
    [{"table_optimizer": TableOptimizer.ADAM}, {"table_decay": 0.5}],
    ids=lambda settings: next(iter(settings)),
)
def test_it_is_trained_as_a_part_of_the_dense_ranker_and_not_as_a_table(settings):
    recipe = recipe_of("wukong-tiny")
    training = dataclasses.replace(recipe.training, **settings)
    recipe = dataclasses.replace(recipe, model=config("wukong-tiny"), training=training)
    with process_group():
        session = Session(inputs_of(schema_of("synthetic")), recipe, None)
        weight = session.model.module.interaction.first_order.embeddings.weight
        rates = [
            group["full_learning_rate"]
            for group in session.optimizer.param_groups
            if any(one is weight for one in group["params"])
        ]
        table = next(value for name, value in session.local_tensors() if "item_id" in name)
        before = table.clone()
        with torch.no_grad():
            weight.fill_(1.0)
        session.end_step(1.0)
    assert rates == [training.dense_learning_rate]
    assert torch.equal(weight, torch.ones_like(weight))
    assert torch.equal(table, before * (1 - training.table_decay))
