"""What a ranker is made of: frozen values, checked when they are made.

How it is trained is in ``training.config.recipe``.
"""

import dataclasses
import enum
import math
from typing import Annotated, Literal, get_args

import pydantic


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """One Wukong layer: n_F and n_L embeddings out, rank k of its factorization machine."""

    num_fm: int
    """n_F: embeddings from the factorization machine block."""
    num_linear: int
    """n_L: embeddings from the linear compression block."""
    rank: int
    """k: columns of Y in X(XᵀY); 0: the plain XXᵀ."""
    mlp: tuple[int, ...]
    """Hidden widths of the block's MLP."""
    attention: tuple[int, ...] = ()
    """Compressed tokens, then hidden widths, of the MLP that makes Y; (): static Y."""
    norm_groups: tuple[tuple[int, int, int], ...] = ()
    """Growth groups of the block's LayerNorm: embeddings from the block and from the linear
    compression below, and rank, at each growth step, the present ones last; (): one group, as in
    the paper."""
    is_normalised: bool = True
    """Whether the layer ends in its LayerNorm, as in the paper; False: the stack grew deeper, and
    the layer above took the norm over."""

    def __post_init__(self) -> None:
        """Refuse sizes that make no layer."""
        for name in ("num_fm", "num_linear"):
            check_positive(name, getattr(self, name))
        if self.rank < 0:
            raise ValueError(f"rank: {self.rank}; at least 0")
        for width in (*self.mlp, *self.attention):
            check_positive("width", width)


class Ablation(enum.StrEnum):
    """Parts of a Wukong layer whose output can be zeroed, to see what they are worth."""

    FMB = "fmb"
    LCB = "lcb"
    RESIDUAL = "residual"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WukongConfig:
    """The Wukong stack and its head (https://arxiv.org/abs/2403.02545)."""

    kind: Literal["wukong"] = "wukong"
    layers: tuple[LayerConfig, ...]
    """From the input up; they may differ (a pyramid)."""
    head: tuple[int, ...]
    """Hidden widths of the MLP from the last layer to the logit."""
    layer_norm_eps: float = 1e-5
    """Far below the variance of the first factorization machine's output at this embedding_std;
    above that variance it would shrink what LayerNorm returns, and the block would start dead."""
    zeroed: tuple[Ablation, ...] = ()
    """Parts that give zero in every layer; for ablations only."""
    residual_interval: int = 0
    """Every so many layers the output gets that of so many layers below added, behind the norm (the
    inter-layer residual of arXiv 2602.06563); 0: never, as in the paper."""
    auxiliary_loss_weight: float = 0.0
    """Of the loss of a second logit, a linear one of the middle layer's output, in training alone;
    0: there is none."""

    def __post_init__(self) -> None:
        """Refuse a stack without layers, and residuals between layers of other embeddings."""
        if not self.layers:
            raise ValueError("layers: none; at least one")
        if self.residual_interval < 0:
            raise ValueError(f"residual_interval: {self.residual_interval}; at least 0")
        if not 0 <= self.auxiliary_loss_weight < math.inf:
            raise ValueError(
                f"auxiliary_loss_weight: {self.auxiliary_loss_weight}; a finite number, at least 0"
            )
        for upper in self.residual_layers:
            lower = upper - self.residual_interval
            sizes = [(self.layers[n].num_fm, self.layers[n].num_linear) for n in (lower, upper)]
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"residual_interval: {self.residual_interval}; num_fm and num_linear of layers "
                    f"{lower} and {upper} are {sizes[0]} and {sizes[1]}, must be equal"
                )

    @property
    def residual_layers(self) -> tuple[int, ...]:
        """Layers whose output gets an earlier one added, by number from 0."""
        every = self.residual_interval
        return tuple(range(2 * every - 1, len(self.layers), every)) if every else ()

    @property
    def auxiliary_layer(self) -> int | None:
        """The layer whose output the auxiliary logit reads; None: no such loss, or one layer."""
        is_there = self.auxiliary_loss_weight and len(self.layers) > 1
        return len(self.layers) // 2 - 1 if is_there else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DLRMConfig:
    """Dot products of all pairs, then an MLP (https://arxiv.org/abs/1906.00091)."""

    kind: Literal["dlrm"] = "dlrm"
    over_arch: tuple[int, ...]
    """Hidden widths of the MLP over the interactions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DCNv2Config:
    """Cross layers, then an MLP on top of them (https://arxiv.org/abs/2008.13535)."""

    kind: Literal["dcnv2"] = "dcnv2"
    num_cross: int
    rank: int = 0
    """Of the cross layers' weights; 0: full."""
    mlp: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoIntConfig:
    """AutoInt+: self-attention over the embeddings beside an MLP (arXiv 1810.11921)."""

    kind: Literal["autoint"] = "autoint"
    num_attention: int
    attention_dim: int
    num_heads: int
    mlp: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse heads that do not share the attention's width evenly."""
        if self.attention_dim % self.num_heads:
            raise ValueError(
                f"num_heads: {self.num_heads}; a divisor of attention_dim {self.attention_dim}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinalMLPConfig:
    """Two MLP streams with gated inputs, fused bilinearly by heads (arXiv 2304.00902)."""

    kind: Literal["finalmlp"] = "finalmlp"
    first: tuple[int, ...]
    """Widths of the first stream, its output last."""
    second: tuple[int, ...]
    num_heads: int = 1
    gate: tuple[int, ...] = ()
    """Hidden widths of the feature gates; (): no gates."""

    def __post_init__(self) -> None:
        """Refuse heads that do not share both outputs evenly."""
        for name in ("first", "second"):
            width = getattr(self, name)[-1]
            if width % self.num_heads:
                raise ValueError(f"num_heads: {self.num_heads}; a divisor of {name}[-1] {width}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskNetConfig:
    """Blocks that multiply their input with a mask made from the instance (arXiv 2102.07619)."""

    kind: Literal["masknet"] = "masknet"
    num_blocks: int
    block_dim: int
    reduction: float = 1.0
    """Width of a mask's hidden layer as a multiple of the flattened embeddings."""
    is_parallel: bool = True
    mlp: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class XDeepFMConfig:
    """Compressed interaction network beside an MLP and a linear part (arXiv 1803.05170)."""

    kind: Literal["xdeepfm"] = "xdeepfm"
    cin: tuple[int, ...]
    """Feature maps of each layer."""
    mlp: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AFNConfig:
    """AFN+: products of learnt powers beside an MLP (https://arxiv.org/abs/1909.03276)."""

    kind: Literal["afn"] = "afn"
    num_log_neurons: int
    afn_mlp: tuple[int, ...]
    mlp: tuple[int, ...]


InteractionConfig = (
    WukongConfig
    | DLRMConfig
    | DCNv2Config
    | AutoIntConfig
    | FinalMLPConfig
    | MaskNetConfig
    | XDeepFMConfig
    | AFNConfig
)
MODELS: tuple[str, ...] = tuple(config.kind for config in get_args(InteractionConfig))
"""The kinds of all rankers, Wukong first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingGroup:
    """Unimportant features with small tables, mapped together to full embeddings (Wukong, 3.2)."""

    features: tuple[str, ...]
    dim: int
    """Dimension of each one's own table."""
    num_tokens: int = 1
    """Embeddings that the whole group becomes."""
    mlp: tuple[int, ...] = ()
    """Hidden widths of the MLP that maps them."""

    def __post_init__(self) -> None:
        """Refuse sizes that make no group."""
        for name in ("dim", "num_tokens"):
            check_positive(name, getattr(self, name))
        if not self.features:
            raise ValueError("features: none; at least one")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The whole ranker: embeddings, dense tower, and what interacts them."""

    embedding_dim: int
    """d, of every embedding that enters the interaction."""
    interaction: Annotated[InteractionConfig, pydantic.Field(discriminator="kind")]
    bottom_mlp: tuple[int, ...]
    """Hidden widths of the MLP that turns the dense inputs into embeddings."""
    num_dense_tokens: int = 1
    """Embeddings that the dense inputs become."""
    significant: tuple[tuple[str, int], ...] = ()
    """Significant features, each with the number of embeddings that it has instead of one."""
    groups: tuple[EmbeddingGroup, ...] = ()
    embedding_std: float = 0.05
    dropout: float = 0.0
    has_first_order: bool = False
    """Whether a linear term of embeddings and numbers is added to the logit; it does not grow."""

    def __post_init__(self) -> None:
        """Refuse sizes that make no model, and features that are named twice."""
        check_positive("embedding_dim", self.embedding_dim)
        check_positive("num_dense_tokens", self.num_dense_tokens)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: {self.dropout}; at least 0 and below 1")
        for name, count in self.significant:
            check_positive(f"significant {name}", count)
        named = [name for name, _ in self.significant]
        named += [name for group in self.groups for name in group.features]
        if twice := {name for name in named if named.count(name) > 1}:
            raise ValueError(f"features {sorted(twice)}: in two groups; at most in one")

    def served(self) -> "ModelConfig":
        """The same without what only training needs."""
        if not isinstance(self.interaction, WukongConfig):
            return self
        stack = dataclasses.replace(self.interaction, auxiliary_loss_weight=0.0)
        return dataclasses.replace(self, interaction=stack)


def model_from_dict(values: object) -> ModelConfig:
    """A model configuration from the plain values of a manifest; ValueError names what is wrong."""
    return pydantic.TypeAdapter(ModelConfig).validate_python(values)


def check_positive(name: str, value: int) -> None:
    """Refuse a number below 1; ValueError names it."""
    if value < 1:
        raise ValueError(f"{name}: {value}; at least 1")
