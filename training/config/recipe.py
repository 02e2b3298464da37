"""How a ranker is trained and split, and complete runs: frozen values, checked when they are made.

Named recipes are in ``training.recipes``.
"""

import dataclasses
import enum
import hashlib
import json
import math
from typing import Any

import pydantic

from training.config.model import ModelConfig, check_positive

_OPTIONAL = {"has_first_order", "residual_interval", "auxiliary_loss_weight"}
"""Fields of a model that add a part to it, and nothing where they are false or 0."""


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


class TableDtype(enum.StrEnum):
    """Numbers that the tables are kept in; what is read from them is float32."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    """Half the memory. On CUDA a step is rounded at random (stochastic rounding), so that small
    steps are not lost; on the CPU to the nearest number."""


class Communication(enum.StrEnum):
    """Numbers in which ranks exchange pooled embeddings and their gradients."""

    FLOAT32 = "float32"
    FP16 = "fp16"
    """Embeddings in float16, gradients in bfloat16, whose small numbers do not become 0."""
    BF16 = "bf16"
    """Both in bfloat16. Between CPUs gloo exchanges either as float16."""


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
    """L2 on embeddings, as a term of the loss: with Adam on all rows; with row-wise Adagrad on the
    rows that a batch touches, of tables that several columns share, such as the items' and their
    histories'. FBGEMM's kernel for CPUs has it for no other table: no other gets it anywhere."""
    table_decay: float = 0.0
    """Share of every embedding that a step takes away, at the full learning rate: L2 decoupled from
    the optimiser, over all rows, seen or not. A pass over the tables each step: for small ones."""
    dense_decay: float = 0.0
    warm_up_share: float = 0.1
    """Share of a run's steps over which the learning rates rise, as in the paper; in a benchmark of
    the first epoch's."""
    decay_share: float = 0.0
    """Share of a run's steps, its last, over which the learning rates of tables and dense part fall
    in a straight line to zero; from the warm-up to there they stay. With the warm-up's at most 1;
    0: a cold run's fall from the start."""
    final_learning_rate_share: float = 0.1
    """Where the falling learning rates of a cold run end without ``decay_share``; warm runs have
    this share of them."""
    clip_norm: float = 0.0
    """Largest norm of a step's gradient of all that Adam trains, averaged over ranks; a longer one
    is scaled down; 0: off. Tables under row-wise Adagrad are not covered: they step inside the
    backward pass, and Adagrad divides a row's gradient by the root of its mean square so far, so
    that the longest gradient moves a row by little more than the learning rate."""
    average_decay: float = 0.0
    """Of the moving average of all weights that a benchmark evaluates and keeps; 0: no average."""
    precision: Precision = Precision.AUTO
    table_dtype: TableDtype = TableDtype.FLOAT32
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
            check_positive(name, getattr(self, name))
        shares = ("warm_up_share", "decay_share", "final_learning_rate_share")
        for name in (*shares, "average_decay", "table_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)}; from 0 to 1")
        if self.warm_up_share + self.decay_share > 1:
            left = 1 - self.warm_up_share
            raise ValueError(
                f"decay_share: {self.decay_share}; at most {left:g}, what warm_up_share leaves"
            )
        is_half = self.table_dtype is TableDtype.FLOAT16
        if is_half and self.table_optimizer is TableOptimizer.ADAM:
            raise ValueError("table_dtype: float16; float32 where Adam trains the tables")
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
    communication: Communication = Communication.FLOAT32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete run: model, training, sharding."""

    name: str
    model: ModelConfig
    training: TrainingConfig
    sharding: ShardingConfig

    def to_dict(self) -> dict[str, object]:
        """Plain values, for manifests."""
        return dataclasses.asdict(self)

    def with_training(self, **changes: Any) -> "Recipe":
        """The same with other settings of its training."""
        return dataclasses.replace(self, training=dataclasses.replace(self.training, **changes))

    def model_fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the model's shape: equal for checkpoints that fit.

        Growth groups and norms are left out: how a model came to its shape is the checkpoint's to
        know. So are parts that are not there, of which earlier checkpoints do not know.
        """
        model = dataclasses.asdict(self.model)
        for part in (model, model["interaction"]):
            for option in _OPTIONAL & part.keys():
                if not part[option]:
                    del part[option]
        for layer in model["interaction"].get("layers", ()):
            del layer["norm_groups"], layer["is_normalised"]
        content = json.dumps(model, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def recipe_from_dict(values: dict[str, object]) -> Recipe:
    """A recipe from the plain values of a manifest; ValueError names what is wrong."""
    return pydantic.TypeAdapter(Recipe).validate_python(values)
