"""Parameters and FLOPs of a ranker, counted by the Wukong paper's rule: 6 × MACs for training.

One forward pass and a backward pass of twice its work; biases, norms and activations are not
counted, nor are the lookups (arXiv 2403.02545, tables 3 and 5).
"""

import dataclasses

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from training.config.model import ModelConfig
from training.model.inputs import Inputs
from training.model.ranker import InteractionArch, embedding_tables

FLOPS_PER_MAC_TRAINING = 6


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one ranker costs."""

    dense_parameters: int
    embedding_parameters: int
    macs: int
    """Multiply-accumulates of one example's forward pass in training."""

    @property
    def training_flops(self) -> int:
        """FLOPs of one training example."""
        return FLOPS_PER_MAC_TRAINING * self.macs

    @property
    def parameters(self) -> int:
        """Dense and embedding parameters."""
        return self.dense_parameters + self.embedding_parameters


def cost_of(inputs: Inputs, config: ModelConfig) -> Cost:
    """The cost of any ranker, its MACs read off one forward pass of its dense part."""
    # Counting must not change the caller's random numbers.
    tables = embedding_tables(inputs, config)
    dims = {name: table.embedding_dim for table in tables for name in table.feature_names}
    pooled = torch.zeros(1, sum(dims[sparse.name] for sparse in inputs.sparse))
    pretrained = [torch.zeros(1, source.dim) for source in inputs.pretrained]
    with torch.random.fork_rng(devices=[]):
        arch = InteractionArch(inputs, config)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            arch(torch.zeros(1, len(inputs.dense)), pooled, pretrained)
    return Cost(
        dense_parameters=num_parameters(arch),
        embedding_parameters=sum(t.num_embeddings * t.embedding_dim for t in tables),
        macs=counter.get_total_flops() // 2,
    )


def num_parameters(module: nn.Module) -> int:
    """Trainable numbers of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
