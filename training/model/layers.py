"""Layers that rankers are made of, and tables that do not train.

B batch, N embeddings in, S embeddings out, D embedding dimension.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from features.schema import Kind
from training.model.inputs import PretrainedInput

_TOKEN_MIXERS = frozenset({"projection", "linear_compression", "residual", "compression"})
"""Names of the parameters that ``token_mixer`` makes."""


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


def to_logit(widths: Sequence[int], *, dropout: float = 0.0) -> nn.Sequential:
    """An MLP to one logit."""
    return mlp((*widths, 1), dropout=dropout)


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay holds for a parameter: not for norms, biases and token mixers.

    Scales of norms begin at 1, and a mixer at what keeps the variance of the embeddings that it
    adds up: zero is nothing that either should return to.

    Args:
        name: As the module that holds it has it.
        parameter: The parameter; a share of it under FSDP2 has the dimensions of the whole.
    """
    *owners, last = name.split(".")
    is_bias = "bias" in {*owners[-1:], last}
    return parameter.ndim > 1 and not is_bias and last not in _TOKEN_MIXERS


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


class DenseNormaliser(nn.Module):
    """log(1 + x) of long-tailed numbers and log odds of rates, then (x - mean) / deviation.

    Missing numbers, which are NaN, become 0, the mean. Infinite ones stay infinite: where examples
    are encoded they are refused, and no score that is made of one can be taken for a good one.

    Mean and deviation are buffers, measured once on the first training days and kept from then on:
    to move them later would change what the weights behind them mean.
    """

    mean: Tensor
    deviation: Tensor
    is_log: Tensor
    is_rate: Tensor

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        super().__init__()
        size = len(kinds)
        is_log = torch.tensor([kind in {Kind.COUNT, Kind.AGE} for kind in kinds])
        is_rate = torch.tensor([kind is Kind.RATE for kind in kinds])
        self.register_buffer("is_log", is_log, persistent=False)
        self.register_buffer("is_rate", is_rate, persistent=False)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def forward(self, dense: Float[Tensor, "B inputs"]) -> Float[Tensor, "B inputs"]:
        """(B, inputs) raw to (B, inputs) normalised."""
        scaled = (self._scaled(dense) - self.mean) / self.deviation
        return torch.nan_to_num(scaled, nan=0.0, posinf=math.inf, neginf=-math.inf)

    @torch.no_grad()
    def fit(self, dense: Float[Tensor, "rows inputs"]) -> None:
        """Measure mean and deviation on (rows, inputs) raw numbers."""
        scaled = self._scaled(dense.double())
        mean = torch.nan_to_num(scaled.nanmean(dim=0), nan=0.0)
        deviation = torch.nan_to_num((scaled - mean).square().nanmean(dim=0), nan=0.0).sqrt()
        self.mean.copy_(mean)
        # A constant input, such as an indicator that was never set, is passed on unscaled.
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def _scaled(self, dense: Tensor) -> Tensor:
        logs = torch.where(self.is_log, torch.log1p(dense.clamp(min=0)), dense)
        return torch.where(self.is_rate, torch.logit(dense, eps=1e-6), logs)


class FirstOrder(nn.Module):
    """The linear term of a factorization machine, with a vector for each field (arXiv 1806.03514).

    An id's own weight is the product of its embedding with its feature's vector, so that no further
    tables are needed; a number has a weight as it is. All begin at zero.

    Args:
        num_embeddings: Embeddings that are read.
        dim: Their dimension.
        num_dense: Dense inputs; 0: none.
    """

    def __init__(self, num_embeddings: int, dim: int, num_dense: int) -> None:
        super().__init__()
        self.embeddings = nn.Linear(num_embeddings * dim, 1, bias=False)
        nn.init.zeros_(self.embeddings.weight)
        self.dense = nn.Linear(num_dense, 1, bias=False) if num_dense else None
        if self.dense is not None:
            nn.init.zeros_(self.dense.weight)

    def forward(
        self, x_BND: Float[Tensor, "B N D"], dense: Float[Tensor, "B inputs"]
    ) -> Float[Tensor, "B"]:
        """Embeddings (B, N, D) and normalised numbers (B, inputs) to their term, (B,)."""
        term_B1: Tensor = self.embeddings(x_BND.flatten(1))
        if self.dense is not None:
            term_B1 = term_B1 + self.dense(dense)
        return term_B1.squeeze(-1)


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
