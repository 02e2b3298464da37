"""What the planner is given: what may be split and how, and the machine's figures."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.fbgemm_qcomm_codec import (
    CommType,
    QCommsConfig,
    get_qcomm_codecs_registry,
)
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    ParameterConstraints,
    Topology,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import ModuleSharder, ShardingType
from torchrec.modules.embedding_configs import DataType, EmbeddingBagConfig

from training.config.recipe import Communication, Recipe, ShardingConfig, TableDtype
from training.distributed.device import Machine

_ON_CUDA = tuple(by.value for by in ShardingType if by is not ShardingType.DATA_PARALLEL)
"""All sharding types that the planner may choose for a table on CUDA."""
_BY_COLUMNS = (ShardingType.COLUMN_WISE, ShardingType.TABLE_COLUMN_WISE, ShardingType.GRID_SHARD)
_BY_ROWS = (ShardingType.ROW_WISE, ShardingType.TABLE_ROW_WISE)
"""The first one splits over all ranks, and is the only one on the CPU."""
_EXCHANGED = {
    Communication.FLOAT32: (CommType.FP32, CommType.FP32),
    Communication.FP16: (CommType.FP16, CommType.BF16),
    Communication.BF16: (CommType.BF16, CommType.BF16),
}
"""Of embeddings, and of their gradients."""


def table_type(recipe: Recipe) -> DataType:
    """Numbers of the tables, as TorchRec has them."""
    is_half = recipe.training.table_dtype is TableDtype.FLOAT16
    return DataType.FP16 if is_half else DataType.FP32


def sharders(config: ShardingConfig, device: str) -> list[ModuleSharder[nn.Module]]:
    """What may be sharded, by which module, and in which numbers ranks exchange embeddings."""
    forward, backward = _EXCHANGED[config.communication]
    codecs = get_qcomm_codecs_registry(
        QCommsConfig(forward_precision=forward, backward_precision=backward),
        device=torch.device(device),
    )
    return [cast("ModuleSharder[nn.Module]", _Sharder(qcomm_codecs_registry=codecs))]


class _Sharder(EmbeddingBagCollectionSharder):
    """TorchRec's, with row-wise sharding on the CPU too.

    It works there and is left out of the list (https://github.com/pytorch/torchrec/issues/1252).
    """

    def sharding_types(self, compute_device_type: str) -> list[str]:
        types = list(super().sharding_types(compute_device_type))
        by_rows = ShardingType.ROW_WISE.value
        return types if by_rows in types else [*types, by_rows]


def constraints(
    tables: Sequence[EmbeddingBagConfig],
    config: ShardingConfig,
    *,
    world_size: int,
    device: str,
    lengths: Mapping[str, int],
) -> dict[str, ParameterConstraints]:
    """What the planner may do with each table, and how many of its rows an example reads.

    Named tables are split by columns or by rows when there is more than one rank, on CUDA in any
    way that does, such as within a host: hundreds of ranks are no columns. The others are
    left to the planner on CUDA, with kernels that keep rows in the host's memory, and stay whole on
    the CPU.

    Args:
        tables: All of them.
        config: What the recipe says.
        world_size: Number of ranks.
        device: ``cpu`` or ``cuda``.
        lengths: By feature, ids of an example at most: what is read by full bags is planned for.
    """
    whole = list(_ON_CUDA) if device == "cuda" else [ShardingType.TABLE_WISE.value]
    num_ways = None if device == "cuda" else 1
    chosen = {}
    for table in tables:
        types, min_partition = whole, None
        if table.name in config.column_wise and world_size > 1:
            types, min_partition = [by.value for by in _BY_COLUMNS[:num_ways]], config.min_partition
        elif table.name in config.row_wise and world_size > 1:
            types = [by.value for by in _BY_ROWS[:num_ways]]
        chosen[table.name] = ParameterConstraints(
            sharding_types=types,
            min_partition=min_partition,
            pooling_factors=[float(lengths[feature]) for feature in table.feature_names],
        )
    return chosen


def topology(machine: Machine) -> Topology:
    """The machine as the planner has it: bytes, and bytes a millisecond."""
    of = machine.accelerator
    hardware = (
        HardwareConfig()
        if of is None
        else HardwareConfig(
            intra_host_bw=of.nvlink_bandwidth / 1_000,
            inter_host_bw=of.network_bandwidth / 1_000,
            hbm_mem_bw=of.hbm_bandwidth / 1_000,
            hbm_to_ddr_mem_bw=of.host_bandwidth / 1_000,
        )
    )
    return TopologyFactory.create_topology(
        trainer_config=TrainerConfig(
            world_size=machine.ranks,
            local_world_size=machine.ranks_per_host,
            hbm_cap_bytes=machine.hbm_bytes,
            ddr_cap_bytes=machine.ddr_bytes,
        ),
        hardware_config=hardware,
        kernel_config=KernelConfig(
            compute_device=machine.device, use_hardware_based_bandwidth=of is not None
        ),
    )
