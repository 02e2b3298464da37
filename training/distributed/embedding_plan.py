"""How the embedding tables are spread over ranks: the plan, and the sharded model."""

import collections
import dataclasses
import hashlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_training import WeightDecayMode
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed.optim.apply_optimizer_in_backward import _apply_optimizer_in_backward
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    Enumerator,
    ShardingOption,
    Stats,
)
from torchrec.distributed.types import ShardingPlan
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from training.config.recipe import Recipe, TrainingConfig
from training.distributed.dense_plan import DensePlan, has_dense_tables, plan_dense, wrapper_of
from training.distributed.device import Machine
from training.distributed.planner_inputs import constraints, sharders, topology
from training.model.ranker import Ranker

_TABLE = re.compile(r"embedding_bags\.([^.]+)\.weight")
_BLOCK_ROWS = 1_024
"""That are drawn from one stream; another number would give other first values."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the planner chose, with what it expects of it."""

    sharding: ShardingPlan
    options: list[ShardingOption]
    """For each table its type, kernel and shards with their memory and times."""
    considered: dict[str, tuple[str, ...]]
    """For each sharding type that was weighed, its kernels."""
    dense: DensePlan


def plan(ranker: Ranker, recipe: Recipe, *, machine: Machine) -> Plan:
    """The plan for a number of ranks; needs no process group, and tables may be on ``meta``.

    Tables that Adam trains are part of the dense part: nothing is planned for them.

    Raises:
        PlannerError: The tables do not fit.
        ValueError: The dense part does not fit.
    """
    dense = plan_dense(ranker, recipe, machine)
    if has_dense_tables(recipe):
        return Plan(ShardingPlan(plan={}), [], {}, dense)
    kept = _KeptOptions()
    tables = ranker.embeddings.embedding_bag_configs()
    planner = EmbeddingShardingPlanner(
        topology=topology(machine),
        batch_size=max(1, recipe.training.batch_size // machine.ranks),
        constraints=constraints(
            *(tables, recipe.sharding),
            world_size=machine.ranks,
            device=machine.device,
            lengths=ranker.lengths,
        ),
        storage_reservation=FixedPercentageStorageReservation(percentage=dense.reserved_share),
        stats=kept,
        debug=False,
    )
    return Plan(
        planner.plan(ranker, sharders(recipe.sharding, machine.device)),
        kept.options,
        kept.considered,
        dense,
    )


class _KeptOptions(Stats):
    """The planner's own report, kept instead of logged."""

    def __init__(self) -> None:
        self.options: list[ShardingOption] = []
        self.considered: dict[str, tuple[str, ...]] = {}

    def log(
        self, *_: object, best_plan: list[ShardingOption], enumerator: Enumerator, **__: object
    ) -> None:
        self.options = best_plan
        kernels: dict[str, set[str]] = collections.defaultdict(set)
        for option in enumerator.last_stored_search_space or ():
            kernels[option.sharding_type].add(option.compute_kernel)
        self.considered = {by: tuple(sorted(found)) for by, found in sorted(kernels.items())}


def shard(
    ranker: Ranker, recipe: Recipe, chosen: Plan, *, device: torch.device
) -> DistributedModelParallel:
    """The ranker spread over the process group as planned; fused row-wise Adagrad on its tables.

    Every rank computes the same plan, so none has to be sent. Tables that Adam trains are part of
    the dense model: no shards, and gradients that are averaged as every other.
    """
    is_sharded = not has_dense_tables(recipe)
    if is_sharded:
        for table in ranker.embeddings.embedding_bag_configs():
            # FBGEMM's kernel for CPUs has no L2 for a table of one feature, CUDA's has it for all.
            is_shared = len(table.feature_names) > 1
            _train_in_backward(
                ranker.embeddings.embedding_bags[table.name],
                recipe.training,
                decay=recipe.training.embedding_decay if is_shared else 0.0,
            )
    return DistributedModelParallel(
        module=ranker,
        device=device,
        plan=chosen.sharding,
        sharders=sharders(recipe.sharding, device.type) if is_sharded else [],
        data_parallel_wrapper=wrapper_of(chosen.dense, recipe),
    )


def _train_in_backward(table: nn.Module, training: TrainingConfig, *, decay: float) -> None:
    _apply_optimizer_in_backward(
        RowWiseAdagrad,
        table.parameters(),
        {
            "lr": training.sparse_learning_rate,
            "weight_decay": decay,
            # FBGEMM's default mode silently ignores weight_decay.
            "weight_decay_mode": WeightDecayMode.L2,
            "eps": 1e-8,
        },
    )


def fill_tables(model: DistributedModelParallel, recipe: Recipe) -> None:
    """Give a fresh ranker's tables their first values, which no sharding changes.

    TorchRec fills each shard by itself, from random numbers that all ranks share: equal shards of a
    table would start alike.
    """
    for key, value in model.state_dict().items():
        table = table_of(key)
        if not table:
            continue
        for part, offsets in _parts(value):
            fill_part(
                part,
                seed=recipe.training.seed,
                table=table,
                num_columns=value.size(1),
                std=recipe.model.embedding_std,
                offsets=offsets,
            )


@torch.no_grad()
def fill_part(
    part: Tensor,
    *,
    seed: int,
    table: str,
    num_columns: int,
    std: float,
    offsets: Sequence[int] = (0, 0),
) -> None:
    """Fill a part of a table with its first values, of seed, table, row and column alone.

    Whoever holds a part of a table makes just that part, equal to the bit to the same part of any
    other way to spread it: each block of rows is a stream of random numbers of its own.

    Args:
        part: (rows, columns) float32; of a table that is spread over ranks, one shard.
        seed: Of the run.
        table: Its name.
        num_columns: Of the whole table; all of them are drawn for each row of the part.
        std: Standard deviation.
        offsets: The part's first row and column in the table.
    """
    digest = hashlib.sha256(f"{seed} {table}".encode()).digest()
    key = int.from_bytes(digest[:16], "little")
    drawn = np.empty((_BLOCK_ROWS, num_columns), dtype=np.float32)
    first_row, first_column = offsets
    columns = slice(first_column, first_column + part.shape[1])
    last_row = first_row + part.shape[0]
    for start in range(first_row - first_row % _BLOCK_ROWS, last_row, _BLOCK_ROWS):
        # Twice as fast as a generator that counts, Philox.
        stream = np.random.SFC64(np.random.SeedSequence([key, start // _BLOCK_ROWS]))
        count = min(_BLOCK_ROWS, last_row - start)
        np.random.Generator(stream).standard_normal(out=drawn[:count], dtype=np.float32)
        np.multiply(drawn[:count], np.float32(std), out=drawn[:count])
        skipped = max(0, first_row - start)
        rows = torch.from_numpy(drawn[skipped:count, columns])
        row = start + skipped - first_row
        part[row : row + len(rows)].copy_(rows)


def table_of(name: str) -> str:
    """The embedding table to which a tensor of a training's state belongs; empty: to none."""
    found = _TABLE.search(name)
    return found[1] if found else ""


def _parts(value: Tensor | ShardedTensor) -> Iterator[tuple[Tensor, Sequence[int]]]:
    """What this rank has of a table, with its first row and column."""
    if isinstance(value, ShardedTensor):
        for shard in value.local_shards():
            yield shard.tensor, shard.metadata.shard_offsets
    elif isinstance(value, DTensor):
        _, offsets = compute_local_shape_and_global_offset(
            value.shape, value.device_mesh, value.placements
        )
        yield value.to_local(), offsets
    else:
        yield value, (0, 0)


def local_shards(model: DistributedModelParallel) -> dict[str, list[dict[str, object]]]:
    """Of each table the pieces on this rank: their offsets, sizes and sharding type."""
    pieces: dict[str, list[dict[str, object]]] = {}
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
