"""How the dense part is spread over ranks: whole on each with DDP, or in pieces with FSDP2."""

import dataclasses
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torchrec.distributed.model_parallel import (
    DataParallelWrapper,
    DefaultDataParallelWrapper,
    DistributedModelParallel,
)
from torchrec.distributed.types import ShardingEnv

from training.config.recipe import DenseParallelism, Recipe, TableOptimizer
from training.distributed.device import Machine, is_bf16
from training.model.flops import num_parameters
from training.model.ranker import InteractionArch, Ranker

RESERVED_SHARE = 0.15
"""Of each device's memory, for everything but the tables."""
_KEPT_BYTES = 24
"""Of a parameter: weight, gradient and Adam's two moments; at a step whose updates are looked at
the weight before it, and the difference. All float32."""
_CAST_BYTES = 2
"""Of a parameter under bf16: autocast's copy, which the backward pass needs."""
_GATHERED_BYTES = 8
"""Of a parameter whose block runs under FSDP2: its weight and gradient, whole."""
_GATHERED_BLOCKS = 2
"""The block that runs and the next one, gathered ahead."""
_EXAMPLES = 4


@dataclasses.dataclass(frozen=True)
class DensePlan:
    """How the dense part is spread, and what a rank then holds of it."""

    parallelism: DenseParallelism
    """Never ``AUTO``."""
    state_bytes: int
    """Weights, gradients and moments."""
    activation_bytes: int
    """What the backward pass needs: an estimate in float32, above what bf16 needs, and autocast's
    copy of the weights."""
    reserved_share: float
    """Of a device's memory, that tables may not have."""

    @property
    def bytes_by_rank(self) -> int:
        """All of it."""
        return self.state_bytes + self.activation_bytes


def plan_dense(ranker: Ranker, recipe: Recipe, machine: Machine) -> DensePlan:
    """DDP while its parameters fit the share of a device that tables leave, else FSDP2.

    Activations do not count in that choice: under FSDP2 a rank keeps as many of them. On the CPU,
    whose ranks share one memory, FSDP2 only when the recipe asks for it.

    Raises:
        ValueError: The dense part does not fit a device even in pieces.
    """
    activations = activation_bytes(ranker) * max(1, recipe.training.batch_size // machine.ranks)
    if is_bf16(recipe.training.precision, machine.device):
        activations += _CAST_BYTES * num_parameters(ranker.interaction)
    sizes = {
        DenseParallelism.DDP: _kept_bytes(ranker, recipe),
        DenseParallelism.FSDP2: _pieces_bytes(ranker, recipe, machine.ranks),
    }
    parallelism, device = recipe.sharding.dense_parallelism, machine.device_bytes
    if parallelism is DenseParallelism.AUTO:
        whole = sizes[DenseParallelism.DDP]
        fits = device is None or machine.ranks == 1 or whole <= RESERVED_SHARE * device
        parallelism = DenseParallelism.DDP if fits else DenseParallelism.FSDP2
    total = sizes[parallelism] + activations
    share = RESERVED_SHARE if device is None else max(RESERVED_SHARE, total / device)
    if device is not None and share >= 1:
        raise ValueError(
            f"dense part of {recipe.name} with {parallelism}: {total:,} bytes on each of "
            f"{machine.ranks} ranks, {activations:,} of them for a batch; a device has {device:,}"
        )
    return DensePlan(parallelism, sizes[parallelism], activations, share)


def has_dense_tables(recipe: Recipe) -> bool:
    """Whether the tables are trained as part of the dense part, and not sharded by TorchRec."""
    return recipe.training.table_optimizer is TableOptimizer.ADAM


def _kept_bytes(ranker: Ranker, recipe: Recipe) -> int:
    parts = [ranker.interaction, *([ranker.embeddings] if has_dense_tables(recipe) else [])]
    return _KEPT_BYTES * sum(map(num_parameters, parts))


def _pieces_bytes(ranker: Ranker, recipe: Recipe, ranks: int) -> int:
    blocks = sorted(map(num_parameters, _blocks(ranker.interaction)))
    gathered = sum(blocks[-_GATHERED_BLOCKS:]) or num_parameters(ranker.interaction)
    if has_dense_tables(recipe):
        gathered += num_parameters(ranker.embeddings)
    return -(-_kept_bytes(ranker, recipe) // ranks) + _GATHERED_BYTES * gathered


def _blocks(interaction: InteractionArch) -> Iterator[nn.Module]:
    """Parts that run one after the other: the members of the interaction net's lists."""
    for part in interaction.net.children():
        if isinstance(part, nn.Sequential | nn.ModuleList):
            yield from (block for block in part if num_parameters(block))


def activation_bytes(ranker: Ranker) -> int:
    """What autograd keeps of one example of the dense part; nothing is computed.

    Counted on the ``meta`` device: tensors that a forward pass saves for the backward pass, each
    storage once, without the weights.
    """
    arch = ranker.interaction
    state = itertools.chain(arch.named_parameters(), arch.named_buffers())
    values = {name: value.to("meta") for name, value in state}
    weights = {value.untyped_storage()._cdata for value in values.values()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            # The reference keeps the number from being given to another storage.
            kept[storage._cdata] = storage
        return tensor

    configs = ranker.embeddings.embedding_bag_configs()
    width = sum(config.embedding_dim * len(config.feature_names) for config in configs)
    dense = arch.tokens.normaliser.mean.numel() if arch.tokens.bottom is not None else 0
    vectors = [ranker.pretrained.get_buffer(name).shape[1] for name in ranker.pretrained.names]
    arguments = (
        torch.empty(_EXAMPLES, dense, device="meta"),
        torch.empty(_EXAMPLES, width, device="meta", requires_grad=True),
        [torch.empty(_EXAMPLES, size, device="meta") for size in vectors],
    )
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        torch.func.functional_call(arch, values, arguments)
    return sum(storage.nbytes() for storage in kept.values()) // _EXAMPLES


def wrapper_of(chosen: DensePlan, recipe: Recipe) -> DataParallelWrapper:
    """What makes ``DistributedModelParallel`` spread the dense part as planned."""
    if chosen.parallelism is DenseParallelism.DDP:
        return DefaultDataParallelWrapper()
    return FullyShardedWrapper(recipe)


class FullyShardedWrapper(DataParallelWrapper):
    """FSDP2 over the blocks of the dense part, in place of DDP.

    Gradients are averaged over ranks, as DDP does. Weights are gathered in float32 and cast by
    autocast, as under DDP: gathered in bf16 they could not predict in float32, as a server does.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def wrap(self, dmp: DistributedModelParallel, env: ShardingEnv, device: torch.device) -> None:
        """Replace the dense part's parameters by this rank's pieces."""
        ranker = dmp._dmp_wrapped_module.to(device)
        mesh = init_device_mesh(device.type, (env.world_size,))
        parts = [*_blocks(ranker.interaction), ranker.interaction]
        if has_dense_tables(self._recipe):
            # Their own module has a layout that FSDP2 cannot extend.
            parts.append(ranker)
        for part in parts:
            fully_shard(part, mesh=mesh)
