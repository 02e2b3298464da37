"""What a ranker is made of and how it is trained: frozen values, checked when they are made.

Configurations live here, recipes (named complete configurations) in ``training.recipes``.
"""

import dataclasses
import hashlib
import json
from typing import Any


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
    norm_groups: tuple[tuple[int, int], ...] = ()
    """Growth groups of the block's LayerNorm: the (n, k) corner that each growth step reached, the
    last one the present (n, k); (): one group, as in the paper."""

    def __post_init__(self) -> None:
        """Refuse sizes that make no layer."""
        for name in ("num_fm", "num_linear"):
            _positive(name, getattr(self, name))
        if self.rank < 0:
            raise ValueError(f"rank: {self.rank}; at least 0")
        for width in (*self.mlp, *self.attention):
            _positive("width", width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The whole ranker: embeddings, dense tower, Wukong stack, head."""

    embedding_dim: int
    """d, of every embedding that enters the stack."""
    layers: tuple[LayerConfig, ...]
    bottom_mlp: tuple[int, ...]
    """Hidden widths of the MLP that turns the dense inputs into one embedding."""
    head: tuple[int, ...]
    """Hidden widths of the MLP from the last layer to the logit."""
    embedding_std: float = 0.05
    layer_norm_eps: float = 1e-5
    """Far below the variance of the first factorization machine's output at this embedding_std;
    with 1e-4 instead, LayerNorm would return almost zero and the block would start dead."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes that make no model."""
        _positive("embedding_dim", self.embedding_dim)
        if not self.layers:
            raise ValueError("layers: none; at least one")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: {self.dropout}; at least 0 and below 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a ranker is trained, cold (all days) and warm (the days since yesterday's)."""

    batch_size: int
    """Examples of one optimiser step, over all ranks."""
    cold_epochs: int = 1
    warm_epochs: int = 1
    dense_learning_rate: float = 1e-3
    sparse_learning_rate: float = 0.05
    embedding_decay: float = 0.0
    """L2 on the embedding rows that a batch touches. FBGEMM's CPU kernel was seen to apply it only
    to tables that several columns share, such as the items' and their histories'."""
    dense_decay: float = 0.0
    warm_up_share: float = 0.1
    """Share of a run's steps over which the dense learning rate rises, as in the paper."""
    final_learning_rate_share: float = 0.1
    """Where the falling learning rates of a cold run end, as a share; warm runs stay there."""
    shuffle_rows: int = 262_144
    """Examples that are shuffled together; bounds the memory of the input."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot train."""
        for name in ("batch_size", "cold_epochs", "warm_epochs", "shuffle_rows"):
            _positive(name, getattr(self, name))
        for name in ("warm_up_share", "final_learning_rate_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)}; from 0 to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardingConfig:
    """Which embedding tables are split, and how small the pieces may be."""

    column_wise: tuple[str, ...] = ()
    """Tables split by columns over the ranks."""
    min_partition: int = 8
    """Fewest columns of a shard; TorchRec's own default of 128 would never split small tables."""


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
        """Sixteen hexadecimal digits of the model's shape: equal for checkpoints that fit."""
        content = json.dumps(dataclasses.asdict(self.model), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def model_from_dict(values: dict[str, Any]) -> ModelConfig:
    """A model configuration from the plain values of a manifest."""
    layers = tuple(
        LayerConfig(
            **{
                **layer,
                "mlp": tuple(layer["mlp"]),
                "attention": tuple(layer["attention"]),
                "norm_groups": tuple(tuple(group) for group in layer["norm_groups"]),
            }
        )
        for layer in values["layers"]
    )
    rest: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return ModelConfig(**(rest | {"layers": layers}))


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}: {value}; at least 1")
