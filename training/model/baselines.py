"""The rankers that Wukong is compared with; each maps embeddings (B, N, D) to logits (B,).

DLRM and DCNv2 are made of TorchRec's own modules. The others follow their papers; where one needs
statistics of a batch (AFN), LayerNorm takes the place of BatchNorm, since the ranks of a sharded
run see different batches. AFN+ reads one set of embeddings, not a second one for its MLP.

B batch, N embeddings, D embedding dimension, H heads, K log neurons.
"""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchrec.models.dlrm import InteractionArch as DotInteraction
from torchrec.models.dlrm import OverArch
from torchrec.modules.crossnet import CrossNet, LowRankCrossNet

from training.config.model import (
    AFNConfig,
    AutoIntConfig,
    DCNv2Config,
    DLRMConfig,
    FinalMLPConfig,
    MaskNetConfig,
    XDeepFMConfig,
)
from training.model.layers import mlp, to_logit

_SMALLEST_MAGNITUDE = 1e-5
"""Below it a logarithm says more about rounding than about the embedding."""


class DLRM(nn.Module):
    """Dot products of all pairs beside the last embedding, then an MLP.

    The last embedding is the dense inputs', or another one's where there are none.
    """

    def __init__(self, num_in: int, dim: int, config: DLRMConfig, *, dropout: float) -> None:
        super().__init__()
        if dropout:
            raise ValueError(f"dropout: {dropout}; 0, TorchRec's OverArch has none")
        self.interaction = DotInteraction(num_sparse_features=num_in - 1)
        width = dim + num_in * (num_in - 1) // 2
        self.over_arch = OverArch(width, [*config.over_arch, 1])

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B"]:
        """(B, N, D) to (B,)."""
        pairs = self.interaction(x_BND[:, -1], x_BND[:, :-1])
        return self.over_arch(pairs).squeeze(-1)


class DCNv2(nn.Module):
    """Cross layers on the flattened embeddings, an MLP stacked on them."""

    def __init__(self, num_in: int, dim: int, config: DCNv2Config, *, dropout: float) -> None:
        super().__init__()
        width = num_in * dim
        self.cross = (
            LowRankCrossNet(width, config.num_cross, config.rank)
            if config.rank
            else CrossNet(width, config.num_cross)
        )
        self.mlp = to_logit((width, *config.mlp), dropout=dropout)

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B"]:
        """(B, N, D) to (B,)."""
        return self.mlp(self.cross(x_BND.flatten(1))).squeeze(-1)


class _SelfAttention(nn.Module):
    """Multi-head attention over embeddings with a projected residual, as AutoInt has it."""

    def __init__(self, dim_in: int, dim_out: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.residual = (
            nn.Linear(dim_in, dim_out, bias=False) for _ in range(4)
        )

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B N _"]:
        """(B, N, D) to (B, N, D')."""

        def heads(x_BNE: Tensor) -> Tensor:
            return x_BNE.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        query, key, value = (heads(m(x_BND)) for m in (self.query, self.key, self.value))
        scores_BHNN = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        mixed_BHNE = torch.softmax(scores_BHNN, dim=-1) @ value
        return torch.relu(mixed_BHNE.transpose(1, 2).flatten(2) + self.residual(x_BND))


class AutoInt(nn.Module):
    """Self-attention layers and an MLP side by side; their logits are added."""

    def __init__(self, num_in: int, dim: int, config: AutoIntConfig, *, dropout: float) -> None:
        super().__init__()
        dims = [dim, *[config.attention_dim] * config.num_attention]
        pairs = itertools.pairwise(dims)
        self.attention = nn.Sequential(*(_SelfAttention(*pair, config.num_heads) for pair in pairs))
        self.out = to_logit((num_in * config.attention_dim,))
        self.mlp = to_logit((num_in * dim, *config.mlp), dropout=dropout)

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B"]:
        """(B, N, D) to (B,)."""
        attended = self.out(self.attention(x_BND).flatten(1))
        return (attended + self.mlp(x_BND.flatten(1))).squeeze(-1)


class _FeatureGate(nn.Module):
    """Weights in (0, 2) for every input, made from one learnt vector."""

    def __init__(self, width: int, dim: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.context = nn.Parameter(torch.randn(dim))
        self.mlp = mlp((dim, *hidden, width))

    def forward(self, flat: Float[Tensor, "B width"]) -> Float[Tensor, "B width"]:
        """(B, N·D) to (B, N·D)."""
        return flat * 2 * torch.sigmoid(self.mlp(self.context))


class FinalMLP(nn.Module):
    """Two MLP streams over gated inputs, fused by a bilinear form in each head."""

    def __init__(self, num_in: int, dim: int, config: FinalMLPConfig, *, dropout: float) -> None:
        super().__init__()
        width = num_in * dim

        def gate() -> nn.Module:
            return _FeatureGate(width, dim, config.gate) if config.gate else nn.Identity()

        def stream(widths: tuple[int, ...]) -> nn.Sequential:
            return nn.Sequential(gate(), mlp((width, *widths), dropout=dropout), nn.ReLU())

        self.first, self.second = stream(config.first), stream(config.second)
        self.num_heads = config.num_heads
        parts = config.first[-1] // config.num_heads, config.second[-1] // config.num_heads
        self.linear_first = to_logit((config.first[-1],))
        self.linear_second = to_logit((config.second[-1],))
        scale = (parts[0] * parts[1]) ** -0.5
        self.bilinear = nn.Parameter(torch.randn(config.num_heads, *parts) * scale)

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B"]:
        """(B, N, D) to (B,)."""
        flat = x_BND.flatten(1)
        first, second = self.first(flat), self.second(flat)
        linear = (self.linear_first(first) + self.linear_second(second)).squeeze(-1)
        first_HBE = first.unflatten(1, (self.num_heads, -1)).transpose(0, 1)
        second_HBE = second.unflatten(1, (self.num_heads, -1)).transpose(0, 1)
        return linear + ((first_HBE @ self.bilinear) * second_HBE).sum(dim=(0, 2))


class _MaskBlock(nn.Module):
    """Multiplies its input with a mask made from the instance, then maps it."""

    def __init__(self, width: int, num_in: int, config: MaskNetConfig) -> None:
        super().__init__()
        hidden = max(1, int(width * config.reduction))
        self.mask = mlp((width, hidden, num_in))
        self.out = nn.Linear(num_in, config.block_dim, bias=False)
        self.norm = nn.LayerNorm(config.block_dim)

    def forward(
        self, instance: Float[Tensor, "B width"], hidden: Float[Tensor, "B hidden"]
    ) -> Float[Tensor, "B block_dim"]:
        """The flattened embeddings (B, N·D) and the input (B, in) to (B, block_dim)."""
        return torch.relu(self.norm(self.out(hidden * self.mask(instance))))


class MaskNet(nn.Module):
    """Mask blocks side by side over the normalised embeddings, or one on top of the other."""

    def __init__(self, num_in: int, dim: int, config: MaskNetConfig, *, dropout: float) -> None:
        super().__init__()
        width = num_in * dim
        self.is_parallel = config.is_parallel
        self.norm = nn.LayerNorm(dim)
        later = width if config.is_parallel else config.block_dim
        sizes = [width, *[later] * (config.num_blocks - 1)]
        self.blocks = nn.ModuleList(_MaskBlock(width, size, config) for size in sizes)
        out = config.block_dim * (config.num_blocks if config.is_parallel else 1)
        self.mlp = to_logit((out, *config.mlp), dropout=dropout)

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B"]:
        """(B, N, D) to (B,)."""
        instance, hidden = x_BND.flatten(1), self.norm(x_BND).flatten(1)
        if self.is_parallel:
            hidden = torch.cat([block(instance, hidden) for block in self.blocks], dim=1)
        else:
            for block in self.blocks:
                hidden = block(instance, hidden)
        return self.mlp(hidden).squeeze(-1)


class XDeepFM(nn.Module):
    """A compressed interaction network, an MLP and a linear part over the same embeddings."""

    def __init__(self, num_in: int, dim: int, config: XDeepFMConfig, *, dropout: float) -> None:
        super().__init__()
        maps = [num_in, *config.cin]
        self.cin = nn.ModuleList(
            nn.Linear(before * num_in, after)
            for before, after in zip(maps, config.cin, strict=False)
        )
        self.out = to_logit((sum(config.cin),))
        self.mlp = to_logit((num_in * dim, *config.mlp), dropout=dropout)
        self.linear = to_logit((num_in * dim,))

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B"]:
        """(B, N, D) to (B,)."""
        pooled, hidden_BMD = [], x_BND
        for layer in self.cin:
            products = torch.einsum("bmd,bnd->bdmn", hidden_BMD, x_BND).flatten(2)
            hidden_BMD = torch.relu(layer(products)).transpose(1, 2)
            pooled.append(hidden_BMD.sum(dim=2))
        flat = x_BND.flatten(1)
        logit = self.out(torch.cat(pooled, dim=1)) + self.mlp(flat) + self.linear(flat)
        return logit.squeeze(-1)


class AFN(nn.Module):
    """Products of learnt powers of the embeddings, through an MLP, beside a plain MLP."""

    def __init__(self, num_in: int, dim: int, config: AFNConfig, *, dropout: float) -> None:
        super().__init__()
        self.log_norm = nn.LayerNorm(num_in)
        self.powers = nn.Linear(num_in, config.num_log_neurons)
        self.power_norm = nn.LayerNorm(config.num_log_neurons)
        width = config.num_log_neurons * dim
        self.afn_mlp = to_logit((width, *config.afn_mlp), dropout=dropout)
        self.mlp = to_logit((num_in * dim, *config.mlp), dropout=dropout)

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B"]:
        """(B, N, D) to (B,)."""
        logs_BDN = x_BND.transpose(1, 2).abs().clamp(min=_SMALLEST_MAGNITUDE).log()
        products_BDK = torch.exp(self.powers(self.log_norm(logs_BDN)))
        afn = self.afn_mlp(self.power_norm(products_BDK).flatten(1))
        return (afn + self.mlp(x_BND.flatten(1))).squeeze(-1)
