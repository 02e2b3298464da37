"""Counts of parameters and FLOPs, against the paper's totals and PyTorch's own counter."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from features.schema import Kind
from training.config.model import (
    DCNv2Config,
    DLRMConfig,
    EmbeddingGroup,
    LayerConfig,
    ModelConfig,
    WukongConfig,
)
from training.model.flops import cost_of, num_parameters
from training.model.inputs import Inputs, PretrainedInput, SparseInput
from training.model.wukong import Wukong

CRITEO = Inputs(
    sparse=tuple(SparseInput(f"C{n}", 10, f"C{n}") for n in range(26)), dense=(Kind.COUNT,) * 13
)


@pytest.mark.parametrize(
    ("interaction", "parameters", "mflop"),
    [
        (DLRMConfig(over_arch=(512, 512)), 680_321, 4.63),
        (DCNv2Config(num_cross=2, mlp=(2048,) * 4), 43_737_217, 262.33),
    ],
)
def test_the_papers_totals_on_criteo_shapes(interaction, parameters, mflop):
    """arXiv 2403.02545, table 3: 26 embeddings of 128 and one of 13 numbers through 512-256."""
    model = ModelConfig(embedding_dim=128, interaction=interaction, bottom_mlp=(512, 256))
    cost = cost_of(CRITEO, model)
    assert cost.dense_parameters == parameters
    assert cost.training_flops / 1e6 == pytest.approx(mflop, abs=0.005)
    assert cost.embedding_parameters == 26 * 10 * 128


layers = st.builds(
    LayerConfig,
    num_fm=st.integers(1, 4),
    num_linear=st.integers(1, 4),
    rank=st.integers(0, 5),
    mlp=st.lists(st.integers(1, 9), max_size=2).map(tuple),
    attention=st.sampled_from([(), (3,), (2, 6)]),
)


def wukong_cost(num_in: int, dim: int, config: WukongConfig) -> tuple[int, int]:
    """Parameters and MACs of a Wukong stack and head, from its sizes alone, nothing built."""
    parameters = macs = 0
    for layer in config.layers:
        more_parameters, more_macs = _layer_cost(num_in, dim, layer)
        parameters, macs = parameters + more_parameters, macs + more_macs
        num_in = layer.num_fm + layer.num_linear
    head = (num_in * dim, *config.head, 1)
    return parameters + _mlp_parameters(head), macs + _mlp_macs(head)


def _layer_cost(num_in: int, dim: int, layer: LayerConfig) -> tuple[int, int]:
    num_out = layer.num_fm + layer.num_linear
    columns = layer.rank or num_in
    block = (num_in * columns, *layer.mlp, layer.num_fm * dim)
    parameters = 2 * num_in * columns + _mlp_parameters(block) + num_in * layer.num_linear + 2 * dim
    macs = num_in * columns * dim + _mlp_macs(block) + num_in * layer.num_linear * dim
    if num_in != num_out:
        parameters, macs = parameters + num_in * num_out, macs + num_in * num_out * dim
    if not layer.rank:
        return parameters, macs
    # Xᵀ Y; the plain machine has no Y.
    macs += num_in * columns * dim
    if not layer.attention:
        return parameters + num_in * columns, macs
    compressed, *hidden = layer.attention
    attention = (compressed * dim, *hidden, num_in * columns)
    parameters += num_in * compressed + _mlp_parameters(attention)
    return parameters, macs + num_in * compressed * dim + _mlp_macs(attention)


def _mlp_macs(widths: Sequence[int]) -> int:
    return sum(math.prod(pair) for pair in itertools.pairwise(widths))


def _mlp_parameters(widths: Sequence[int]) -> int:
    return _mlp_macs(widths) + sum(widths[1:])


@settings(deadline=None, max_examples=30)
@given(
    num_in=st.integers(2, 9),
    dim=st.sampled_from([4, 8]),
    stack=st.lists(layers, min_size=1, max_size=3).map(tuple),
    head=st.sampled_from([(), (5,), (7, 3)]),
)
def test_the_formula_counts_what_pytorch_counts(num_in, dim, stack, head):
    config = WukongConfig(layers=stack, head=head)
    model = Wukong(num_in, dim, config)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, num_in, dim))
    parameters, macs = wukong_cost(num_in, dim, config)
    used = num_parameters(model)
    assert (parameters, 2 * macs) == (used, counter.get_total_flops())


def test_significant_grouped_and_pretrained_inputs_become_the_tokens_that_were_asked_for():
    inputs = Inputs(
        sparse=tuple(SparseInput(name, 20, name) for name in ("user", "item", "hour", "city")),
        dense=(Kind.COUNT, Kind.RATE),
        pretrained=(PretrainedInput("item", 20, 6),),
    )
    config = ModelConfig(
        embedding_dim=8,
        interaction=WukongConfig(
            layers=(LayerConfig(num_fm=2, num_linear=2, rank=2, mlp=(4,)),), head=()
        ),
        bottom_mlp=(4,),
        num_dense_tokens=2,
        significant=(("item", 3),),
        groups=(EmbeddingGroup(features=("hour", "city"), dim=3, num_tokens=2, mlp=(5,)),),
    )
    from training.model.ranker import InteractionArch, Ranker

    arch = InteractionArch(inputs, config)
    # user 1, item 3, the group 2, the pretrained vectors 1, the numbers 2
    assert arch.tokens.num_tokens == 9
    tokens = arch.tokens(torch.zeros(5, 2), torch.zeros(5, 8 + 24 + 3 + 3), [torch.zeros(5, 6)])
    assert tokens.shape == (5, 9, 8)
    dims = {
        t.name: t.embedding_dim for t in Ranker(inputs, config).embeddings.embedding_bag_configs()
    }
    assert dims == {"user": 8, "item": 24, "hour": 3, "city": 3}


def test_a_configuration_that_names_an_unknown_feature_is_refused():
    from training.model.ranker import Ranker

    config = ModelConfig(
        embedding_dim=8,
        interaction=DLRMConfig(over_arch=(4,)),
        bottom_mlp=(),
        significant=(("colour", 2),),
    )
    with pytest.raises(ValueError, match=r"features \['colour'\]: not read; the features are"):
        Ranker(CRITEO, config)
