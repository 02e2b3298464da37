"""Layers that several interaction nets are made of, and tables that do not train.

B batch, N embeddings in, S embeddings out, D embedding dimension.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from training.model.inputs import PretrainedInput


def mlp(widths: Sequence[int], *, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU between them, none after the last; weights scaled by true fan-in."""
    layers: list[nn.Module] = []
    pairs = list(itertools.pairwise(widths))
    for index, (fan_in, fan_out) in enumerate(pairs):
        linear = nn.Linear(fan_in, fan_out)
        is_last = index == len(pairs) - 1
        # He's gain where a ReLU halves the variance, none on the way out.
        nn.init.normal_(linear.weight, std=math.sqrt((1.0 if is_last else 2.0) / fan_in))
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if not is_last:
            layers += [nn.ReLU(inplace=True), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers)


def mix_tokens(
    x_BND: Float[Tensor, "B N D"], weight_NS: Float[Tensor, "N S"]
) -> Float[Tensor, "B D S"]:
    """Linear combinations of embeddings, transposed: (B, N, D) and (N, S) to XᵀW, (B, D, S).

    One product of (B·D, N) with (N, S); WᵀX instead would be B small ones, and its weight gradient
    a sum over B matrices.
    """
    batch, num_in, dim = x_BND.shape
    rows = x_BND.transpose(1, 2).reshape(batch * dim, num_in)
    return (rows @ weight_NS).view(batch, dim, weight_NS.shape[1])


def token_mixer(num_in: int, num_out: int) -> nn.Parameter:
    """A matrix (num_in, num_out) that mixes embeddings, scaled so that variance is kept."""
    return nn.Parameter(torch.randn(num_in, num_out) / math.sqrt(num_in))


class PretrainedTables(nn.Module):
    """Vectors from elsewhere that do not train; each bag is the mean of its vectors."""

    def __init__(self, inputs: Sequence[PretrainedInput]) -> None:
        super().__init__()
        self.names = [pretrained.name for pretrained in inputs]
        for pretrained in inputs:
            zeros = torch.zeros(pretrained.num_rows, pretrained.dim)
            self.register_buffer(pretrained.name, zeros)

    def forward(self, sparse: KeyedJaggedTensor) -> list[Float[Tensor, "B _"]]:
        """The pooled vectors of each input, (B, its dimension)."""
        jagged = sparse.to_dict() if self.names else {}
        return [
            nn.functional.embedding_bag(
                jagged[name].values(),
                self.get_buffer(name),
                jagged[name].offsets(),
                mode="mean",
                include_last_offset=True,
            )
            for name in self.names
        ]
