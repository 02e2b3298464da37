"""The tensors of a checkpoint: sharded files, written beside what is there, loaded by name."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.shard import Shard
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed
from torchrec.distributed.model_parallel import DistributedModelParallel

from features.places import Place
from training.checkpoint.adagrad_reshard import Conversion, column_split, convert
from training.checkpoint.catalog import Checkpoint, CheckpointManifest, publish
from training.checkpoint.storage import TensorsReader, TensorsWriter, saving_group, tensors_folder
from training.distributed.divergence import refuse_non_finite
from training.distributed.embedding_plan import table_of

State = dict[str, Any]
"""Tensors by name, in dicts as deep as the names."""
DENSE_OPTIMIZER = "dense_optimizer"
"""Part of a training state: Adam's moments, by parameter."""
_MOMENTS = "sparse_optimizer.state"


class CheckpointError(ValueError):
    """A checkpoint that does not fit what is to be loaded into it."""


def save(root: Place, tensors: State, manifest: CheckpointManifest, name: str) -> Checkpoint:
    """Write all ranks' tensors, then the manifest, from when the checkpoint counts.

    Raises:
        DivergedError: A number is not finite; what was there before stays.
    """
    refuse_non_finite(tensors, manifest.steps)
    folder = tensors_folder()
    writer, group = TensorsWriter(root / name / folder), saving_group(tensors)
    save_distributed(tensors, storage_writer=writer, process_group=group)
    manifest = dataclasses.replace(manifest, files=writer.hashes(group), tensors=folder)
    if dist.get_rank() == 0:
        publish(root / name, dataclasses.asdict(manifest))
    dist.barrier(group)
    dist.destroy_process_group(group)
    return Checkpoint(root / name, manifest)


def training_state(
    model: DistributedModelParallel, dense_optimizer: torch.optim.Optimizer
) -> State:
    """Everything that training goes on from, as tensors by name."""
    return {
        "model": model.state_dict(),
        "sparse_optimizer": model.fused_optimizer.state_dict(),
        DENSE_OPTIMIZER: adam_state(model, dense_optimizer),
    }


def load_training_state(
    path: Place, model: DistributedModelParallel, dense_optimizer: torch.optim.Optimizer
) -> list[Conversion]:
    """Load a checkpoint into a sharded model and its optimisers, whatever ranks it was written by.

    ``path`` is the folder of its tensors. Weights are the same to the bit under any sharding. So
    are row-wise Adagrad's moments under the same column split; under another they are converted
    (``training.checkpoint.adagrad_reshard``).

    Returns:
        The tables whose moments were converted.

    Raises:
        CheckpointError: A tensor is missing, has another shape, or has no place in the model.
    """
    state = training_state(model, dense_optimizer)
    saved = TensorsReader(path).read_metadata().state_dict_metadata
    _refuse_leftovers(state, saved, path)
    conversions = load_tables(state, path)
    dense = {
        part: {name: value for name, value in state[part].items() if not table_of(name)}
        for part in ("model", DENSE_OPTIMIZER)
    }
    load_tensors(dense, path)
    set_training_state(model, dense_optimizer, state)
    return conversions


def set_training_state(
    model: DistributedModelParallel,
    dense_optimizer: torch.optim.Optimizer,
    state: State,
) -> None:
    """Put what ``training_state`` returned, with other values, into a model and its optimisers."""
    model.load_state_dict(state["model"])
    model.fused_optimizer.load_state_dict(state["sparse_optimizer"])
    set_adam_state(model, dense_optimizer, state[DENSE_OPTIMIZER])


def load_tables(
    state: State, path: Place, rows: Mapping[str, int] | None = None
) -> list[Conversion]:
    """Fill the embedding tables of a training state, and their optimiser's state, on every rank.

    Args:
        state: What ``training_state`` returned.
        path: The folder of the checkpoint's tensors.
        rows: First rows to fill of each table, as many as the checkpoint has; a table that is not
            there stays as it is. None: all tables, whole.

    Returns:
        The tables whose moments were converted.
    """
    saved = TensorsReader(path).read_metadata().state_dict_metadata
    tables = {
        part: {
            name: value if rows is None else first_rows_of(value, rows[table])
            for name, value in state[part].items()
            if (table := table_of(name)) and (rows is None or table in rows)
        }
        for part in ("model", DENSE_OPTIMIZER)
    }
    moments = state["sparse_optimizer"]["state"]
    moments = {name: moments[name] for name in moments if name in tables["model"]}
    splits = {name: _splits(name, state["model"], saved) for name in moments}
    whole = {
        name: value
        for name, value in moments.items()
        if splits[name].saved == splits[name].wanted
        and tables["model"][name] is state["model"][name]
    }
    parts = {**tables, "sparse_optimizer": {"state": whole} if whole else {}}
    load_tensors({part: tensors for part, tensors in parts.items() if tensors}, path)
    for name in moments.keys() - whole.keys():
        num_rows = state["model"][name].size(0)
        for key, sharded in moments[name].items():
            _convert_into(sharded, f"{_MOMENTS}.{name}.{key}", splits[name], num_rows, saved, path)
    return [split for split in splits.values() if split.saved != split.wanted]


def first_rows_of(value: Any, rows: int) -> Any:
    """A tensor's first rows, plain or sharded, in the same memory; itself where that is all."""
    if not value.dim() or value.size(0) == rows:
        return value
    if not isinstance(value, ShardedTensor):
        return value[:rows]
    metadata = copy.deepcopy(value.metadata())
    metadata.size = torch.Size((rows, *value.size()[1:]))
    for shard in metadata.shards_metadata:
        shard.shard_sizes[0] = max(0, min(shard.shard_sizes[0], rows - shard.shard_offsets[0]))
    metadata.shards_metadata = [s for s in metadata.shards_metadata if s.shard_sizes[0]]
    kept = {tuple(shard.shard_offsets): shard for shard in metadata.shards_metadata}
    local = [
        Shard(shard.tensor[: target.shard_sizes[0]], target)
        for shard in value.local_shards()
        if (target := kept.get(tuple(shard.metadata.shard_offsets)))
    ]
    return ShardedTensor._init_from_local_shards_and_global_metadata(
        local, metadata, process_group=value._process_group
    )


def _refuse_leftovers(state: State, saved: Mapping[str, Any], path: Place) -> None:
    """CheckpointError when the checkpoint has tensors for which the model has no place."""
    wanted = {f"{part}.{name}" for part in ("model", DENSE_OPTIMIZER) for name in state[part]}
    parts = ("model.", f"{DENSE_OPTIMIZER}.")
    left = sorted(name for name in saved if name.startswith(parts) and name not in wanted)
    if left:
        raise CheckpointError(f"checkpoint {path}: {left} have no place in the model")


def _splits(name: str, tables: State, saved: Mapping[str, Any]) -> Conversion:
    table = saved.get(f"model.{name}")
    if not isinstance(table, TensorStorageMetadata):
        raise CheckpointError(f"checkpoint: no tensor model.{name}")
    before = column_split((chunk.offsets, chunk.sizes) for chunk in table.chunks)
    shards = tables[name].metadata().shards_metadata
    after = column_split((shard.shard_offsets, shard.shard_sizes) for shard in shards)
    return Conversion(table_of(name), before, after)


def _convert_into(
    sharded: Any,
    name: str,
    split: Conversion,
    num_rows: int,
    saved: Mapping[str, Any],
    path: Place,
) -> None:
    """Fill this rank's shards; a table's moments are a small part of its weights."""
    whole = {name: torch.empty(saved[name].size)}
    # Each rank for itself: not all of them hold a part of every table.
    load_tensors(whole, path, no_dist=True)
    converted = convert(whole[name].flatten(), split.saved, split.wanted)
    by_shard = converted.view(len(split.wanted), -1)
    for shard in sharded.local_shards():
        # The column shards lie one behind the other.
        column_shard, row = divmod(shard.metadata.shard_offsets[0], num_rows)
        values = by_shard[column_shard, row : row + len(shard.tensor)]
        shard.tensor[: len(values)].copy_(values.view(-1, *shard.tensor.shape[1:]))


def load_tensors(tensors: State, path: Place, *, no_dist: bool = False) -> None:
    """Fill tensors, plain or sharded, from a checkpoint; CheckpointError where one does not fit."""
    try:
        load_distributed(tensors, storage_reader=TensorsReader(path), no_dist=no_dist)
    except BaseException as error:
        # CheckpointException derives from BaseException.
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise CheckpointError(f"checkpoint {path}: does not fit the model: {error}") from error


def load_whole(path: Place, model: nn.Module) -> None:
    """Load weights from a checkpoint's folder of tensors into an unsharded model, in one process.

    Raises:
        CheckpointError: A tensor is missing or has another shape.
    """
    state = {"model": model.state_dict()}
    load_tensors(state, path, no_dist=True)
    model.load_state_dict(state["model"])


def adam_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's moments by parameter name; zeros for a parameter that has not taken a step."""
    state: dict[str, Tensor] = {}
    for name, parameter in _optimised(model, optimizer):
        held = optimizer.state.get(parameter, {})
        state[f"{name}.step"] = held.get("step", torch.zeros((), device=parameter.device))
        for moment in ("exp_avg", "exp_avg_sq"):
            state[f"{name}.{moment}"] = held.get(moment, torch.zeros_like(parameter.data))
    return state


def set_adam_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Tensor]
) -> None:
    """Put moments by parameter name into an Adam optimiser."""
    for name, parameter in _optimised(model, optimizer):
        if state[f"{name}.step"] > 0:
            optimizer.state[parameter] = {
                key: state[f"{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")
            }


def _optimised(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> list[tuple[str, nn.Parameter]]:
    owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return [
        (name.replace("module.", ""), parameter)
        for name, parameter in model.named_parameters()
        if id(parameter) in owned
    ]
