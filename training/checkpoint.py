"""The tensors of a checkpoint: sharded files, written whole or not at all, loaded by name."""

import dataclasses
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed
from torchrec.distributed.model_parallel import DistributedModelParallel

from training.checkpoints import MANIFEST, CheckpointManifest, file_hashes
from training.moments import Conversion, column_split, convert

_DENSE_OPTIMIZER = "dense_optimizer"
_MOMENTS = "sparse_optimizer.state"


class CheckpointError(ValueError):
    """A checkpoint that does not fit what is to be loaded into it."""


def save(root: Path, tensors: dict[str, Any], manifest: CheckpointManifest, name: str) -> Path:
    """Write all ranks' tensors and the manifest beside, then put them in place at once."""
    target = root / name
    staging_names = [f".writing-{uuid.uuid4().hex[:12]}"]
    dist.broadcast_object_list(staging_names, src=0)
    staging = root / staging_names[0]
    staging.mkdir(parents=True, exist_ok=True)
    save_distributed(tensors, storage_writer=FileSystemWriter(str(staging)))
    if dist.get_rank() == 0:
        whole = dataclasses.replace(manifest, files=file_hashes(staging))
        (staging / MANIFEST).write_text(json.dumps(dataclasses.asdict(whole), indent=1))
        _replace_folder(staging, target)
    dist.barrier()
    return target


def training_state(
    model: DistributedModelParallel, dense_optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Everything that training goes on from, as tensors by name."""
    return {
        "model": model.state_dict(),
        "sparse_optimizer": model.fused_optimizer.state_dict(),
        _DENSE_OPTIMIZER: adam_state(model, dense_optimizer),
    }


def load_training_state(
    path: Path, model: DistributedModelParallel, dense_optimizer: torch.optim.Optimizer
) -> list[Conversion]:
    """Load a checkpoint into a sharded model and its optimisers, whatever ranks it was written by.

    Weights are the same to the bit under any sharding. So are row-wise Adagrad's moments under the
    same column split; under another they are converted (``training.moments``).

    Returns:
        The tables whose moments were converted.

    Raises:
        CheckpointError: A tensor is missing or has another shape.
    """
    state = training_state(model, dense_optimizer)
    saved = FileSystemReader(str(path)).read_metadata().state_dict_metadata
    moments = state["sparse_optimizer"]["state"]
    conversions = _conversions(state["model"], moments, saved)
    kept = {name: value for name, value in moments.items() if name not in conversions}
    _load(state | {"sparse_optimizer": {"state": kept}}, path)
    for name, conversion in conversions.items():
        for key, sharded in moments[name].items():
            _convert_into(sharded, f"{_MOMENTS}.{name}.{key}", conversion, saved, path)
    model.load_state_dict(state["model"])
    model.fused_optimizer.load_state_dict(state["sparse_optimizer"])
    set_adam_state(model, dense_optimizer, state[_DENSE_OPTIMIZER])
    return list(conversions.values())


def _conversions(
    tables: dict[str, Any], moments: dict[str, Any], saved: dict[str, Any]
) -> dict[str, Conversion]:
    found = {}
    for name in moments:
        table = saved.get(f"model.{name}")
        if not isinstance(table, TensorStorageMetadata):
            continue
        before = column_split((chunk.offsets, chunk.sizes) for chunk in table.chunks)
        shards = tables[name].metadata().shards_metadata
        after = column_split((shard.shard_offsets, shard.shard_sizes) for shard in shards)
        if before != after:
            found[name] = Conversion(name.split(".")[-2], before, after)
    return found


def _convert_into(
    sharded: Any, name: str, conversion: Conversion, saved: dict[str, Any], path: Path
) -> None:
    """Fill this rank's shards; a table's moments are a small part of its weights."""
    whole = {name: torch.empty(saved[name].size)}
    _load(whole, path)
    converted = convert(whole[name], conversion.saved, conversion.wanted)
    for shard in sharded.local_shards():
        start = shard.metadata.shard_offsets[0]
        shard.tensor.copy_(converted[start : start + len(shard.tensor)])


def _load(tensors: dict[str, Any], path: Path) -> None:
    try:
        load_distributed(tensors, storage_reader=FileSystemReader(str(path)))
    except BaseException as error:
        # CheckpointException derives from BaseException.
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise CheckpointError(f"checkpoint {path}: does not fit the model: {error}") from error


def load_whole(path: Path, model: nn.Module) -> None:
    """Load a checkpoint's weights into an unsharded model, in one process.

    Raises:
        CheckpointError: A tensor is missing or has another shape.
    """
    state = {"model": model.state_dict()}
    try:
        load_distributed(state, storage_reader=FileSystemReader(str(path)), no_dist=True)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise CheckpointError(f"checkpoint {path}: does not fit the model: {error}") from error
    model.load_state_dict(state["model"])


def adam_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's moments by parameter name; zeros for a parameter that has not taken a step."""
    state: dict[str, Tensor] = {}
    for name, parameter in _optimised(model, optimizer):
        held = optimizer.state.get(parameter, {})
        state[f"{name}.step"] = held.get("step", torch.zeros(()))
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


def _replace_folder(staging: Path, target: Path) -> None:
    """Put a finished folder in place; the one before is moved aside first, then removed.

    A reader goes by the manifest's folder name, and between the two renames finds no checkpoint of
    that day rather than a mixed one.
    """
    aside = None
    if target.exists():
        aside = target.with_name(f".replaced-{uuid.uuid4().hex[:12]}")
        target.rename(aside)
    staging.rename(target)
    if aside is not None:
        shutil.rmtree(aside)
