"""The sharding plan of a recipe for a machine that need not be this one."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch
from torchrec.distributed.planner.types import PlannerError, ShardingOption

from training.config.recipe import Recipe
from training.distributed.dense_plan import DensePlan
from training.distributed.device import Machine
from training.distributed.embedding_plan import plan
from training.model.flops import cost_of
from training.model.inputs import Inputs
from training.model.ranker import Ranker


class _Table(TypedDict):
    table: str
    rows: int
    columns: int
    sharding_type: str
    kernel: str
    ranks: list[int]
    shards: list[list[int]]
    hbm_bytes: int
    ddr_bytes: int
    milliseconds: float


def planned(
    inputs: Inputs, recipe: Recipe, machine: Machine, *, teraflops: float
) -> dict[str, object]:
    """The plan that the trainer would make there, table by table.

    Args:
        inputs: What the ranker reads; its tables are made on no device.
        recipe: Model, batch size and sharding.
        machine: Where it is to run.
        teraflops: What one rank reaches on the dense part, for the time of a step.

    Raises:
        ValueError: The tables do not fit, with the planner's reason, or the dense part does not.
    """
    ranker = Ranker(inputs, recipe.model, device=torch.device("meta"))
    batch_size = recipe.training.batch_size
    try:
        chosen = plan(ranker, recipe, machine=machine)
    except PlannerError as error:
        raise ValueError(f"{recipe.name} on {machine.ranks} x {machine.device}: {error}") from error
    cost = cost_of(inputs, recipe.model)
    hbm: collections.Counter[int] = collections.Counter()
    ddr: collections.Counter[int] = collections.Counter()
    milliseconds: collections.Counter[int] = collections.Counter()
    for option in chosen.options:
        for shard in option.shards:
            hbm[shard.rank] += shard.storage.hbm
            ddr[shard.rank] += shard.storage.ddr
            milliseconds[shard.rank] += shard.perf.total
    dense_ms = cost.training_flops * batch_size / machine.ranks / teraflops / 1e9
    lookups_ms = max(milliseconds.values(), default=0.0)
    tables = [_to_dict(option) for option in chosen.options]
    by_rank = {
        "hbm_bytes_by_rank": [hbm[rank] for rank in range(machine.ranks)],
        "ddr_bytes_by_rank": [ddr[rank] for rank in range(machine.ranks)],
    }
    times = {
        "lookup_milliseconds": lookups_ms,
        "dense_milliseconds": dense_ms,
        "step_milliseconds": lookups_ms + dense_ms,
    }
    return {
        "recipe": recipe.name,
        **dataclasses.asdict(machine),
        "fits": True,
        "tables": tables,
        "considered": chosen.considered,
        **by_rank,
        **_dense_to_dict(chosen.dense),
        **times,
        "markdown": _markdown(tables, by_rank, chosen.dense, times),
    }


def _dense_to_dict(dense: DensePlan) -> dict[str, object]:
    return {
        "dense": dense.parallelism.value,
        "dense_bytes_by_rank": dense.bytes_by_rank,
        "dense_activation_bytes_by_rank": dense.activation_bytes,
        "reserved_share": dense.reserved_share,
    }


def _to_dict(option: ShardingOption) -> _Table:
    return {
        "table": option.name,
        "rows": option.tensor.shape[0],
        "columns": option.tensor.shape[1],
        "sharding_type": option.sharding_type,
        "kernel": option.compute_kernel,
        "ranks": sorted({shard.rank for shard in option.shards}),
        "shards": [list(shard.size) for shard in option.shards],
        "hbm_bytes": sum(shard.storage.hbm for shard in option.shards),
        "ddr_bytes": sum(shard.storage.ddr for shard in option.shards),
        "milliseconds": max(shard.perf.total for shard in option.shards),
    }


def _markdown(
    tables: Sequence[_Table],
    by_rank: Mapping[str, Sequence[int]],
    dense: DensePlan,
    times: Mapping[str, float],
) -> str:
    lines = [
        "| table | rows x columns | sharding | kernel | ranks | HBM, MB | host, MB | ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for table in tables:
        cells = (
            table["table"],
            f"{table['rows']:,} x {table['columns']}",
            table["sharding_type"],
            table["kernel"],
            ", ".join(map(str, table["ranks"])),
            f"{table['hbm_bytes'] / 2**20:,.1f}",
            f"{table['ddr_bytes'] / 2**20:,.1f}",
            f"{table['milliseconds']:.3f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    largest = max(by_rank["hbm_bytes_by_rank"], default=0) / 2**20
    host = max(by_rank["ddr_bytes_by_rank"], default=0) / 2**20
    dense_mb = dense.bytes_by_rank / 2**20
    if not tables:
        lines = ["Adam trains the tables as part of the dense part; none is sharded."]
    lines.append(
        f"\nA rank holds up to {largest:,.0f} MB of tables on its device, {host:,.0f} MB in the "
        f"host's memory, and {dense_mb:,.0f} MB of the dense part ({dense.parallelism.value}) with "
        "its gradients, moments and activations. A step takes "
        f"about {times['step_milliseconds']:.2f} ms: {times['lookup_milliseconds']:.2f} of "
        "lookups "
        f"(the planner's estimate) and {times['dense_milliseconds']:.2f} of the dense part."
    )
    return "\n".join(lines)
