"""A loaded artifact as arrays: what another process needs to score with the same memory."""

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.artifact.aoti_runtime import NativeDense
from training.artifact.golden import Golden
from training.artifact.manifest import Manifest
from training.artifact.quantized_tables import ServedTables, TablePrecision
from training.artifact.scorer import Dense, Scorer, ServedDense
from training.config.model import ModelConfig, model_from_dict
from training.model.inputs import Inputs
from training.model.ranker import InteractionArch, embedding_tables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """All of an artifact that scoring takes; nothing in it is written to."""

    manifest: Manifest
    dense: Mapping[str, npt.NDArray[np.generic]]
    """Weights of the dense part by name."""
    tables: npt.NDArray[np.uint8]
    """(bytes,) all embedding tables, as ``ServedTables`` reads them."""
    golden: Golden
    library: Path | None = None
    """Verified native code of the dense part; None: it runs eager."""
    why_eager: str | None = None
    """Why; None where it is native code."""

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        *,
        inputs: Inputs,
        dense: Mapping[str, Tensor],
        rows: Mapping[str, Tensor],
        golden: Golden,
    ) -> "Image":
        """The image of an artifact's weights, eager.

        Args:
            manifest: The artifact's.
            inputs: What the model reads.
            dense: Weights of the dense part.
            rows: Of each embedding table its rows in the manifest's precision.
            golden: The golden request.

        Raises:
            ValueError: A table is missing, or has another shape than the manifest's model.
        """
        configs = embedding_tables(inputs, model_of(manifest))
        tables = ServedTables.of(configs, rows, TablePrecision(manifest.tables))
        weights = {name: value.numpy() for name, value in dense.items()}
        return cls(manifest=manifest, dense=weights, tables=tables.memory.numpy(), golden=golden)

    def module(self, inputs: Inputs) -> ServedDense:
        """The eager dense part; RuntimeError where the weights are not those of the model."""
        interaction = InteractionArch(inputs, model_of(self.manifest))
        interaction.load_state_dict({name: _tensor(v) for name, v in self.dense.items()})
        return ServedDense(interaction).eval().requires_grad_(False)

    def scorer(self, inputs: Inputs, *, num_threads: int) -> Scorer:
        """A scorer that reads the tables where they are.

        Args:
            inputs: What the model reads.
            num_threads: Threads inside one call.

        Raises:
            NativeError: The native code does not load.
        """
        configs = embedding_tables(inputs, model_of(self.manifest))
        precision = TablePrecision(self.manifest.tables)
        tables = ServedTables(configs, _tensor(self.tables), precision)
        module = self.module(inputs)
        dense: Dense = module if self.library is None else NativeDense(self.library, module)
        features = [sparse.name for sparse in inputs.sparse]
        return Scorer(features, tables, dense, num_threads=num_threads)


def model_of(manifest: Manifest) -> ModelConfig:
    """The configuration of an artifact's model; ValueError or KeyError where it is none."""
    return model_from_dict(manifest.config["model"])


def _tensor(values: npt.NDArray[np.generic]) -> Tensor:
    """The same memory as a tensor."""
    with warnings.catch_warnings():
        # Torch has no tensors that are read only; these are, and nothing writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(values)
