"""A grown stack computes what its parent computed, and all that is new in it learns."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from training.config.model import LayerConfig, ModelConfig, WukongConfig
from training.model.grow import Kind, grow, rewind_adam_step
from training.model.grown_config import GrowthError, changes, grown_model, with_tokens
from training.model.wukong import Wukong

TOKENS, DIM = 5, 4


def model(*layers: LayerConfig, head=(6,), dim=DIM) -> ModelConfig:
    stack = WukongConfig(layers=layers, head=head)
    return ModelConfig(embedding_dim=dim, interaction=stack, bottom_mlp=())


def layer(*, num_fm=3, num_linear=2, rank=2, mlp=(5,), attention=()) -> LayerConfig:
    return LayerConfig(
        num_fm=num_fm, num_linear=num_linear, rank=rank, mlp=mlp, attention=attention
    )


def trained(config: ModelConfig, dropout=0.0) -> Wukong:
    """A stack all of whose weights have moved away from their initialisation."""
    torch.manual_seed(1)
    net = Wukong(TOKENS, DIM, config.interaction, dropout=dropout).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return net


def grown(parent: Wukong, source: ModelConfig, target: ModelConfig) -> tuple[Wukong, ModelConfig]:
    config = grown_model(source, target, num_tokens=TOKENS)
    torch.manual_seed(2)
    net = Wukong(TOKENS, DIM, config.interaction).double()
    state = grow(parent.state_dict(), net.state_dict(), source, config, num_tokens=TOKENS)
    net.load_state_dict(state)
    return net, config


def difference(parent: Wukong, net: Wukong) -> float:
    x = torch.randn(7, TOKENS, DIM, dtype=torch.float64)
    return float((parent(x) - net(x)).abs().max().detach())


BASE = (layer(), layer())
GROWN = {
    "n_F": (layer(num_fm=4), layer(num_fm=4)),
    "n_F of the last layer": (layer(), layer(num_fm=4)),
    "n_L": (layer(num_linear=4), layer(num_linear=4)),
    "k": (layer(rank=4), layer(rank=3)),
    "MLP width": (layer(mlp=(9,)), layer(mlp=(7,))),
    "MLP depth": (layer(mlp=(5, 6)), layer(mlp=(5, 5, 8))),
    "l": (*BASE, layer()),
    "l twice, of other sizes": (*BASE, layer(mlp=(4, 4)), layer(num_fm=4, num_linear=3)),
    "all": (
        layer(num_fm=5, num_linear=4, rank=4, mlp=(8, 9)),
        layer(num_fm=5, num_linear=4, rank=3, mlp=(7, 7)),
        layer(num_fm=5, num_linear=4, rank=4),
    ),
}


@pytest.mark.parametrize("attention", [(), (2,), (3, 6)])
@pytest.mark.parametrize("axis", GROWN)
def test_the_function_is_kept_on_every_axis(axis, attention):
    source, target = (
        model(*(dataclasses.replace(one, attention=attention) for one in layers), head=head)
        for layers, head in ((BASE, (6,)), (GROWN[axis], (8, 7)))
    )
    parent = trained(source)
    net, _ = grown(parent, source, target)
    assert difference(parent, net) < 1e-12


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_function_is_kept_for_any_sizes(data):
    def sizes(low, high):
        return data.draw(st.integers(low, high))

    depth = sizes(1, 3)
    old, new = [], []
    fm, linear = sizes(1, 3), sizes(1, 3)
    more_fm, more_linear = fm + sizes(0, 2), linear + sizes(0, 2)
    for _ in range(depth):
        mlp = tuple(sizes(2, 5) for _ in range(sizes(1, 2)))
        rank = sizes(1, 3)
        old.append(layer(num_fm=fm, num_linear=linear, rank=rank, mlp=mlp))
        wider = tuple(width + sizes(0, 2) for width in mlp)
        deeper = (mlp[-1] + 1,) * sizes(0, 1)
        new.append(
            layer(
                num_fm=more_fm,
                num_linear=more_linear,
                rank=rank + sizes(0, 2),
                mlp=(*wider, *deeper),
            )
        )
    source, target = model(*old), model(*new, *new[-1:] * sizes(0, 1), head=(6 + sizes(0, 2),))
    parent = trained(source)
    try:
        net, _ = grown(parent, source, target)
    except GrowthError:
        # The sizes drawn would drop a projection: refused, as a test of its own shows.
        assume(False)
    assert difference(parent, net) < 1e-11


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
        assert half and torch.equal(first.weight[one], first.weight[other]), name
        assert torch.equal(last.weight[:, one], -last.weight[:, other]), name
        assert last.weight[:, one].all(), name
        alive = first.weight.grad[one].abs().sum(1) > 0
        assert alive.any(), f"{name}: with zeros behind them no unit would have a gradient"


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


def test_it_grows_again_from_what_has_grown():
    first, second, third = (model(*GROWN[axis]) for axis in ("n_F", "k", "all"))
    second = model(*(dataclasses.replace(one, num_fm=4) for one in GROWN["k"]))
    parent = trained(first)
    child, second = grown(parent, first, second)
    with torch.no_grad():
        for parameter in child.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    grandchild, third = grown(child, second, third)
    assert difference(child, grandchild) < 1e-12
    assert [one.is_normalised for one in third.interaction.layers] == [True, False, True]
    # Layer 0 grew its k once, layer 1 its k and then its inputs; the last one is new.
    assert [len(one.norm_groups) for one in third.interaction.layers] == [2, 3, 0]


def test_every_new_weight_has_moved_after_three_steps():
    source, target = model(*BASE), model(*GROWN["all"], head=(8, 8))
    net, _ = grown(trained(source), source, target)
    before = {name: value.clone() for name, value in net.named_parameters()}
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(64, TOKENS, DIM, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
    for name, value in net.named_parameters():
        # A pair whose ReLU is shut for every row rests.
        assert (value != before[name]).double().mean() > 0.5, name


def moments_of(kind):
    source, target = model(*BASE), model(*GROWN["all"])
    parent = trained(source)
    net, config = grown(parent, source, target)
    # Of every tensor its own number, so that each entry shows where it comes from.
    held = {
        name: torch.full_like(value, 1.0 + number)
        for number, (name, value) in enumerate(parent.state_dict().items())
    }
    found = grow(held, net.state_dict(), source, config, num_tokens=TOKENS, kind=kind)
    return held, found


def test_first_moments_follow_their_weights_and_new_ones_are_zero():
    held, found = moments_of(Kind.FIRST_MOMENTS)
    total = sum(float(value.sum()) for value in found.values())
    assert total == sum(float(value.sum()) for value in held.values())
    mixers = found["layers.0.linear_compression"]
    assert mixers.unique().tolist() == [0, held["layers.0.linear_compression"][0, 0]]


def test_new_second_moments_are_zero_too():
    held, found = moments_of(Kind.SECOND_MOMENTS)
    mixers = found["layers.0.linear_compression"]
    assert mixers.unique().tolist() == [0, held["layers.0.linear_compression"][0, 0]]
    assert not found["layers.2.linear_compression"].any(), "a new layer has no history at all"


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


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (model(layer(), layer(rank=1)), "layer 1: rank 2 to 1; cannot shrink"),
        (model(layer()), "layers: 2 to 1; cannot shrink"),
        (model(layer(mlp=(4,)), layer()), r"layer 0: mlp \(5,\) to \(4,\); cannot shrink"),
        (model(layer(mlp=(5, 4)), layer()), "a new hidden layer hands on 5, so at least that wide"),
        (model(*BASE, head=(6, 5)), r"head \(6,\) to \(6, 5\); a new hidden layer hands on 6"),
        (model(*BASE, dim=8), "embedding_dim: 4 to 8; the tables and tokens must be equal"),
        (model(layer(attention=(2,)), layer()), r"layer 0: attention \(\) to \(2,\)"),
        (model(*BASE, layer(num_fm=2)), "a new layer hands on its 5 inputs, so at least 5"),
        (
            model(layer(num_fm=4), layer(num_linear=3)),
            "let n_F grow equally in both",
        ),
    ],
)
def test_what_cannot_keep_the_function_is_refused(target, message):
    source = model(*BASE)
    with pytest.raises(GrowthError, match=message):
        grown(trained(source), source, target)


def test_a_projection_that_was_trained_is_never_dropped():
    source = model(layer(num_fm=2, num_linear=2))
    with pytest.raises(GrowthError, match="no projection any more"):
        grown(trained(source), source, model(layer(num_fm=3, num_linear=2)))


def test_changes_have_the_papers_names():
    found = changes(model(*BASE), model(*GROWN["all"], head=(9,)))
    assert found[0] == "stack: l 2 to 3"
    assert "layer 0: n_F 3 to 5" in found
    assert "layer 1: MLP (5,) to (7, 7)" in found
    assert found[-1] == "head: MLP (6,) to (9,)"


@pytest.mark.parametrize("attention", [(), (2, 3)])
def test_a_stack_that_has_grown_takes_a_new_token_in(attention):
    """Whatever the new token is, the old tokens' products and compressions are what they were."""
    base = model(layer(attention=attention), layer())
    parent, config = grown(trained(base), base, model(layer(rank=3, attention=attention), layer()))
    wider = with_tokens(config, TOKENS + 1)
    net = Wukong(TOKENS + 1, DIM, wider.interaction).double()
    positions = torch.tensor([0, 1, 3, 4, 5])
    state = grow(
        *(parent.state_dict(), net.state_dict(), config, wider),
        num_tokens=TOKENS + 1,
        positions=positions,
    )
    net.load_state_dict(state)
    x = torch.randn(7, TOKENS + 1, DIM, dtype=torch.float64)
    before, after = parent.layers[0], net.layers[0]
    products = after.fmb.interaction(x).view(7, TOKENS + 1, 3)[:, positions]
    torch.testing.assert_close(products.flatten(1), before.fmb.interaction(x[:, positions]))
    assert torch.equal(after.linear_compression[positions], before.linear_compression)
    assert not after.linear_compression[2].any()
    assert [group[:1] for group in wider.interaction.layers[0].norm_groups] == [(6,), (6,)]
