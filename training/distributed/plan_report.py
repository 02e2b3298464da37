"""The sharding plan of a recipe for a machine that need not be this one."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torchrec.distributed.planner.types import Perf, PlannerError, ShardingOption

from training.config.recipe import DenseParallelism, Recipe
from training.distributed.accelerators import TERA
from training.distributed.dense_plan import DensePlan
from training.distributed.device import Machine, is_bf16
from training.distributed.embedding_plan import plan
from training.distributed.planner_inputs import table_type
from training.model.flops import cost_of
from training.model.inputs import Inputs
from training.model.ranker import Ranker

SHARE_OF_PEAK = 0.58
"""Of a device's products that the dense part reaches, until it is measured there: configuration A's
on a CPU (docs/performance.md)."""
_USUAL_TERAFLOPS = 20.0
"""Of a rank whose device is not known."""


def planned(
    inputs: Inputs,
    recipe: Recipe,
    machine: Machine,
    *,
    teraflops: float | None = None,
    examples: int = 10**9,
) -> dict[str, Any]:
    """The plan that the trainer would make there, table by table, and the time of an epoch.

    Args:
        inputs: What the ranker reads; its tables are made on no device.
        recipe: Model, batch size and sharding.
        machine: Where it is to run.
        teraflops: What one rank reaches on the dense part; None: ``SHARE_OF_PEAK`` of its device.
        examples: Of an epoch.

    Raises:
        ValueError: The tables do not fit, with the planner's reason, or the dense part does not.
    """
    ranker = Ranker(
        inputs, recipe.model, device=torch.device("meta"), table_type=table_type(recipe)
    )
    batch_size = recipe.training.batch_size
    try:
        chosen = plan(ranker, recipe, machine=machine)
    except PlannerError as error:
        raise ValueError(f"{recipe.name} on {machine.ranks} x {machine.device}: {error}") from error
    cost = cost_of(inputs, recipe.model)
    reached = teraflops or _teraflops(recipe, machine)
    hbm: collections.Counter[int] = collections.Counter()
    ddr: collections.Counter[int] = collections.Counter()
    for option in chosen.options:
        for shard in option.shards:
            hbm[shard.rank] += shard.storage.hbm
            ddr[shard.rank] += shard.storage.ddr
    parts = {
        **_lookups(chosen.options),
        "dense_compute": cost.training_flops * batch_size / machine.ranks / reached / 1e9,
        "dense_communication": _exchange(cost.dense_parameters, chosen.dense, machine),
    }
    step_ms = sum(parts.values())
    steps = -(-examples // batch_size)
    figures = {
        "recipe": recipe.name,
        **dataclasses.asdict(machine),
        "fits": True,
        "batch_size": batch_size,
        "tables": [_to_dict(option) for option in chosen.options],
        "considered": chosen.considered,
        "hbm_bytes_by_rank": [hbm[rank] for rank in range(machine.ranks)],
        "ddr_bytes_by_rank": [ddr[rank] for rank in range(machine.ranks)],
        "dense": chosen.dense.parallelism.value,
        "dense_bytes_by_rank": chosen.dense.bytes_by_rank,
        "dense_activation_bytes_by_rank": chosen.dense.activation_bytes,
        "reserved_share": chosen.dense.reserved_share,
        "teraflops": reached,
        "milliseconds": parts,
        "step_milliseconds": step_ms,
        "examples_per_second": batch_size / step_ms * 1e3,
        "epoch": {
            "examples": examples,
            "steps": steps,
            "hours": steps * step_ms / 3.6e6,
            "device_hours": machine.ranks * steps * step_ms / 3.6e6,
        },
    }
    return {**figures, "markdown": _markdown(figures)}


def _teraflops(recipe: Recipe, machine: Machine) -> float:
    if machine.accelerator is None:
        return _USUAL_TERAFLOPS
    known = machine.accelerator
    is_fast = is_bf16(recipe.training.precision, machine.device)
    return SHARE_OF_PEAK * (known.bf16_flops if is_fast else known.float32_flops) / TERA


def _lookups(options: Sequence[ShardingOption]) -> dict[str, float]:
    """The planner's milliseconds of the rank that takes longest, both passes together."""
    ranks: dict[int, Perf] = collections.defaultdict(lambda: Perf(0, 0, 0, 0))
    for option in options:
        for shard in option.shards:
            ranks[shard.rank] += shard.perf
    slowest = max(ranks.values(), key=lambda perf: perf.total, default=Perf(0, 0, 0, 0))
    return {
        "lookup_compute": slowest.fwd_compute + slowest.bwd_compute + slowest.prefetch_compute,
        "lookup_communication": slowest.fwd_comms + slowest.bwd_comms,
    }


def _exchange(parameters: int, dense: DensePlan, machine: Machine) -> float:
    """Milliseconds in which a ring exchanges the dense part in float32, nothing else beside it.

    DDP reduces gradients to parts and gathers them. FSDP2 gathers weights for either pass, and
    reduces gradients.
    """
    known, ranks = machine.accelerator, machine.ranks
    if known is None or ranks == 1:
        return 0.0
    is_one_host = machine.ranks_per_host in {None, ranks}
    bandwidth = known.nvlink_bandwidth if is_one_host else known.network_bandwidth
    rounds = 2 if dense.parallelism is DenseParallelism.DDP else 3
    return rounds * (ranks - 1) / ranks * 4 * parameters / bandwidth * 1e3


def _to_dict(option: ShardingOption) -> dict[str, Any]:
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


def _markdown(figures: dict[str, Any]) -> str:
    lines = [
        "| table | rows x columns | sharding | kernel | ranks | HBM, MB | host, MB | ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for table in figures["tables"]:
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
    largest = max(figures["hbm_bytes_by_rank"], default=0) / 2**20
    host = max(figures["ddr_bytes_by_rank"], default=0) / 2**20
    dense = figures["dense_bytes_by_rank"] / 2**20
    if not figures["tables"]:
        lines = ["Adam trains the tables as part of the dense part; none is sharded."]
    lines.append(
        f"\nA rank holds up to {largest:,.0f} MB of tables on its device, {host:,.0f} MB in the "
        f"host's memory, and {dense:,.0f} MB of the dense part ({figures['dense']}) with its "
        f"gradients, moments and activations. A step of {figures['batch_size']:,} examples takes "
        f"about {figures['step_milliseconds']:.2f} ms, {figures['examples_per_second']:,.0f} "
        f"examples/s, with the dense part at {figures['teraflops']:,.0f} TFLOP/s a rank:\n"
    )
    lines += ["| where the time goes | ms | share |", "|---|---|---|"]
    for part, milliseconds in figures["milliseconds"].items():
        share = milliseconds / figures["step_milliseconds"]
        lines.append(f"| {part.replace('_', ' ')} | {milliseconds:.3f} | {share:.0%} |")
    epoch = figures["epoch"]
    lines.append(
        f"\nAn epoch of {epoch['examples']:,} examples is {epoch['steps']:,} steps: "
        f"{epoch['hours']:,.2f} hours, {epoch['device_hours']:,.1f} of devices."
    )
    return "\n".join(lines)
