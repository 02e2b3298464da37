"""What a growth starts with: pairs that cancel, norms, a fresh head, and Adam's state."""

import dataclasses

import numpy as np
import pytest
import torch
from support.growth.small_stacks import (
    BASE,
    DIM,
    GROWN,
    TOKENS,
    difference,
    grown,
    layer,
    model,
    trained,
)

from training.model.adam_clock import rewind_adam_step
from training.model.grow import Kind, grow
from training.model.grown_config import GrowthError, Operator, grown_model


def test_new_hidden_units_are_pairs_whose_weights_have_a_gradient_from_the_first_step():
    source, target = model(*BASE), model(layer(mlp=(9,)), *GROWN["l"][1:], head=(10,))
    parent = trained(source)
    net, _ = grown(parent, source, target)
    net(torch.randn(64, TOKENS, DIM, dtype=torch.float64)).square().mean().backward()
    mlps = {"wider": (net.layers[0].fmb.mlp, 5), "head": (net.head, 6)}
    mlps["new layer"] = (net.layers[2].fmb.mlp, 0)
    for name, (mlp, num_old) in mlps.items():
        first, last = mlp[0], mlp[-1]
        half = (len(first.bias) - num_old) // 2
        one, other = (slice(num_old + n * half, num_old + (n + 1) * half) for n in (0, 1))
        assert half, name
        assert torch.equal(first.weight[one], first.weight[other]), name
        assert torch.equal(last.weight[:, one], -last.weight[:, other]), name
        assert last.weight[:, one].all(), name
        alive = first.weight.grad[one].abs().sum(1) > 0
        assert alive.any(), f"{name}: with zeros behind them no unit would have a gradient"


def test_a_fresh_head_keeps_the_old_layers_copies_the_last_and_begins_the_head_anew():
    source, target = model(*BASE), model(*BASE, layer(), layer(mlp=(7,)), head=(4,))
    parent = trained(source)
    net, config = grown(parent, source, target, Operator.FRESH_HEAD)
    assert config == target, "the architecture is the target's, with every norm and no groups"
    of = {number: dict(net.layers[number].named_parameters()) for number in range(len(net.layers))}
    for name, value in parent.layers.named_parameters():
        number, rest = name.split(".", 1)
        assert torch.equal(of[int(number)][rest], value), name
    assert all(torch.equal(of[2][name], value) for name, value in of[1].items())
    x = torch.randn(7, TOKENS, DIM, dtype=torch.float64)
    torch.testing.assert_close(net.layers[:2](x), parent.layers(x))
    assert net.head[0].weight.shape == (4, 5 * DIM)
    assert not (net.layers[3](net.layers[:3](x)) == net.layers[:3](x)).any(), "no identity"


@pytest.mark.parametrize("kind", [Kind.FIRST_MOMENTS, Kind.SECOND_MOMENTS])
def test_with_a_fresh_head_what_is_new_has_no_moments(kind):
    source, target = model(*BASE), model(*BASE, layer())
    net, config = grown(trained(source), source, target, Operator.FRESH_HEAD)
    held = {name: torch.ones_like(v) for name, v in trained(source).state_dict().items()}
    found = grow(
        *(held, net.state_dict(), source, config),
        **{"num_tokens": TOKENS, "kind": kind, "operator": Operator.FRESH_HEAD},
    )
    for name, value in found.items():
        is_old = name.startswith(("layers.0", "layers.1"))
        assert value.all() if is_old else not value.any(), name


def test_a_fresh_head_without_a_new_layer_is_refused():
    with pytest.raises(GrowthError, match="operator fresh-head: layers 2 to 2; at least one more"):
        grown_model(
            *(model(*BASE), model(*GROWN["k"])), num_tokens=TOKENS, operator=Operator.FRESH_HEAD
        )


@pytest.mark.parametrize("axis", ["l", "l twice, of other sizes", "all"])
def test_with_a_small_eps_a_deeper_stack_keeps_all_its_norms(axis):
    source, target = (
        dataclasses.replace(
            one, interaction=dataclasses.replace(one.interaction, layer_norm_eps=1e-8)
        )
        for one in (model(*BASE), model(*GROWN[axis], head=(8, 7)))
    )
    parent = trained(source)
    net, config = grown(parent, source, target)
    assert all(one.is_normalised for one in config.interaction.layers)
    assert difference(parent, net) < 1e-6
    top, last = net.layers[1].norm, net.layers[-1].norm
    assert torch.equal(top.weight, torch.ones_like(top.weight))
    assert torch.equal(last.weight, parent.layers[1].norm.weight)


def test_a_rewound_adam_steps_old_entries_as_before_and_new_ones_by_no_more_than_its_rate():
    """Against torch's own Adam; without it a new entry's step would be three times the rate."""
    old, new = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    adam = torch.optim.AdamW([old], lr=0.1, weight_decay=0.0)
    for step in range(200):
        old.grad = torch.tensor([1.0 + 0.5 * (step % 2)])
        adam.step()
    state = adam.state[old]
    kept = (state["exp_avg"], state["exp_avg_sq"], state["step"])
    corrected = [
        moment / (1 - beta ** float(kept[2]))
        for moment, beta in zip(kept[:2], (0.9, 0.999), strict=True)
    ]

    first, second, step = rewind_adam_step(*kept, (0.9, 0.999))

    assert step == 1
    for moment, beta, expected in zip((first, second), (0.9, 0.999), corrected, strict=True):
        torch.testing.assert_close(moment / (1 - beta), expected)
    grown = torch.optim.AdamW([new], lr=0.1, weight_decay=0.0)
    zero = torch.zeros(1)
    grown.state[new] = dict(
        zip(("exp_avg", "exp_avg_sq", "step"), (zero, zero.clone(), step), strict=True)
    )
    places = [float(new.detach())]
    for _ in range(50):
        new.grad = torch.tensor([1e-3])
        grown.step()
        places.append(float(new.detach()))
    steps = np.abs(np.diff(places))
    assert steps.max() <= 0.1 * 1.1
    assert steps[5:].min() > 0.1 * 0.5


def test_a_tensor_without_history_is_not_rewound():
    nothing = (torch.zeros(2), torch.zeros(2), torch.zeros(()))
    assert all(map(torch.equal, rewind_adam_step(*nothing, (0.9, 0.999)), nothing))
