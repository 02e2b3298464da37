"""A sharded ranker in training on this rank: one step, predictions, copies of its weights."""

import contextlib
import dataclasses
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchrec.distributed.embedding_lookup import GroupedPooledEmbeddingsLookup
from torchrec.distributed.embedding_types import EmbeddingComputeKernel

from features.encoding.encode import Ids, ModelInputs
from training.config.recipe import DenseParallelism, Recipe, TableOptimizer, TrainingConfig
from training.data.batch import Batch, make_batch
from training.distributed.dense_plan import has_dense_tables
from training.distributed.device import device_of_rank, is_bf16, this_machine
from training.distributed.divergence import clipped_norm, spoil_gradient
from training.distributed.embedding_plan import Plan, fill_tables, plan, shard
from training.distributed.planner_inputs import table_type
from training.model.inputs import Inputs
from training.model.layers import is_decayed
from training.model.ranker import Ranker
from training.trainer.first_rows import FirstRows

logger = logging.getLogger(__name__)

_CACHED = EmbeddingComputeKernel.FUSED_UVM_CACHING.value
_TABLES = "embedding_bags."
"""In the name of each table, and of no weight of the dense part."""
_EARLY = 10
"""Steps over which the decay of an average rises, so that the first weights do not linger."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A batch that has entered the weights."""

    batch: Batch
    """On this rank's device."""
    loss: Tensor
    """Of this rank, detached."""
    logits: Tensor


class WeightAverage:
    """An exponential moving average of tensors that training changes (Polyak averaging).

    Args:
        tensors: The weights; those of floating point are averaged.
        decay: Share of the average that a step keeps, once warm.
    """

    def __init__(self, tensors: Iterable[Tensor], decay: float) -> None:
        self._tensors = [one.detach() for one in tensors if one.is_floating_point()]
        self._average = [tensor.clone() for tensor in self._tensors]
        self._decay = decay
        self._steps = 0

    def update(self) -> None:
        """Take one step's weights in."""
        self._steps += 1
        decay = min(self._decay, self._steps / (_EARLY + self._steps))
        get_ema_multi_avg_fn(decay)(self._average, self._tensors, self._steps)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the model has the averaged weights, after it those of training again."""
        kept = [tensor.clone() for tensor in self._tensors]
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(kept)

    @torch.no_grad()
    def _copy(self, values: Sequence[Tensor]) -> None:
        for tensor, value in zip(self._tensors, values, strict=True):
            tensor.copy_(value)


class Session:
    """A sharded ranker, its optimisers, and the steps that it has taken."""

    def __init__(self, inputs: Inputs, recipe: Recipe, first_rows: FirstRows | None) -> None:
        """A fresh ranker on this rank, fitted to its first rows; None: a checkpoint brings all."""
        self.inputs, self.recipe = inputs, recipe
        self.config = recipe.training
        self.device = device_of_rank()
        torch.manual_seed(self.config.seed)
        # Tables are made nowhere: TorchRec makes each shard on the rank that owns it, and no host
        # need hold a table whole. Tables that every rank holds whole are no shards.
        device = torch.device("cpu" if has_dense_tables(recipe) else "meta")
        ranker = Ranker(inputs, recipe.model, device=device, table_type=table_type(recipe))
        if first_rows is not None:
            ranker.interaction.fit(first_rows.dense, first_rows.positive_rate)
        self.plan = plan(ranker, recipe, machine=this_machine(self.device))
        _refuse_cached_decay(self.config, self.plan)
        self.is_bf16 = is_bf16(self.config.precision, self.device.type)
        self.is_compiled = _can_compile(self.config, self.plan) and compile_interaction(ranker)
        self.model = shard(ranker, recipe, self.plan, device=self.device)
        fill_tables(self.model, recipe)
        self.optimizer = _dense_optimizer(self.model, self.config)
        self.optimizer.register_step_pre_hook(lambda *_: self._clip())
        self.gradient_norm = torch.zeros(())
        """Of the last step, of all that the dense optimiser trains, before it was clipped."""
        self._tables = [value for key, value in self.local_tensors() if _TABLES in key]
        self.steps = 0

    def step(self, batch: Batch, *, learning_rate_share: float) -> tuple[Tensor, Tensor]:
        """One optimiser step of tables and dense part; the detached loss and logits of this rank.

        The batch is on its device; the learning rates are a share of the configured ones.
        """
        self.begin_step(learning_rate_share)
        self.optimizer.zero_grad(set_to_none=True)
        loss, logits = self.forward(batch)
        loss.backward()
        self.optimizer.step()
        self.end_step(learning_rate_share)
        return loss.detach(), logits.detach()

    def begin_step(self, learning_rate_share: float) -> None:
        """Set the learning rates of the step that comes."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_learning_rate"] * learning_rate_share
        for group in self.model.fused_optimizer.param_groups:
            group["lr"] = self.config.sparse_learning_rate * learning_rate_share
        # The kernels read the new rate on this call; they step inside the backward pass.
        self.model.fused_optimizer.zero_grad()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch on this rank's device, both float32, to go backward from."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.is_bf16):
            logits = self.model(batch.dense, batch.sparse)
        logits, *auxiliary = logits.float().view(-1, len(batch.label))
        loss, stack = batch.loss(logits), self.recipe.model.interaction
        for one in auxiliary:
            further = batch.loss(one) * getattr(stack, "auxiliary_loss_weight", 0.0)
            # A gradient and no value: the loss that is shown is that of the logit that is served.
            loss = loss + (further - further.detach())
        return spoil_gradient(loss), logits

    def end_step(self, learning_rate_share: float) -> None:
        """What follows the optimisers' step."""
        if self.config.table_decay:
            kept = 1 - self.config.table_decay * learning_rate_share
            torch._foreach_mul_(self._tables, kept)
        self.steps += 1

    def _clip(self) -> None:
        parameters = (p for group in self.optimizer.param_groups for p in group["params"])
        self.gradient_norm = clipped_norm(parameters, self.config.clip_norm)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of this rank's weights and buffers."""
        return {key: value.clone() for key, value in self.local_tensors()}

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Put a copy back; the optimisers' state stays as it is."""
        with torch.no_grad():
            for key, value in self.local_tensors():
                value.copy_(snapshot[key])
        if self.device.type == "cuda":
            for module in self.model.modules():
                if isinstance(module, GroupedPooledEmbeddingsLookup):
                    # Rows that the device cached from the host's memory are the old ones.
                    module.purge()

    def set_pretrained(self, vectors: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Fill the tables that do not train; ValueError names one whose shape is another."""
        tables = self.model.module.pretrained
        for name, values in vectors.items():
            table = tables.get_buffer(name)
            if tuple(table.shape) != values.shape:
                raise ValueError(
                    f"pretrained {name}: {values.shape}; the table is {tuple(table.shape)}"
                )
            table.copy_(torch.from_numpy(values))

    def average(self, decay: float) -> WeightAverage:
        """The moving average of this rank's weights from now on."""
        return WeightAverage((value for _, value in self.local_tensors()), decay)

    def local_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """This rank's weights and buffers, by name, as training changes them."""
        for key, value in self.model.state_dict().items():
            if hasattr(value, "local_shards"):
                for index, shard in enumerate(value.local_shards()):
                    yield f"{key}.{index}", shard.tensor
            elif isinstance(value, DTensor):
                yield key, value.to_local()
            else:
                yield key, value

    def predict(self, inputs: ModelInputs) -> npt.NDArray[np.float32]:
        """Probabilities of all rows in order, on every rank; each rank scores its part."""
        rank, world_size, size = dist.get_rank(), dist.get_world_size(), self.config.batch_size
        start, stop = (len(inputs) * r // world_size for r in (rank, rank + 1))
        parts = (inputs.take(np.arange(n, min(n + size, stop))) for n in range(start, stop, size))
        found: list[Any] = [None] * world_size
        dist.all_gather_object(found, self.score(parts))
        return np.concatenate(found)

    def score(self, parts: Iterable[ModelInputs]) -> npt.NDArray[np.float32]:
        """Probabilities of this rank's rows, in order, scored part by part; all ranks call this.

        In float32, as a server does, whatever the precision of training.
        """
        remaining, scores = iter(parts), [np.empty(0, dtype=np.float32)]
        self.model.eval()
        with torch.no_grad():
            while longest := self._longest(part := next(remaining, None)):
                # All ranks exchange embeddings of as many rows, also one without rows left.
                rows = self._null_row() if part is None else part
                if len(rows) < longest:
                    rows = rows.take(np.resize(np.arange(len(rows)), longest))
                nothing = np.zeros(longest, dtype=np.float32)
                batch = make_batch(rows, nothing, nothing).to(self.device)
                found = torch.sigmoid(self.model(batch.dense, batch.sparse)).cpu().numpy()
                scores.append(found[: len(part) if part else 0])
        self.model.train()
        return np.concatenate(scores)

    def _longest(self, part: ModelInputs | None) -> int:
        """Most rows of a part of any rank; 0 when no rank has one."""
        num_rows = torch.tensor(len(part) if part else 0, device=self.device)
        dist.all_reduce(num_rows, op=dist.ReduceOp.MAX)
        return int(num_rows)

    def _null_row(self) -> ModelInputs:
        nothing = Ids(np.empty(0, dtype=np.int64), np.zeros(1, dtype=np.int32))
        dense = np.zeros((1, len(self.inputs.dense)), dtype=np.float32)
        return ModelInputs(dense, {sparse.name: nothing for sparse in self.inputs.sparse})


def _refuse_cached_decay(config: TrainingConfig, chosen: Plan) -> None:
    """ValueError when decay of all rows would miss those that a device caches."""
    cached = [o.name for o in chosen.options if o.compute_kernel == _CACHED]
    if config.table_decay and cached:
        raise ValueError(
            f"table_decay: {config.table_decay}; 0 where tables are cached from the host's memory, "
            f"as {sorted(cached)} are"
        )


def _can_compile(config: TrainingConfig, chosen: Plan) -> bool:
    """Whether the dense part is to be compiled; with FSDP2 it is not, which is logged."""
    is_whole = chosen.dense.parallelism is DenseParallelism.DDP
    if config.is_compiled and not is_whole:
        logger.warning("torch.compile: not with FSDP2, whose hooks gather weights; runs eager")
    return config.is_compiled and is_whole


def compile_interaction(ranker: Ranker) -> bool:
    """Compile everything but the tables, in place; False where no C++ compiler is found.

    The CPU's kernels are built on the first step.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        logger.warning("torch.compile: %s not found (CXX names another); runs eager", compiler)
        return False
    ranker.interaction.compile()
    return True


def _dense_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam over everything whose optimiser does not run inside the backward pass.

    The decay of the dense part is decoupled (AdamW), the tables' is a term of the loss.
    """
    dense = [(name, p) for name, p in model.named_parameters() if "interaction" in name]
    groups = [
        {
            "params": [p for name, p in dense if is_decayed(name, p) == decays],
            "full_learning_rate": config.dense_learning_rate,
            "weight_decay": config.dense_decay if decays else 0.0,
        }
        for decays in (True, False)
    ]
    if config.table_optimizer is TableOptimizer.ADAM:
        groups.append(
            {
                "params": [p for name, p in model.named_parameters() if _TABLES in name],
                "full_learning_rate": config.sparse_learning_rate,
                "weight_decay": config.embedding_decay,
                "decoupled_weight_decay": False,
            }
        )
    return torch.optim.AdamW(groups, eps=1e-8, fused=True)
