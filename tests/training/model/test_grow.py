"""A grown stack computes what its parent computed, and all that is new in it learns."""

import dataclasses

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
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

from training.model.grow import Kind, grow
from training.model.grown_config import GrowthError, changes, with_tokens
from training.model.wukong import Wukong


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
