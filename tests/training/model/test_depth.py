"""Residuals between layers, and the auxiliary logit: what they compute, and how they grow."""

import dataclasses

import pytest
import torch
from support.growth.small_stacks import DIM, TOKENS, grown, layer, model, trained

from features.schema import Kind
from training.config.model import DLRMConfig, ModelConfig, WukongConfig, model_from_dict
from training.config.recipe import recipe_from_dict
from training.model.flops import cost_of
from training.model.grow import Kind as What
from training.model.grow import grow
from training.model.grown_config import GrowthError, Operator, grown_model
from training.model.inputs import Inputs, SparseInput
from training.model.ranker import InteractionArch
from training.recipes import recipe_of

INPUTS = Inputs(
    sparse=tuple(SparseInput(f"field_{n}", 9, f"field_{n}") for n in range(4)),
    dense=(Kind.COUNT, Kind.RATE),
)


def deep(depth: int, *, interval=0, weight=0.0, head=(6,), **sizes) -> ModelConfig:
    config = model(*(layer(**sizes),) * depth, head=head)
    changes = {"residual_interval": interval, "auxiliary_loss_weight": weight}
    stack = dataclasses.replace(config.interaction, **changes)
    return dataclasses.replace(config, interaction=stack)


def inputs_of_stack() -> torch.Tensor:
    torch.manual_seed(7)
    return torch.randn(6, TOKENS, DIM, dtype=torch.float64)


@pytest.mark.parametrize("has_gradients", [True, False])
def test_every_second_layer_adds_the_output_of_two_layers_below(has_gradients):
    net, x = trained(deep(7, interval=2)), inputs_of_stack()
    with torch.set_grad_enabled(has_gradients):
        of = net.layers
        second = of[1](of[0](x))
        fourth = of[3](of[2](second)) + second
        sixth = of[5](of[4](fourth)) + fourth
        expected = net.head(of[6](sixth).flatten(1)).squeeze(-1)
        assert torch.equal(net(x), expected)


@pytest.mark.parametrize("interval", [0, 2, 3])
def test_without_a_second_layer_of_the_interval_nothing_is_added(interval):
    """Off it is the plain stack to the bit."""
    net, x = trained(deep(3, interval=interval)), inputs_of_stack()
    assert torch.equal(net(x), net.head(net.layers(x).flatten(1)).squeeze(-1))


def test_in_training_there_is_a_second_logit_of_the_middle_layer():
    net, x = trained(deep(4, weight=0.5)), inputs_of_stack()
    logits, auxiliary = net.train()(x)
    middle = net.layers[1](net.layers[0](x)).flatten(1)
    linear = net.auxiliary[0]
    torch.testing.assert_close(auxiliary, middle @ linear.weight[0] + linear.bias[0])
    assert torch.equal(net.eval()(x), logits), "scored is the last layer's alone"
    assert net(x).shape == (len(x),)


def test_one_layer_has_no_auxiliary_logit():
    assert trained(deep(1, weight=0.5)).train()(inputs_of_stack()).ndim == 1


def test_what_is_served_has_no_auxiliary_logit():
    config = deep(4, interval=2, weight=0.5)
    served = config.served()
    parts = set(trained(config).state_dict()) - set(trained(served).state_dict())
    assert parts == {"auxiliary.0.weight", "auxiliary.0.bias"}
    assert served.interaction.residual_interval == 2
    other = ModelConfig(embedding_dim=4, interaction=DLRMConfig(over_arch=(4,)), bottom_mlp=())
    assert other.served() == other


def test_both_first_logits_lie_at_the_base_rate():
    config = dataclasses.replace(deep(2, weight=0.5), bottom_mlp=(4,))
    arch = InteractionArch(INPUTS, config)
    arch.fit(torch.zeros(3, 2), 0.25)
    for part in (arch.net.head, arch.net.auxiliary):
        assert float(part[-1].bias.detach()) == pytest.approx(-1.0986, abs=1e-4)


def test_the_auxiliary_logit_counts_in_training_and_a_residual_costs_no_product():
    plain = cost_of(INPUTS, deep(4))
    assert cost_of(INPUTS, deep(4, interval=2)) == plain
    more = cost_of(INPUTS, deep(4, weight=0.5))
    assert more.training_flops - plain.training_flops == 6 * (3 + 2) * DIM
    assert more.dense_parameters - plain.dense_parameters == (3 + 2) * DIM + 1


def test_layers_that_are_added_must_have_equal_embeddings():
    with pytest.raises(
        ValueError, match=r"residual_interval: 1; num_fm and num_linear of layers 0 "
    ):
        WukongConfig(layers=(layer(num_fm=4), layer()), head=(), residual_interval=1)
    with pytest.raises(ValueError, match="residual_interval: -1; at least 0"):
        deep(2, interval=-1)
    with pytest.raises(ValueError, match="auxiliary_loss_weight: nan; a finite number, at least 0"):
        deep(2, weight=float("nan"))


def test_earlier_manifests_load_and_their_checkpoints_fit():
    recipe = recipe_of("wukong-tiny")
    assert recipe.model_fingerprint() == "34dd16dd385dec55", "as before there were these options"
    values = recipe.to_dict()
    for option in ("residual_interval", "auxiliary_loss_weight"):
        del values["model"]["interaction"][option]
    assert recipe_from_dict(values) == recipe
    assert model_from_dict(values["model"]) == recipe.model
    for one in (deep(4, interval=2), deep(4, weight=0.5)):
        other = dataclasses.replace(recipe, model=one).model_fingerprint()
        assert other != dataclasses.replace(recipe, model=deep(4)).model_fingerprint()


def test_width_grows_exactly_under_residuals_and_with_the_auxiliary_logit():
    source = deep(4, interval=2, weight=0.5)
    target = deep(4, interval=2, weight=0.5, num_fm=5, num_linear=3, rank=3, mlp=(9,), head=(8,))
    parent, x = trained(source).train(), inputs_of_stack()
    net, _ = grown(parent, source, target)
    torch.testing.assert_close(net.train()(x), parent(x), rtol=0, atol=1e-12)
    assert parent(x).shape == (2, len(x))


def test_a_new_layer_that_would_add_is_not_exact_and_needs_a_fresh_head():
    source, target = deep(2, interval=2), deep(4, interval=2)
    with pytest.raises(GrowthError, match="layer 3 is new and would add an earlier output"):
        grown_model(source, target, num_tokens=TOKENS)
    net, config = grown(trained(source), source, target, Operator.FRESH_HEAD)
    assert config.interaction == target.interaction
    x = inputs_of_stack()
    torch.testing.assert_close(net.layers[:2](x), trained(source).layers(x))


@pytest.mark.parametrize("operator", list(Operator))
def test_what_the_parents_layers_add_cannot_change(operator):
    with pytest.raises(GrowthError, match=r"residual_interval: 2 to 0; the parent's layers \[3\]"):
        grown_model(deep(4, interval=2), deep(5), num_tokens=TOKENS, operator=operator)


@pytest.mark.parametrize("depth", [3, 4])
def test_with_a_fresh_head_the_auxiliary_one_begins_anew_without_moments(depth):
    source, target = deep(2, weight=0.5), deep(depth, weight=0.5)
    parent = trained(source)
    net, config = grown(parent, source, target, Operator.FRESH_HEAD)
    assert not torch.equal(net.auxiliary[0].weight, parent.auxiliary[0].weight)
    ones = {name: torch.ones_like(value) for name, value in parent.state_dict().items()}
    shared = {"num_tokens": TOKENS, "operator": Operator.FRESH_HEAD}
    found = grow(*(ones, net.state_dict(), source, config), kind=What.FIRST_MOMENTS, **shared)
    assert not found["auxiliary.0.weight"].any()
