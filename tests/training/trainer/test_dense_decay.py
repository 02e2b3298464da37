"""Weight decay holds for matrices, not for norms, biases and token mixers."""

import copy
import dataclasses
import itertools

import pytest
import torch
from torch import nn

from features.schema import Kind
from training.checkpoint.tensors import adam_state, set_training_state, training_state
from training.config.model import MODELS, DCNv2Config, LayerConfig, WukongConfig
from training.data.batches import batches
from training.data.dataset import ExampleTable
from training.distributed.process_group import process_group
from training.model.inputs import Inputs, SparseInput, inputs_of
from training.model.layers import is_decayed
from training.model.ranker import InteractionArch
from training.recipes import recipe_of
from training.trainer.first_rows import FirstRows
from training.trainer.session import Session

MATRICES = ("kernels", "W_kernels", "V_kernels", "bilinear")
"""Of TorchRec's cross nets and FinalMLP, whose matrices are no linear layers."""
NETS = {
    **{model: recipe_of(f"{model}-small").model.interaction for model in MODELS},
    "low-rank cross": DCNv2Config(num_cross=1, rank=4, mlp=(8,)),
    "full cross": DCNv2Config(num_cross=1, rank=0, mlp=(8,)),
    "attentive": WukongConfig(
        layers=(LayerConfig(num_fm=2, num_linear=3, rank=2, mlp=(7,), attention=(2, 8)),), head=()
    ),
}


@pytest.fixture
def group():
    with process_group():
        yield


@pytest.mark.parametrize("name", NETS)
def test_it_holds_for_weights_of_linear_layers_and_cross_products_alone(name):
    inputs = Inputs(
        sparse=tuple(SparseInput(f"field_{n}", 9, f"field_{n}") for n in range(4)),
        dense=(Kind.COUNT,),
    )
    model = dataclasses.replace(recipe_of("dlrm-small").model, interaction=NETS[name])
    arch = InteractionArch(inputs, model)
    linear = {
        f"{module}.weight" for module, one in arch.named_modules() if isinstance(one, nn.Linear)
    }
    products = {n for n, _ in arch.named_parameters() if {*MATRICES} & {*n.split(".")[-2:]}}
    decayed = {n for n, parameter in arch.named_parameters() if is_decayed(n, parameter)}
    assert decayed == linear | products


def session_of(built, seed: int = 0, **settings) -> Session:
    recipe = recipe_of("wukong-tiny")
    training = dataclasses.replace(recipe.training, seed=seed, **settings)
    recipe = dataclasses.replace(recipe, training=training)
    dense = torch.zeros(1, len(inputs_of(built.schema).dense))
    return Session(inputs_of(built.schema), recipe, FirstRows(dense))


def test_a_step_shrinks_matrices_and_leaves_what_has_no_gradient(built, group):
    session = session_of(built, dense_decay=0.5, dense_learning_rate=0.1)
    before = session.snapshot()
    for name, parameter in session.model.named_parameters():
        if "interaction" in name:
            parameter.grad = torch.zeros_like(parameter)
    session.begin_step(1.0)
    session.optimizer.step()
    after = session.snapshot()
    shrunk = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert "interaction.net.head.0.weight" in shrunk
    assert not {n for n in shrunk if ".norm." in n or n.endswith(("bias", "linear_compression"))}
    # Once, by the rate and the decay.
    name = "interaction.net.layers.1.fmb.mlp.0.weight"
    assert torch.allclose(after[name], before[name] * (1 - 0.5 * 0.1))


def test_moments_of_one_group_of_all_parameters_are_loaded_by_name(built, group):
    """Checkpoints from before the groups go on with the same bits."""
    table = ExampleTable(built.lake, built.schema)
    stream = batches(table, built.days[:2], batch_size=64, shuffle_rows=700, seed=1)
    first, second = itertools.islice(stream, 2)
    one_group = session_of(built)
    named = one_group.model.named_parameters()
    everything = [p for name, p in named if "interaction" in name]
    one_group.optimizer = torch.optim.AdamW(
        [{"params": everything, "full_learning_rate": one_group.config.dense_learning_rate}],
        weight_decay=0.0,
        eps=1e-8,
        fused=True,
    )
    groups = session_of(built, seed=7)
    assert len(groups.optimizer.param_groups) == 2
    one_group.step(first, learning_rate_share=1.0)
    saved = copy.deepcopy(training_state(one_group.model, one_group.optimizer))
    set_training_state(groups.model, groups.optimizer, saved)
    for session in (one_group, groups):
        session.step(second, learning_rate_share=0.5)
    found, expected = (adam_state(s.model, s.optimizer) for s in (groups, one_group))
    assert {*found} == {*expected}
    assert all(torch.equal(found[name], expected[name]) for name in found)
    weights, known = groups.snapshot(), one_group.snapshot()
    assert all(torch.equal(weights[name], known[name]) for name in weights)
