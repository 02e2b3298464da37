"""What a ranker is made of and how it is trained: frozen values, checked when they are made.

Configurations live here, recipes (named complete configurations) in ``training.recipes``.
"""

import dataclasses
import enum
import hashlib
import json
import math
from typing import Annotated, Any, Literal

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
            _positive(name, getattr(self, name))
        if self.rank < 0:
            raise ValueError(f"rank: {self.rank}; at least 0")
        for width in (*self.mlp, *self.attention):
            _positive("width", width)


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

    def __post_init__(self) -> None:
        """Refuse a stack without layers."""
        if not self.layers:
            raise ValueError("layers: none; at least one")


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
            _positive(name, getattr(self, name))
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

    def __post_init__(self) -> None:
        """Refuse sizes that make no model, and features that are named twice."""
        _positive("embedding_dim", self.embedding_dim)
        _positive("num_dense_tokens", self.num_dense_tokens)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: {self.dropout}; at least 0 and below 1")
        for name, count in self.significant:
            _positive(f"significant {name}", count)
        named = [name for name, _ in self.significant]
        named += [name for group in self.groups for name in group.features]
        if twice := {name for name in named if named.count(name) > 1}:
            raise ValueError(f"features {sorted(twice)}: in two groups; at most in one")


class TableOptimizer(enum.StrEnum):
    """How embedding tables are trained."""

    ROWWISE_ADAGRAD = "rowwise_adagrad"
    """Sharded, one moment a row, the step inside the backward pass: for tables of any size."""
    ADAM = "adam"
    """Every rank holds them whole, with the dense part's Adam: for small tables, whose L2 then
    pulls every row in every step, seen or not, in proportion to Adam's own step."""


class Precision(enum.StrEnum):
    """Numbers that the dense part computes with in training; what is kept is float32 always."""

    AUTO = "auto"
    """``bf16`` on a CUDA device that has it, else ``float32``."""
    FLOAT32 = "float32"
    """Products in full float32 too, not in TF32."""
    BF16 = "bf16"
    """Autocast. Weights, moments, tables, the loss, and predictions stay float32."""


class Pipeline(enum.StrEnum):
    """Whether TorchRec's ``TrainPipelineSparseDist`` copies and exchanges the next batch early."""

    AUTO = "auto"
    """On a CUDA device, where copies and exchanges run beside the computation."""
    ON = "on"
    OFF = "off"


class DenseParallelism(enum.StrEnum):
    """How the dense part is spread over ranks."""

    AUTO = "auto"
    """DDP while the dense part fits the share of a CUDA device that tables leave, else FSDP2."""
    DDP = "ddp"
    """Whole on every rank."""
    FSDP2 = "fsdp2"
    """Weights, gradients and moments in pieces; a block's weights are gathered when it runs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a ranker is trained, cold (all days) and warm (the days since yesterday's)."""

    batch_size: int
    """Examples of one optimiser step, over all ranks."""
    cold_epochs: int = 1
    warm_epochs: int = 1
    dense_learning_rate: float = 1e-3
    sparse_learning_rate: float = 0.05
    table_optimizer: TableOptimizer = TableOptimizer.ROWWISE_ADAGRAD
    embedding_decay: float = 0.0
    """L2 on embeddings, as a term of the loss: with Adam on all rows, with row-wise Adagrad on the
    rows that a batch touches. FBGEMM's CPU kernel was seen to apply it only to tables that several
    columns share, such as the items' and their histories'."""
    table_decay: float = 0.0
    """Share of every embedding that a step takes away, at the full learning rate: L2 decoupled from
    the optimiser, over all rows, seen or not. A pass over the tables each step: for small ones."""
    dense_decay: float = 0.0
    warm_up_share: float = 0.1
    """Share of a run's steps over which the learning rates rise, as in the paper; in a benchmark of
    the first epoch's."""
    final_learning_rate_share: float = 0.1
    """Where the falling learning rates of a cold run end, as a share; warm runs stay there."""
    clip_norm: float = 0.0
    """Largest norm of a step's gradient of all that Adam trains, averaged over ranks; a longer one
    is scaled down; 0: off. Tables under row-wise Adagrad are not covered: they step inside the
    backward pass, and Adagrad divides a row's gradient by the root of its mean square so far, so
    that the longest gradient moves a row by little more than the learning rate."""
    average_decay: float = 0.0
    """Of the moving average of all weights that a benchmark evaluates and keeps; 0: no average."""
    precision: Precision = Precision.AUTO
    pipeline: Pipeline = Pipeline.AUTO
    is_compiled: bool = False
    """Whether the dense part is compiled; worth its half minute only in long runs."""
    shuffle_rows: int = 262_144
    """Examples that are shuffled together; bounds the memory of the input."""
    checkpoint_steps: int = 1_000
    """Steps of a run that a kill may cost, at most; 0: all, nothing is saved while it runs."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot train."""
        for name in ("batch_size", "cold_epochs", "warm_epochs", "shuffle_rows"):
            _positive(name, getattr(self, name))
        shares = ("warm_up_share", "final_learning_rate_share", "average_decay", "table_decay")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)}; from 0 to 1")
        if not 0 <= self.clip_norm < math.inf:
            raise ValueError(f"clip_norm: {self.clip_norm}; a finite number, at least 0 (0: off)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardingConfig:
    """Which embedding tables are split, how small the pieces may be, and the dense part."""

    column_wise: tuple[str, ...] = ()
    """Tables split by columns over the ranks."""
    row_wise: tuple[str, ...] = ()
    """Tables split by rows over the ranks."""
    min_partition: int = 8
    """Fewest columns of a shard; TorchRec's own default of 128 would never split small tables."""
    dense_parallelism: DenseParallelism = DenseParallelism.AUTO


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete run: model, training, sharding."""

    name: str
    model: ModelConfig
    training: TrainingConfig
    sharding: ShardingConfig

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for manifests."""
        return dataclasses.asdict(self)

    def model_fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the model's shape: equal for checkpoints that fit.

        Growth groups and norms are left out: how a model came to its shape is the checkpoint's to
        know.
        """
        model = dataclasses.asdict(self.model)
        for layer in model["interaction"].get("layers", ()):
            del layer["norm_groups"], layer["is_normalised"]
        content = json.dumps(model, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def model_from_dict(values: dict[str, Any]) -> ModelConfig:
    """A model configuration from the plain values of a manifest; ValueError names what is wrong."""
    return pydantic.TypeAdapter(ModelConfig).validate_python(values)


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """A recipe from the plain values of a manifest; ValueError names what is wrong."""
    return pydantic.TypeAdapter(Recipe).validate_python(values)


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}: {value}; at least 1")
