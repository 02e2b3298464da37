"""How the embedding tables are spread over ranks: the plan, and the sharded model."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from fbgemm_gpu.split_table_batched_embeddings_ops_training import WeightDecayMode
from torch import nn
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import ParameterConstraints
from torchrec.distributed.types import ModuleSharder, ShardingPlan, ShardingType
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from training.config import ShardingConfig, TableOptimizer, TrainingConfig
from training.ranker import Ranker

_RESERVED_SHARE = 0.15


def sharders() -> list[ModuleSharder[nn.Module]]:
    """What may be sharded, and by which module."""
    return [cast("ModuleSharder[nn.Module]", EmbeddingBagCollectionSharder())]


def constraints(
    tables: Sequence[EmbeddingBagConfig], config: ShardingConfig, *, world_size: int, device: str
) -> dict[str, ParameterConstraints]:
    """What the planner may do with each table.

    Named tables are split by columns when there is more than one rank. The others are left to the
    planner on CUDA, and stay whole on the CPU, where TorchRec's data-parallel kernel has no
    registered gradient.
    """
    whole = {} if device == "cuda" else {"sharding_types": [ShardingType.TABLE_WISE.value]}
    chosen = {}
    for table in tables:
        if table.name in config.column_wise and world_size > 1:
            chosen[table.name] = ParameterConstraints(
                sharding_types=[ShardingType.COLUMN_WISE.value],
                min_partition=config.min_partition,
            )
        else:
            chosen[table.name] = ParameterConstraints(**whole)
    return chosen


def plan(
    model: nn.Module,
    tables: Sequence[EmbeddingBagConfig],
    config: ShardingConfig,
    *,
    world_size: int,
    device: str,
    batch_size: int,
) -> ShardingPlan:
    """The sharding plan for a number of ranks; needs no process group."""
    planner = EmbeddingShardingPlanner(
        topology=Topology(world_size=world_size, compute_device=device),
        batch_size=max(1, batch_size // world_size),
        constraints=constraints(tables, config, world_size=world_size, device=device),
        storage_reservation=FixedPercentageStorageReservation(percentage=_RESERVED_SHARE),
        debug=False,
    )
    return planner.plan(model, sharders())


def shard(
    ranker: Ranker,
    tables: Sequence[EmbeddingBagConfig],
    sharding: ShardingConfig,
    training: TrainingConfig,
    *,
    device: torch.device,
) -> DistributedModelParallel:
    """The ranker spread over the process group, its tables with fused row-wise Adagrad.

    Every rank computes the same plan, so none has to be sent. Tables that Adam trains are part of
    the dense model: no shards, and gradients that are averaged as every other.
    """
    if training.table_optimizer is TableOptimizer.ADAM:
        return DistributedModelParallel(
            module=ranker, device=device, plan=ShardingPlan(plan={}), sharders=[]
        )
    apply_optimizer_in_backward(
        RowWiseAdagrad,
        ranker.embeddings.parameters(),
        {
            "lr": training.sparse_learning_rate,
            "weight_decay": training.embedding_decay,
            # FBGEMM's default mode ignores weight_decay without a word.
            "weight_decay_mode": WeightDecayMode.L2,
            "eps": 1e-8,
        },
    )
    chosen = plan(
        ranker,
        tables,
        sharding,
        world_size=dist.get_world_size(),
        device=device.type,
        batch_size=training.batch_size,
    )
    return DistributedModelParallel(
        module=ranker,
        device=device,
        plan=chosen,
        sharders=sharders(),
        init_data_parallel=True,
    )


def local_shards(model: DistributedModelParallel) -> dict[str, list[dict[str, Any]]]:
    """Of each table the pieces on this rank: their offsets, sizes and sharding type."""
    pieces: dict[str, list[dict[str, Any]]] = {}
    types = {
        name: parameter.sharding_type
        for module in model.plan.plan.values()
        for name, parameter in module.items()
    }
    for key, value in model.state_dict().items():
        if not hasattr(value, "local_shards"):
            continue
        name = key.removesuffix(".weight").rsplit(".", 1)[-1]
        pieces[name] = [
            {
                "offsets": list(shard.metadata.shard_offsets),
                "sizes": list(shard.metadata.shard_sizes),
                "sharding_type": types[name],
            }
            for shard in value.local_shards()
        ]
    return pieces
