"""The interaction stack against an independent NumPy transcription of the paper's equations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.config.model import Ablation, LayerConfig, ModelConfig, WukongConfig
from training.model.wukong import FactorizationMachine, GroupedLayerNorm, Wukong, WukongLayer
from training.recipes import uniform_layers

EPS = 1e-5


def layer_norm(x, weight, bias):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + EPS) * weight + bias


def perceptron(x, weights):
    for place, (weight, bias) in enumerate(weights):
        x = x @ weight.T + bias
        x = np.maximum(x, 0) if place < len(weights) - 1 else x
    return x


def linears(module):
    found = [m for m in module if isinstance(m, torch.nn.Linear)]
    return [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in found]


def transcribed(layer: WukongLayer, x: np.ndarray) -> np.ndarray:
    """Equations 1 to 4 for one example, (N, D) to (G, D)."""
    fm = layer.fmb.interaction
    if fm.is_plain:
        interaction = x @ x.T
    elif fm.attention is None:
        interaction = (x @ x.T) @ fm.projection.detach().numpy()
    else:
        compressed = fm.compression.detach().numpy().T @ x
        y = perceptron(compressed.ravel(), linears(fm.attention)).reshape(len(x), fm.columns)
        interaction = x @ (x.T @ y)
    norm = layer.fmb.norm
    flat = layer_norm(interaction.ravel(), norm.weight.detach().numpy(), norm.bias.detach().numpy())
    fmb = perceptron(flat, linears(layer.fmb.mlp)).reshape(layer.fmb.num_out, -1)
    lcb = layer.linear_compression.detach().numpy().T @ x
    residual = x if layer.residual is None else layer.residual.detach().numpy().T @ x
    both = np.concatenate([fmb, lcb]) + residual
    return layer_norm(both, layer.norm.weight.detach().numpy(), layer.norm.bias.detach().numpy())


@settings(deadline=None, max_examples=25)
@given(
    num_in=st.integers(2, 9),
    dim=st.sampled_from([4, 8]),
    rank=st.integers(0, 5),
    num_fm=st.integers(1, 4),
    num_linear=st.integers(1, 4),
    attention=st.sampled_from([(), (3,), (2, 6)]),
    seed=st.integers(0, 1000),
)
def test_a_layer_is_the_papers_equations(num_in, dim, rank, num_fm, num_linear, attention, seed):
    torch.manual_seed(seed)
    config = LayerConfig(
        num_fm=num_fm, num_linear=num_linear, rank=rank, mlp=(7,), attention=attention
    )
    layer = WukongLayer(num_in, dim, config, eps=EPS).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(3, num_in, dim, dtype=torch.float64)
    expected = np.stack([transcribed(layer, example) for example in x.numpy()])
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=0, atol=1e-10)
    with torch.no_grad():
        np.testing.assert_allclose(layer(x).numpy(), expected, rtol=0, atol=1e-10)


def test_the_optimised_machine_with_identity_is_the_plain_one():
    x = torch.randn(4, 6, 8)
    plain = FactorizationMachine(6, 8, LayerConfig(num_fm=1, num_linear=1, rank=0, mlp=()))
    optimised = FactorizationMachine(6, 8, LayerConfig(num_fm=1, num_linear=1, rank=6, mlp=()))
    optimised.projection.data = torch.eye(6)
    torch.testing.assert_close(plain(x), optimised(x))


def test_rotating_the_embeddings_leaves_the_static_machine():
    machine = FactorizationMachine(6, 8, LayerConfig(num_fm=1, num_linear=1, rank=3, mlp=()))
    x, rotation = torch.randn(4, 6, 8), torch.linalg.qr(torch.randn(8, 8)).Q
    torch.testing.assert_close(machine(x @ rotation), machine(x), atol=1e-4, rtol=1e-4)


def test_the_factorization_machine_block_is_alive_at_initialisation():
    torch.manual_seed(0)
    layers = uniform_layers(depth=1, num_fm=4, num_linear=4, rank=4, mlp=(32,))
    config = ModelConfig(
        embedding_dim=16, interaction=WukongConfig(layers=layers, head=()), bottom_mlp=()
    )
    block = Wukong(12, 16, config.interaction).layers[0].fmb
    x = torch.randn(64, 12, 16) * config.embedding_std
    assert block.norm(block.interaction(x)).std() > 0.9
    assert block(x).std() > 0.1


def test_one_growth_group_is_the_papers_norm():
    x = torch.randn(5, 12)
    norm = GroupedLayerNorm(4, 3, eps=EPS)
    torch.testing.assert_close(norm(x), torch.nn.functional.layer_norm(x, (12,), eps=EPS))


def test_entries_of_a_later_group_leave_the_earlier_ones():
    grown = GroupedLayerNorm(5, 4, groups=((4, 0, 3), (5, 0, 4)), eps=EPS)
    old = torch.randn(2, 4, 3)
    x = torch.randn(2, 5, 4)
    x[:, :4, :3] = old
    expected = GroupedLayerNorm(4, 3, eps=EPS)(old.flatten(1)).view(2, 4, 3)
    torch.testing.assert_close(grown(x.flatten(1)).view(2, 5, 4)[:, :4, :3], expected)


def test_groups_must_end_at_the_present_shape():
    with pytest.raises(
        ValueError, match=r"groups: the last is \(4, 0, 3\); expected 5 rows, 4 columns"
    ):
        GroupedLayerNorm(5, 4, groups=((4, 0, 3),), eps=EPS)


def test_impossible_sizes_are_refused_by_field_and_value():
    with pytest.raises(ValueError, match="num_fm: 0; at least 1"):
        LayerConfig(num_fm=0, num_linear=1, rank=1, mlp=())


@pytest.mark.parametrize("part", list(Ablation))
def test_a_zeroed_part_gives_nothing_and_the_others_stay(part):
    """Figure 4 of the paper zeroes one part at a time."""
    torch.manual_seed(0)
    config = LayerConfig(num_fm=3, num_linear=4, rank=2, mlp=(8,))
    whole = WukongLayer(6, 8, config, eps=EPS)
    zeroed = WukongLayer(6, 8, config, eps=EPS, zeroed=(part,))
    zeroed.load_state_dict(whole.state_dict())
    x = torch.randn(5, 6, 8)
    fmb, lcb = whole.fmb(x), whole.linear_compression.T @ x
    residual = whole.residual.T @ x
    kept = {
        Ablation.FMB: torch.cat([torch.zeros_like(fmb), lcb], dim=1) + residual,
        Ablation.LCB: torch.cat([fmb, torch.zeros_like(lcb)], dim=1) + residual,
        Ablation.RESIDUAL: torch.cat([fmb, lcb], dim=1),
    }
    torch.testing.assert_close(zeroed(x), whole.norm(kept[part]))


def test_linear_compression_mixes_embeddings_and_never_their_dimensions():
    layer = WukongLayer(6, 8, LayerConfig(num_fm=3, num_linear=4, rank=2, mlp=(8,)), eps=EPS)
    x = torch.randn(2, 6, 8)
    x[:, :, 5] = 0
    compressed, _ = layer._mixed(x)
    torch.testing.assert_close(compressed, layer.linear_compression.T @ x)
    assert (compressed[:, :, 5] == 0).all()
    torch.testing.assert_close(layer._mixed(3 * x)[0], 3 * compressed)


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_each_layer_doubles_the_order_of_the_interactions(depth):
    """Without norms and ReLU, scaling the input shows a polynomial of order 2 ** depth."""
    torch.manual_seed(0)
    config = LayerConfig(num_fm=2, num_linear=2, rank=2, mlp=())
    layers = [WukongLayer(4, 3, config, eps=EPS).double() for _ in range(depth)]
    for layer in layers:
        layer.norm = torch.nn.Identity()
        layer.fmb.norm = torch.nn.Identity()
    stack = torch.nn.Sequential(*layers)
    x = torch.randn(1, 4, 3, dtype=torch.float64)
    order = 2**depth
    scales = torch.linspace(-1, 1, 3 * order + 1, dtype=torch.float64)
    values = torch.stack([stack(scale * x).sum() for scale in scales]).numpy()
    fits = [np.polyfit(scales.numpy(), values, degree) for degree in (order, order - 1)]
    residual = [np.abs(np.polyval(fit, scales.numpy()) - values).max() for fit in fits]
    assert residual[0] < 1e-8 < residual[1]
