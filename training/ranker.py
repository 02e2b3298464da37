"""The ranker: embedding tables, dense tower and interaction stack behind one forward.

The same class trains sharded (its ``embeddings`` replaced by TorchRec's sharded ones) and serves.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from features.schema import Kind, Schema
from training.config import ModelConfig
from training.wukong import Wukong, mlp


class DenseNormaliser(nn.Module):
    """log(1 + x) of long-tailed numbers and log odds of rates, then (x - mean) / deviation.

    Missing numbers become 0, the mean.

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

    def forward(self, dense: Tensor) -> Tensor:
        """(B, inputs) raw to (B, inputs) normalised."""
        return torch.nan_to_num((self._scaled(dense) - self.mean) / self.deviation, nan=0.0)

    @torch.no_grad()
    def fit(self, dense: Tensor) -> None:
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


class InteractionArch(nn.Module):
    """Everything but the tables: what grows, and what is the same on every rank."""

    def __init__(self, schema: Schema, config: ModelConfig) -> None:
        super().__init__()
        dense = schema.dense_kinds()
        self.normaliser = DenseNormaliser(dense)
        self.bottom = mlp((len(dense), *config.bottom_mlp, config.embedding_dim))
        self.wukong = Wukong(len(schema.sparse_inputs()) + 1, config)

    def forward(self, dense: Tensor, tokens_BFD: Tensor) -> Tensor:
        """Raw dense inputs (B, inputs) and pooled embeddings (B, F, D) to logits (B,)."""
        token_B1D = self.bottom(self.normaliser(dense)).unsqueeze(1)
        return self.wukong(torch.cat([tokens_BFD, token_B1D], dim=1))


class Ranker(nn.Module):
    """Tables and interaction: a batch's inputs to logits.

    Args:
        schema: The data set's schema; fixes the tables and the order of the inputs.
        config: The model's configuration.
        device: Where the tables are made; ``meta`` makes them only on the ranks that own a shard.
    """

    def __init__(
        self, schema: Schema, config: ModelConfig, *, device: torch.device | None = None
    ) -> None:
        super().__init__()
        self.features = [column.name for column in schema.sparse_inputs()]
        self.embeddings = EmbeddingBagCollection(
            tables=embedding_tables(schema, config), device=device or torch.device("cpu")
        )
        self.interaction = InteractionArch(schema, config)

    def forward(self, dense: Tensor, sparse: KeyedJaggedTensor) -> Tensor:
        """Raw dense inputs (B, inputs) and embedding rows by feature to logits (B,)."""
        pooled = self.embeddings(sparse).to_dict()
        tokens_BFD = torch.stack([pooled[name] for name in self.features], dim=1)
        return self.interaction(dense, tokens_BFD)


def embedding_tables(schema: Schema, config: ModelConfig) -> list[EmbeddingBagConfig]:
    """One table for each sparse column that owns one, with the columns that share it."""
    inputs = schema.sparse_inputs()
    return [
        EmbeddingBagConfig(
            name=column.name,
            num_embeddings=column.num_rows,
            embedding_dim=config.embedding_dim,
            feature_names=[
                other.name
                for other in inputs
                if other is column or other.shares_table_with == column.name
            ],
            pooling=PoolingType.MEAN,
            init_fn=partial(nn.init.normal_, std=config.embedding_std),
        )
        for column in inputs
        if not column.shares_table_with
    ]
