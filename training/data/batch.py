"""A batch as the model reads it, made from the encoder's arrays."""

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx._symbolic_trace import PHWithMeta
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from features.encoding.encode import ModelInputs

_ON_DEVICE = ("dense", "sparse", "label", "weight")
"""Fields of a batch that a device computes with."""


@dataclasses.dataclass
class Batch(Pipelineable):
    """Inputs of B examples, and what they are to be compared with."""

    dense: Tensor
    """(B, number of dense inputs) float32; NaN where a number is missing."""
    sparse: KeyedJaggedTensor
    """Embedding rows by feature, in the schema's order."""
    label: Tensor
    """(B,) float32."""
    weight: Tensor
    """(B,) float32; 0 for a row that only keeps a rank in step."""
    example_id: Tensor | None = None
    """(B,) int64, on the CPU, where the examples have one."""

    def to(self, device: torch.device, non_blocking: bool = True) -> "Batch":
        """The batch on a device."""
        parts = {name: getattr(self, name) for name in _ON_DEVICE}
        moved = {name: part.to(device, non_blocking=non_blocking) for name, part in parts.items()}
        return dataclasses.replace(self, **moved)

    def loss(self, logits: Tensor) -> Tensor:
        """This rank's part of the log loss of (B,) logits.

        Weights make the mean over ranks of these sums the mean over the global batch's examples.
        """
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, self.label, reduction="none"
        )
        return (losses * self.weight).sum()

    def pin_memory(self) -> "Batch":
        """The batch in memory that a CUDA device copies from on its own."""
        pinned = {name: getattr(self, name).pin_memory() for name in _ON_DEVICE}
        return dataclasses.replace(self, **pinned)

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the device's memory until a stream is done with it."""
        for name in _ON_DEVICE:
            getattr(self, name).record_stream(stream)

    def to_proxy_tuple(self, _: object) -> dict[str, PHWithMeta]:
        """Which field is which argument of ``Ranker.forward``, for TorchRec's pipeline."""
        return {name: PHWithMeta(ph_key=name) for name in ("dense", "sparse")}


def jagged(inputs: ModelInputs) -> KeyedJaggedTensor:
    """The sparse inputs as one KeyedJaggedTensor, feature after feature."""
    values = np.concatenate([ids.values for ids in inputs.ids.values()])
    lengths = np.concatenate([ids.lengths for ids in inputs.ids.values()])
    return KeyedJaggedTensor.from_lengths_sync(
        keys=list(inputs.ids), values=torch.from_numpy(values), lengths=torch.from_numpy(lengths)
    )


def make_batch(
    inputs: ModelInputs,
    label: np.ndarray,
    weight: np.ndarray,
    *,
    example_id: np.ndarray | None = None,
) -> Batch:
    """A batch of encoded rows with their labels and weights."""
    return Batch(
        torch.from_numpy(inputs.dense),
        jagged(inputs),
        torch.from_numpy(label.astype(np.float32)),
        torch.from_numpy(weight.astype(np.float32)),
        None if example_id is None else torch.from_numpy(example_id),
    )
