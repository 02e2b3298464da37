"""The ranker: embedding tables, dense tower and interaction net behind one forward.

The same class trains sharded (its ``embeddings`` replaced by TorchRec's sharded ones) and serves.
"""

import dataclasses
import math
from functools import partial

import torch
import torch.fx
from jaxtyping import Float
from torch import Tensor, nn
from torchrec.distributed.types import LazyAwaitable
from torchrec.modules.embedding_configs import DataType, EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from training.config.model import (
    AFNConfig,
    AutoIntConfig,
    DCNv2Config,
    DLRMConfig,
    FinalMLPConfig,
    MaskNetConfig,
    ModelConfig,
    WukongConfig,
    XDeepFMConfig,
)
from training.model.baselines import AFN, DLRM, AutoInt, DCNv2, FinalMLP, MaskNet, XDeepFM
from training.model.inputs import Inputs
from training.model.layers import DenseNormaliser, FirstOrder, PretrainedTables, mlp
from training.model.wukong import Wukong


class TokenArch(nn.Module):
    """Pooled embeddings and raw numbers become the tokens that interact (Wukong, section 3.2).

    An input is one token; a significant one is several; a group of unimportant ones with small
    tables is mapped to one or more by an MLP; so are the dense inputs, all together.
    """

    def __init__(self, inputs: Inputs, config: ModelConfig) -> None:
        super().__init__()
        self.dim = config.embedding_dim
        self.num_dense = len(inputs.dense)
        self.widths = [table_dim(sparse.name, config) for sparse in inputs.sparse]
        grouped = {name: number for number, g in enumerate(config.groups) for name in g.features}
        names = [sparse.name for sparse in inputs.sparse]
        self.single = [index for index, name in enumerate(names) if name not in grouped]
        self.members = [[names.index(name) for name in group.features] for group in config.groups]
        self.group_mlps = nn.ModuleList(
            mlp((len(g.features) * g.dim, *g.mlp, g.num_tokens * self.dim)) for g in config.groups
        )
        self.pretrained_maps = nn.ModuleList(
            mlp((pretrained.dim, self.dim)) for pretrained in inputs.pretrained
        )
        self.num_tokens = len(token_names(inputs, config))
        self.bottom: nn.Module | None = None
        if inputs.dense:
            self.normaliser = DenseNormaliser(inputs.dense)
            out = config.num_dense_tokens * self.dim
            self.bottom = mlp((len(inputs.dense), *config.bottom_mlp, out))

    def forward(
        self,
        dense: Float[Tensor, "B {self.num_dense}"],
        pooled_BE: Float[Tensor, "B E"],
        pretrained: list[Float[Tensor, "B _"]],
    ) -> Float[Tensor, "B {self.num_tokens} {self.dim}"]:
        """To (B, N, D), the dense tokens last.

        Args:
            dense: (B, inputs), raw.
            pooled_BE: The pooled embeddings of all sparse inputs beside each other.
            pretrained: The pooled pretrained vectors, (B, their dimension) each.
        """
        parts = []
        if len(self.single) == len(self.widths):
            parts.append(pooled_BE)
        else:
            split = pooled_BE.split(self.widths, dim=1)
            parts += [split[index] for index in self.single]
            for members, group_mlp in zip(self.members, self.group_mlps, strict=True):
                parts.append(group_mlp(torch.cat([split[index] for index in members], dim=1)))
        mapped = zip(self.pretrained_maps, pretrained, strict=True)
        parts += [project(vectors) for project, vectors in mapped]
        if self.bottom is not None:
            parts.append(self.bottom(self.normaliser(dense)))
        return torch.cat(parts, dim=1).view(-1, self.num_tokens, self.dim)


class InteractionArch(nn.Module):
    """Everything but the tables: what grows, and what is the same on every rank."""

    def __init__(self, inputs: Inputs, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = TokenArch(inputs, config)
        net = _NETS[type(config.interaction)]
        self.net: nn.Module = net(
            self.tokens.num_tokens,
            config.embedding_dim,
            config.interaction,
            dropout=config.dropout,
        )
        # Outside the net, whose sizes may grow.
        self.first_order: FirstOrder | None = None
        if config.has_first_order:
            dense_tokens = config.num_dense_tokens if inputs.dense else 0
            self.num_embeddings = self.tokens.num_tokens - dense_tokens
            sizes = (self.num_embeddings, config.embedding_dim, len(inputs.dense))
            self.first_order = FirstOrder(*sizes)

    @torch.no_grad()
    def fit(self, dense: Float[Tensor, "rows inputs"], positive_rate: float | None) -> None:
        """Fit the normaliser to raw numbers, and the output's bias to the log odds of positives.

        With rare positives a ranker that starts at even odds spends its first steps, or a small
        log all of them, on learning how rare they are.

        Args:
            dense: (rows, inputs), raw.
            positive_rate: Strictly between 0 and 1; None: the bias stays as it is.
        """
        if self.tokens.bottom is not None:
            self.tokens.normaliser.fit(dense)
        for part in filter(None, (self.net, getattr(self.net, "auxiliary", None))):
            outputs = [m for m in part.modules() if isinstance(m, nn.Linear)]
            biases = [m.bias for m in outputs if m.out_features == 1 and m.bias is not None]
            if positive_rate is not None:
                biases[-1].fill_(math.log(positive_rate) - math.log1p(-positive_rate))

    def forward(
        self,
        dense: Float[Tensor, "B inputs"],
        pooled_BE: Float[Tensor, "B E"],
        pretrained: list[Float[Tensor, "B _"]],
    ) -> Float[Tensor, "... B"]:
        """What ``TokenArch`` takes, to logits (B,); in training (2, B) where the net has two."""
        x_BND = self.tokens(dense, pooled_BE, pretrained)
        logits_B = self.net(x_BND)
        if self.first_order is None:
            return logits_B
        # The dense tokens are last; their numbers have weights of their own.
        numbers = dense if self.tokens.bottom is None else self.tokens.normaliser(dense)
        return logits_B + self.first_order(x_BND[:, : self.num_embeddings], numbers)


_NETS: dict[type, type[nn.Module]] = {
    WukongConfig: Wukong,
    DLRMConfig: DLRM,
    DCNv2Config: DCNv2,
    AutoIntConfig: AutoInt,
    FinalMLPConfig: FinalMLP,
    MaskNetConfig: MaskNet,
    XDeepFMConfig: XDeepFM,
    AFNConfig: AFN,
}


class Ranker(nn.Module):
    """Tables and interaction: a batch's inputs to logits.

    Args:
        inputs: What it reads; fixes the tables and the order.
        config: The model's configuration.
        device: Where the tables are made; ``meta`` makes them only on the ranks that own a shard,
            which have to fill them (``training.distributed.embedding_plan.fill_tables``).
        table_type: Numbers of the tables; pooled embeddings are float32.
    """

    def __init__(
        self,
        inputs: Inputs,
        config: ModelConfig,
        *,
        device: torch.device | None = None,
        table_type: DataType = DataType.FP32,
    ) -> None:
        super().__init__()
        refuse_unknown_features(inputs, config)
        self.features = [sparse.name for sparse in inputs.sparse]
        self.lengths = {sparse.name: sparse.max_length for sparse in inputs.sparse}
        """Ids of an example at most, by feature."""
        device = device or torch.device("cpu")
        tables = embedding_tables(inputs, config)
        if table_type is not DataType.FP32:
            tables = [dataclasses.replace(one, data_type=table_type) for one in tables]
        if device.type == "meta":
            tables = [dataclasses.replace(one, init_fn=nn.init.zeros_) for one in tables]
        self.embeddings = EmbeddingBagCollection(tables=tables, device=device)
        self.pretrained = PretrainedTables(inputs.pretrained)
        self.interaction = InteractionArch(inputs, config)

    def forward(
        self, dense: Float[Tensor, "B inputs"], sparse: KeyedJaggedTensor
    ) -> Float[Tensor, "... B"]:
        """Raw dense inputs (B, inputs) and embedding rows by feature to the net's logits."""
        return self.interaction(dense, self.pool(sparse), self.pretrained(sparse))

    def pool(self, sparse: KeyedJaggedTensor) -> Float[Tensor, "B E"]:
        """The pooled embeddings of all features beside each other, in the inputs' order."""
        return in_order(self.embeddings(sparse), self.features)


@torch.fx.wrap
def in_order(
    pooled: KeyedTensor | LazyAwaitable[KeyedTensor], features: list[str]
) -> Float[Tensor, "B E"]:
    """Pooled embeddings beside each other, in the order of ``features``.

    Wrapped: TorchRec's pipeline traces the ranker's forward, where no value may steer.
    """
    if pooled.keys() == features:
        return pooled.values()
    values = pooled.to_dict()
    return torch.cat([values[name] for name in features], dim=1)


def embedding_tables(inputs: Inputs, config: ModelConfig) -> list[EmbeddingBagConfig]:
    """One table for each that is named, with the features that read it."""
    return [
        EmbeddingBagConfig(
            name=owner.name,
            num_embeddings=owner.num_rows,
            embedding_dim=table_dim(owner.name, config),
            feature_names=[other.name for other in inputs.sparse if other.table == owner.name],
            pooling=PoolingType.MEAN,
            init_fn=partial(nn.init.normal_, std=config.embedding_std),
        )
        for owner in inputs.sparse
        if owner.table == owner.name
    ]


def token_names(inputs: Inputs, config: ModelConfig) -> list[str]:
    """What each embedding that enters the interaction is made of, in their order."""
    grouped = {name for group in config.groups for name in group.features}
    counts = [(s.name, table_dim(s.name, config)) for s in inputs.sparse if s.name not in grouped]
    tokens = [(name, columns // config.embedding_dim) for name, columns in counts]
    tokens += [(f"group {n}", group.num_tokens) for n, group in enumerate(config.groups)]
    tokens += [(f"pretrained {pretrained.name}", 1) for pretrained in inputs.pretrained]
    tokens += [("dense inputs", config.num_dense_tokens)] if inputs.dense else []
    return [f"{name} {number}" for name, count in tokens for number in range(count)]


def table_dim(feature: str, config: ModelConfig) -> int:
    """Columns of a feature's table: d, several times d, or its group's."""
    grouped = [group.dim for group in config.groups if feature in group.features]
    return (
        grouped[0] if grouped else config.embedding_dim * dict(config.significant).get(feature, 1)
    )


def refuse_unknown_features(inputs: Inputs, config: ModelConfig) -> None:
    """ValueError when a configuration names what is not read, or sizes a shared table twice."""
    names = {sparse.name for sparse in inputs.sparse}
    named = [name for name, _ in config.significant]
    named += [name for group in config.groups for name in group.features]
    if unknown := sorted(set(named) - names):
        raise ValueError(f"features {unknown}: not read; the features are {sorted(names)}")
    for sparse in inputs.sparse:
        mine, owners = table_dim(sparse.name, config), table_dim(sparse.table, config)
        if mine != owners:
            raise ValueError(
                f"feature {sparse.name}: {mine} columns, but it shares the table of {sparse.table} "
                f"with {owners}"
            )
