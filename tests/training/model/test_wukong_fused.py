"""The hand-written training step against autograd on the layer as it is stated."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.config.model import LayerConfig
from training.model.wukong import WukongLayer

DIM = 4


def layer_and_input(*, num_in=5, num_fm=2, num_linear=3, rank=2, mlp=(6, 7), dropout=0.0):
    config = LayerConfig(num_fm=num_fm, num_linear=num_linear, rank=rank, mlp=mlp)
    torch.manual_seed(num_in)
    layer = WukongLayer(num_in, DIM, config, eps=1e-5, dropout=dropout).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return layer, torch.randn(3, num_in, DIM, dtype=torch.float64, requires_grad=True)


def gradients(layer, x, monkeypatch, *, is_fused):
    with monkeypatch.context() as patch:
        if not is_fused:
            patch.setattr(layer, "_is_fused", lambda _: False)
        out = layer(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return out, torch.autograd.grad((out * weights).sum(), [x, *layer.parameters()])


@settings(deadline=None, max_examples=30)
@given(
    num_in=st.integers(2, 6),
    num_fm=st.integers(1, 3),
    num_linear=st.integers(1, 3),
    rank=st.integers(1, 4),
    mlp=st.sampled_from([(), (5,), (5, 6)]),
)
def test_outputs_and_gradients_are_autograds(num_in, num_fm, num_linear, rank, mlp):
    layer, x = layer_and_input(
        num_in=num_in, num_fm=num_fm, num_linear=num_linear, rank=rank, mlp=mlp
    )
    with pytest.MonkeyPatch.context() as patch:
        out, found = gradients(layer, x, patch, is_fused=True)
        expected_out, expected = gradients(layer, x, patch, is_fused=False)
    assert "FusedLayer" in out.grad_fn.name()
    torch.testing.assert_close(out, expected_out, rtol=0, atol=1e-11)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_its_input_is_left_as_it_was(monkeypatch):
    layer, x = layer_and_input()
    before = x.detach().clone()
    gradients(layer, x, monkeypatch, is_fused=True)
    assert torch.equal(x, before)


def test_dropout_drops_in_training_only():
    layer, x = layer_and_input(dropout=0.5)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_gradients_are_right_through_dropout():
    layer, x = layer_and_input(dropout=0.4)

    def same_drops(x):
        torch.manual_seed(7)
        return layer(x)

    assert torch.autograd.gradcheck(same_drops, (x,))


def test_without_gradients_autograds_layer_runs(monkeypatch):
    layer, x = layer_and_input()
    with torch.no_grad():
        plain = layer(x)
    torch.testing.assert_close(layer(x), plain, rtol=0, atol=1e-11)
