"""One Wukong layer's training step on a CPU, its backward pass written by hand.

It computes what ``WukongLayer`` states with autograd, static Y, in fewer passes over memory, which
is what a CPU lacks: one product mixes embeddings for Y, W_L and W_R together, both halves of the
concatenation are written in index, and the gradients that reach X from its readers are added up by
the products themselves. ``docs/performance.md`` has the difference.

Tensor names end in their shape, as in ``training.model.wukong``; S = K + L (+ G) columns that mix,
H the width of a hidden layer. A matrix of mixers is [Y | W_L | W_R], the last where shapes differ.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

aten = torch.ops.aten


class Sizes(NamedTuple):
    """Which columns belong to which mixer, and the constants of the layer."""

    rank: int
    """K."""
    num_linear: int
    """L."""
    num_fm: int
    """M."""
    eps: float
    """Of both norms."""
    dropout: float
    """Of the hidden activations, in this step."""


class FusedLayer(Function):
    """LN(concat(FMB(X), LCB(X)) + X) with the gradients of everything in it."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BND: Float[Tensor, "B N D"],
        mixers_NS: Float[Tensor, "N S"],
        sizes: Sizes,
        *parameters: Tensor,
    ) -> Float[Tensor, "B {sizes.num_fm}+{sizes.num_linear} D"]:
        """(B, N, D) to (B, G, D).

        Args:
            ctx: Keeps what the backward pass needs.
            x_BND: The layer's input.
            mixers_NS: The mixers.
            sizes: Which column is whose.
            parameters: Weight and bias of the norm in the block, of the layer's norm, then of each
                linear layer of the block's MLP.
        """
        k, linear, num_fm, eps, dropout = sizes
        inner_weight, inner_bias, weight, bias, *mlp = parameters
        batch, num_in, dim = x_BND.shape
        num_mixed = mixers_NS.shape[1]
        mixed_BSD = torch.bmm(mixers_NS.t().expand(batch, num_mixed, num_in), x_BND)
        fm_BP = torch.bmm(x_BND, mixed_BSD[:, :k].transpose(1, 2)).flatten(1)
        hidden, inner_mean, inner_rstd = aten.native_layer_norm(
            fm_BP, fm_BP.shape[1:], inner_weight, inner_bias, eps
        )
        activations = [hidden]
        for linear_weight, linear_bias in zip(mlp[:-2:2], mlp[1:-2:2], strict=True):
            hidden = torch.addmm(linear_bias, hidden, linear_weight.t()).relu_()
            if dropout:
                hidden = torch.dropout_(hidden, dropout, train=True)
            activations.append(hidden)
        residual_BGD = x_BND if num_mixed == k + linear else mixed_BSD[:, k + linear :]
        sum_BGD = torch.empty(batch, num_fm + linear, dim, dtype=x_BND.dtype)
        block_B = _rows(sum_BGD, num_fm)
        torch.add(_rows(residual_BGD, num_fm), mlp[-1], out=block_B)
        block_B.addmm_(hidden, mlp[-2].t())
        torch.add(residual_BGD[:, num_fm:], mixed_BSD[:, k : k + linear], out=sum_BGD[:, num_fm:])
        out_BGD, mean, rstd = aten.native_layer_norm(sum_BGD, [dim], weight, bias, eps)
        ctx.sizes = sizes
        ctx.num_parameters = len(parameters)
        ctx.save_for_backward(
            *(x_BND, mixers_NS, mixed_BSD, fm_BP, inner_mean, inner_rstd),
            *(sum_BGD, mean, rstd, *parameters, *activations),
        )
        return out_BGD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BGD: Float[Tensor, "B G D"]) -> tuple[Tensor | None, ...]:
        """Gradients in the order of the forward pass's arguments."""
        k, linear, num_fm, _, dropout = ctx.sizes
        x_BND, mixers_NS, mixed_BSD, fm_BP, inner_mean, inner_rstd, *rest = ctx.saved_tensors
        sum_BGD, mean, rstd, *rest = rest
        parameters, activations = rest[: ctx.num_parameters], rest[ctx.num_parameters :]
        inner_weight, inner_bias, weight, bias, *mlp = parameters
        batch, num_in, dim = x_BND.shape
        grad_sum_BGD, *grads_norm = aten.native_layer_norm_backward(
            grad_BGD.contiguous(), sum_BGD, [dim], mean, rstd, weight, bias, [True] * 3
        )
        grad_hidden, grads_mlp = _mlp_backward(
            _rows(grad_sum_BGD, num_fm), mlp[::2], activations, dropout
        )
        grad_fm_BP, *grads_inner = aten.native_layer_norm_backward(
            *(grad_hidden, fm_BP, fm_BP.shape[1:], inner_mean, inner_rstd),
            *(inner_weight, inner_bias, [True] * 3),
        )
        grad_fm_BNK = grad_fm_BP.view(batch, num_in, k)
        grads_mixed = [torch.bmm(grad_fm_BNK.transpose(1, 2), x_BND), grad_sum_BGD[:, num_fm:]]
        has_mixed_residual = mixers_NS.shape[1] > k + linear
        if has_mixed_residual:
            grads_mixed.append(grad_sum_BGD)
        grad_mixed_BSD = torch.cat(grads_mixed, dim=1)
        grad_mixers_NS = torch.bmm(x_BND, grad_mixed_BSD.transpose(1, 2)).sum(0)
        y_part_BKD = mixed_BSD[:, :k]
        if has_mixed_residual:
            grad_x_BND = torch.bmm(grad_fm_BNK, y_part_BKD)
        else:
            # The residual passes its gradient on; its old value is not read any more.
            grad_x_BND = grad_sum_BGD.baddbmm_(grad_fm_BNK, y_part_BKD)
        grad_x_BND.baddbmm_(mixers_NS.expand(batch, *mixers_NS.shape), grad_mixed_BSD)
        return grad_x_BND, grad_mixers_NS, None, *grads_inner, *grads_norm, *grads_mlp


def _rows(x_BGD: Float[Tensor, "B G D"], count: int) -> Float[Tensor, "B {count}*D"]:
    """The first ``count`` embeddings of each example as one row of a matrix, without a copy."""
    batch, _, dim = x_BGD.shape
    return x_BGD.as_strided((batch, count * dim), (x_BGD.stride(0), 1), x_BGD.storage_offset())


def _mlp_backward(
    grad: Tensor, weights: Sequence[Tensor], activations: Sequence[Tensor], dropout: float
) -> tuple[Tensor, list[Tensor]]:
    """The gradient of the MLP's input, and of the weight and bias of each of its layers."""
    grads: list[Tensor] = []
    for index in reversed(range(len(weights))):
        grads = [grad.t() @ activations[index], grad.sum(0), *grads]
        grad = grad @ weights[index]
        if index:
            # A dropped activation is 0, as one that ReLU cut: neither hands a gradient on.
            aten.threshold_backward.grad_input(grad, activations[index], 0, grad_input=grad)
            if dropout:
                grad /= 1 - dropout
    return grad, grads
