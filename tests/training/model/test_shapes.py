"""The shapes in the signatures of the model are checked in this folder's tests."""

import pytest
import torch
from jaxtyping import TypeCheckError

from features.schema import Kind
from training.config.model import MODELS, LayerConfig, WukongConfig
from training.model import layers
from training.model.inputs import Inputs, SparseInput
from training.model.ranker import InteractionArch
from training.model.wukong import FactorizationMachine, Wukong, WukongLayer
from training.recipes import recipe_of

CONFIG = LayerConfig(num_fm=2, num_linear=3, rank=2, mlp=(7,))


def test_an_argument_without_the_declared_dimensions_is_refused():
    layer = WukongLayer(5, 4, CONFIG, eps=1e-5)
    with pytest.raises(TypeCheckError, match=r"parameters of .*WukongLayer.forward"):
        layer(torch.zeros(2, 20))


def test_arguments_that_disagree_about_a_size_are_refused():
    with pytest.raises(TypeCheckError, match=r"parameters of .*mix_tokens"):
        layers.mix_tokens(torch.zeros(2, 5, 4), torch.zeros(6, 3))


def test_a_tensor_of_whole_numbers_is_refused():
    machine = FactorizationMachine(5, 4, CONFIG)
    with pytest.raises(TypeCheckError, match=r"parameters of .*FactorizationMachine.forward"):
        machine(torch.zeros(2, 5, 4, dtype=torch.int64))


def test_a_result_of_another_shape_than_declared_is_refused():
    net = Wukong(5, 4, WukongConfig(layers=(CONFIG,), head=()))
    assert net(torch.zeros(2, 5, 4)).shape == (2,)
    net.head = torch.nn.Identity()
    with pytest.raises(TypeCheckError, match=r"return value of .*Wukong.forward"):
        net(torch.zeros(2, 5, 4))


@pytest.mark.parametrize("model", MODELS)
def test_every_ranker_has_the_shapes_that_it_declares(model):
    sparse = tuple(SparseInput(f"field_{n}", 9, f"field_{n}") for n in range(4))
    inputs = Inputs(sparse=sparse, dense=(Kind.COUNT, Kind.RATE))
    arch = InteractionArch(inputs, recipe_of(f"{model}-small").model)
    arch(torch.rand(5, 2), torch.randn(5, 4 * 32), []).sum().backward()
    with pytest.raises(TypeCheckError, match=r"parameters of .*TokenArch.forward"):
        arch(torch.rand(5, 3), torch.randn(5, 4 * 32), [])
