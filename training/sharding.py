"""How the embedding tables are spread over ranks: the plan, and the sharded model."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from fbgemm_gpu.split_table_batched_embeddings_ops_training import WeightDecayMode
from torch import nn
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    KernelConfig,
    ParameterConstraints,
    ShardingOption,
    Stats,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import ModuleSharder, ShardingPlan, ShardingType
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from training.config import ShardingConfig, TableOptimizer, TrainingConfig
from training.ranker import Ranker

RESERVED_SHARE = 0.15
"""Of each device's memory, for everything but the tables."""


def sharders() -> list[ModuleSharder[nn.Module]]:
    """What may be sharded, and by which module."""
    return [cast("ModuleSharder[nn.Module]", _Sharder())]


class _Sharder(EmbeddingBagCollectionSharder):
    """TorchRec's, with row-wise sharding on the CPU too.

    It works there and is left out of the list (https://github.com/pytorch/torchrec/issues/1252).
    """

    def sharding_types(self, compute_device_type: str) -> list[str]:
        types = list(super().sharding_types(compute_device_type))
        by_rows = ShardingType.ROW_WISE.value
        return types if by_rows in types else [*types, by_rows]


def constraints(
    tables: Sequence[EmbeddingBagConfig], config: ShardingConfig, *, world_size: int, device: str
) -> dict[str, ParameterConstraints]:
    """What the planner may do with each table.

    Named tables are split by columns or by rows when there is more than one rank. The others are
    left to the planner on CUDA, and stay whole on the CPU, where TorchRec's data-parallel kernel
    has no registered gradient.
    """
    whole = {} if device == "cuda" else {"sharding_types": [ShardingType.TABLE_WISE.value]}
    chosen = {}
    for table in tables:
        if table.name in config.column_wise and world_size > 1:
            chosen[table.name] = ParameterConstraints(
                sharding_types=[ShardingType.COLUMN_WISE.value],
                min_partition=config.min_partition,
            )
        elif table.name in config.row_wise and world_size > 1:
            chosen[table.name] = ParameterConstraints(sharding_types=[ShardingType.ROW_WISE.value])
        else:
            chosen[table.name] = ParameterConstraints(**whole)
    return chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a plan is for; need not be where it is made."""

    device: str
    """``cpu`` or ``cuda``."""
    ranks: int
    hbm_bytes: int | None = None
    """Memory of one device; None: the planner's default."""
    ddr_bytes: int | None = None
    """The host's memory for one rank; None: the planner's default."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the planner chose, with what it expects of it."""

    sharding: ShardingPlan
    options: list[ShardingOption]
    """For each table its type, kernel and shards with their memory and times."""


def plan(
    model: nn.Module,
    tables: Sequence[EmbeddingBagConfig],
    config: ShardingConfig,
    *,
    machine: Machine,
    batch_size: int,
) -> Plan:
    """The plan for a number of ranks; needs no process group, and the model may be on ``meta``.

    Raises:
        PlannerError: The tables do not fit.
    """
    kept = _KeptOptions()
    topology = TopologyFactory.create_topology(
        trainer_config=TrainerConfig(
            world_size=machine.ranks,
            hbm_cap_bytes=machine.hbm_bytes,
            ddr_cap_bytes=machine.ddr_bytes,
        ),
        kernel_config=KernelConfig(compute_device=machine.device),
    )
    planner = EmbeddingShardingPlanner(
        topology=topology,
        batch_size=max(1, batch_size // machine.ranks),
        constraints=constraints(tables, config, world_size=machine.ranks, device=machine.device),
        storage_reservation=FixedPercentageStorageReservation(percentage=RESERVED_SHARE),
        stats=kept,
        debug=False,
    )
    return Plan(planner.plan(model, sharders()), kept.options)


class _KeptOptions(Stats):
    """The planner's own report, kept instead of logged."""

    def __init__(self) -> None:
        self.options: list[ShardingOption] = []

    def log(self, *_: Any, best_plan: list[ShardingOption], **__: Any) -> None:
        self.options = best_plan


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
        machine=Machine(device=device.type, ranks=dist.get_world_size()),
        batch_size=training.batch_size,
    )
    return DistributedModelParallel(
        module=ranker,
        device=device,
        plan=chosen.sharding,
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
