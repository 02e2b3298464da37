"""Wukong's interaction stack (https://arxiv.org/abs/2403.02545, section 3).

Tensor names end in their logical shape. B batch, N embeddings in, M embeddings of the factorization
machine block (the paper's n_F), L of the linear compression block (n_L), G = M + L embeddings out,
D embedding dimension, K rank, C compressed tokens, P = N·K entries of the factorization machine.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.config.model import Ablation, LayerConfig, WukongConfig
from training.model.layers import mix_tokens, mlp, to_logit, token_mixer
from training.model.wukong_fused import FusedLayer, Sizes


class GroupedLayerNorm(nn.Module):
    """LayerNorm over the flattened (N, K) output of a factorization machine, by growth group.

    One group is the paper's LayerNorm. A model that grew has one more group for each growth step,
    so that new entries leave the statistics of the old ones, and the function, as they were.

    Args:
        rows: N.
        columns: K.
        groups: At each growth step the first rows that were there, the rows after N's first part,
            which begins where the last step's first rows end, and the columns; (): one group.
        eps: Added to the variance.
    """

    def __init__(
        self, rows: int, columns: int, *, groups: Sequence[tuple[int, int, int]] = (), eps: float
    ) -> None:
        super().__init__()
        steps = tuple(groups) or ((rows, 0, columns),)
        first, second, last_columns = steps[-1]
        if (first + second, last_columns) != (rows, columns):
            raise ValueError(
                f"groups: the last is {steps[-1]}; expected {rows} rows, {columns} columns"
            )
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(rows * columns))
        self.bias = nn.Parameter(torch.zeros(rows * columns))
        group = torch.full((rows, columns), -1)
        for number, (head, tail, k) in reversed(list(enumerate(steps))):
            group[:head, :k] = number
            group[first : first + tail, :k] = number
        self.num_groups = len(steps)
        for number in range(self.num_groups):
            positions = (group.flatten() == number).nonzero().flatten()
            self.register_buffer(f"positions_{number}", positions, persistent=False)

    def forward(self, fm_BP: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """(B, N·K) to (B, N·K)."""
        if self.num_groups == 1:
            return nn.functional.layer_norm(
                fm_BP, fm_BP.shape[-1:], self.weight, self.bias, self.eps
            )
        # Under autocast the machine gives bf16; norms are float32, as autocast has them on CUDA.
        fm_BP = fm_BP.to(self.weight.dtype)
        normal_BP = torch.empty_like(fm_BP)
        for number in range(self.num_groups):
            positions = getattr(self, f"positions_{number}")
            part = fm_BP[:, positions]
            normal_BP[:, positions] = nn.functional.layer_norm(part, part.shape[-1:], eps=self.eps)
        return normal_BP * self.weight + self.bias


class FactorizationMachine(nn.Module):
    """All pairs of embeddings, compressed: X(XᵀY), or the plain XXᵀ with rank 0 (section 3.3, 3.6).

    Y is a learnt matrix, or made from the input (attentive): Y(X) = MLP(flatten(W_C X)).
    """

    def __init__(self, num_in: int, dim: int, config: LayerConfig) -> None:
        super().__init__()
        self.columns = config.rank or num_in
        self.is_plain = config.rank == 0
        self.num_in = num_in
        self.attention: nn.Sequential | None = None
        if self.is_plain:
            return
        if config.attention:
            compressed, *hidden = config.attention
            self.compression = token_mixer(num_in, compressed)
            self.attention = mlp((compressed * dim, *hidden, num_in * config.rank))
        else:
            self.projection = token_mixer(num_in, config.rank)

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B N*{self.columns}"]:
        """(B, N, D) to the flattened (B, N·K)."""
        if self.is_plain:
            return (x_BND @ x_BND.transpose(1, 2)).flatten(1)
        if self.attention is None:
            xy_BDK = mix_tokens(x_BND, self.projection)
        else:
            compressed_BCD = mix_tokens(x_BND, self.compression).transpose(1, 2)
            y_BNK = self.attention(compressed_BCD.flatten(1)).view(-1, self.num_in, self.columns)
            xy_BDK = x_BND.transpose(1, 2) @ y_BNK
        return (x_BND @ xy_BDK).flatten(1)


class FactorizationMachineBlock(nn.Module):
    """FMB(X) = reshape(MLP(LN(flatten(FM(X))))) (section 3.4)."""

    def __init__(
        self, num_in: int, dim: int, config: LayerConfig, *, eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.num_out = config.num_fm
        self.dim = dim
        self.interaction = FactorizationMachine(num_in, dim, config)
        columns = self.interaction.columns
        self.norm = GroupedLayerNorm(num_in, columns, groups=config.norm_groups, eps=eps)
        widths = (num_in * columns, *config.mlp, config.num_fm * dim)
        self.mlp = mlp(widths, dropout=dropout)

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B {self.num_out} D"]:
        """(B, N, D) to (B, M, D)."""
        flat = self.mlp(self.norm(self.interaction(x_BND)))
        return flat.view(-1, self.num_out, self.dim)


class WukongLayer(nn.Module):
    """X' = LN(concat(FMB(X), LCB(X)) + X), the residual compressed where shapes differ (3.2, 3.5).

    Example:
        >>> config = LayerConfig(num_fm=4, num_linear=4, rank=4, mlp=(16,))
        >>> WukongLayer(10, 8, config, eps=1e-5)(torch.zeros(2, 10, 8)).shape
        torch.Size([2, 8, 8])
    """

    def __init__(
        self,
        num_in: int,
        dim: int,
        config: LayerConfig,
        *,
        eps: float,
        dropout: float = 0.0,
        zeroed: Sequence[Ablation] = (),
    ) -> None:
        super().__init__()
        num_out = config.num_fm + config.num_linear
        self.fmb = FactorizationMachineBlock(num_in, dim, config, eps=eps, dropout=dropout)
        self.linear_compression = token_mixer(num_in, config.num_linear)
        self.residual = token_mixer(num_in, num_out) if num_in != num_out else None
        self.norm = nn.LayerNorm(dim, eps=eps) if config.is_normalised else nn.Identity()
        self.zeroed = frozenset(zeroed)
        self.dropout = dropout
        self.eps = eps

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B G D"]:
        """(B, N, D) to (B, G, D)."""
        if self._is_fused(x_BND):
            return self._fused(x_BND)
        # No gradient is wanted, compiled or not.
        if not torch.is_grad_enabled() and self._has_one_product(x_BND):
            return self._answer(x_BND)
        fmb_BMD = self._unless_zeroed(Ablation.FMB, self.fmb(x_BND))
        linear_BLD, residual_BGD = self._mixed(x_BND)
        linear_BLD = self._unless_zeroed(Ablation.LCB, linear_BLD)
        residual_BGD = self._unless_zeroed(Ablation.RESIDUAL, residual_BGD)
        return self.norm(torch.cat([fmb_BMD, linear_BLD], dim=1) + residual_BGD)

    def _is_fused(self, x_BND: Tensor) -> bool:
        """Whether the hand-written training step applies: to the paper's layer, on a CPU."""
        return (
            torch.is_grad_enabled()
            and self._has_one_product(x_BND)
            and not torch.compiler.is_compiling()
            and isinstance(self.norm, nn.LayerNorm)
            and self.fmb.norm.num_groups == 1
        )

    def _has_one_product(self, x_BND: Tensor) -> bool:
        """Whether one float32 product on a CPU may mix for Y, W_L and W_R together."""
        return (
            x_BND.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and not self.zeroed
            and not self.fmb.interaction.is_plain
            and self.fmb.interaction.attention is None
        )

    def _answer(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B G D"]:
        """What ``forward`` states, in fewer passes over memory: WᵀX, so nothing is transposed."""
        k, num_linear = self.fmb.interaction.columns, self.linear_compression.shape[1]
        mixed_BSD = torch.matmul(self._mixers().t(), x_BND)
        fm_BP = torch.bmm(x_BND, mixed_BSD[:, :k].transpose(1, 2)).flatten(1)
        fmb_BMD = self.fmb.mlp(self.fmb.norm(fm_BP)).view(-1, self.fmb.num_out, self.fmb.dim)
        residual_BGD = x_BND if self.residual is None else mixed_BSD[:, k + num_linear :]
        linear_BLD = mixed_BSD[:, k : k + num_linear]
        return self.norm(torch.cat([fmb_BMD, linear_BLD], dim=1) + residual_BGD)

    def _mixers(self) -> Float[Tensor, "N S"]:
        """[Y | W_L | W_R], the last where shapes differ: (N, S)."""
        mixers: list[Tensor] = [self.fmb.interaction.projection, self.linear_compression]
        if self.residual is not None:
            mixers.append(self.residual)
        return torch.cat(mixers, dim=1)

    def _fused(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B G D"]:
        sizes = Sizes(
            rank=self.fmb.interaction.columns,
            num_linear=self.linear_compression.shape[1],
            num_fm=self.fmb.num_out,
            eps=self.eps,
            dropout=self.dropout if self.training else 0.0,
        )
        linear = [layer for layer in self.fmb.mlp if isinstance(layer, nn.Linear)]
        norms = (self.fmb.norm, self.norm)
        parameters = [value for part in (*norms, *linear) for value in (part.weight, part.bias)]
        inputs = (x_BND.contiguous(), self._mixers(), sizes, *parameters)
        return FusedLayer.apply(*inputs)  # type: ignore[no-untyped-call]

    def _mixed(
        self, x_BND: Float[Tensor, "B N D"]
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B G D"]]:
        """The linear compression (B, L, D) and the residual (B, G, D)."""
        if self.residual is None:
            return mix_tokens(x_BND, self.linear_compression).transpose(1, 2), x_BND
        weights = torch.cat([self.linear_compression, self.residual], dim=1)
        mixed_BSD = mix_tokens(x_BND, weights).transpose(1, 2)
        sizes = [self.linear_compression.shape[1], self.residual.shape[1]]
        linear_BLD, residual_BGD = mixed_BSD.split(sizes, dim=1)
        return linear_BLD, residual_BGD

    def _unless_zeroed(self, part: Ablation, output: Tensor) -> Tensor:
        return torch.zeros_like(output) if part in self.zeroed else output


class Wukong(nn.Module):
    """The stack and its head, and in training the auxiliary one where the configuration has it.

    Args:
        num_in: N, embeddings that enter.
        dim: D.
        config: The stack.
        dropout: Of every hidden activation.
    """

    def __init__(
        self, num_in: int, dim: int, config: WukongConfig, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        layers = []
        for layer in config.layers:
            layers.append(
                WukongLayer(
                    *(num_in, dim, layer),
                    eps=config.layer_norm_eps,
                    dropout=dropout,
                    zeroed=config.zeroed,
                )
            )
            num_in = layer.num_fm + layer.num_linear
        self.layers = nn.Sequential(*layers)
        self.residual_interval = config.residual_interval
        self.auxiliary_layer = config.auxiliary_layer
        self.auxiliary: nn.Sequential | None = None
        if self.auxiliary_layer is not None:
            middle = config.layers[self.auxiliary_layer]
            self.auxiliary = to_logit(((middle.num_fm + middle.num_linear) * dim,))
        self.head = to_logit((num_in * dim, *config.head), dropout=dropout)

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "... B"]:
        """(B, N, D) to (B,); in training with an auxiliary logit to (2, B), that one second."""
        every = self.residual_interval
        middle_BGD = below_BGD = x_BND
        for number, layer in enumerate(self.layers):
            x_BND = layer(x_BND)
            if every and (number + 1) % every == 0:
                # Outside of the norm: from here down there is a way without one.
                below_BGD = x_BND = x_BND if number < every else x_BND + below_BGD
            if number == self.auxiliary_layer:
                middle_BGD = x_BND
        logits_B = self.head(x_BND.flatten(1)).squeeze(-1)
        if self.auxiliary is None or not self.training:
            return logits_B
        return torch.stack([logits_B, self.auxiliary(middle_BGD.flatten(1)).squeeze(-1)])
