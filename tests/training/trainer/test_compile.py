"""The dense part compiles and exports as one graph, for every ranker."""

import dataclasses

import pytest
import torch

from features.schema import Kind
from training.config.model import MODELS
from training.model.inputs import Inputs, SparseInput
from training.model.ranker import InteractionArch
from training.recipes import recipe_of

INPUTS = Inputs(
    sparse=tuple(SparseInput(f"field_{n}", 9, f"field_{n}") for n in range(4)),
    dense=(Kind.COUNT, Kind.RATE),
)


def arch_of(model):
    torch.manual_seed(0)
    arch = InteractionArch(INPUTS, recipe_of(f"{model}-small").model).eval()
    return arch, (torch.rand(5, 2), torch.randn(5, 4 * 32), [])


@pytest.mark.parametrize("model", MODELS)
def test_the_dense_part_is_one_graph(model):
    arch, arguments = arch_of(model)
    # The tracer alone: no graph break may occur, whichever backend builds the kernels.
    compiled = torch.compile(arch, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), arch(*arguments))


@pytest.mark.parametrize("is_training", [True, False])
def test_residuals_and_an_auxiliary_logit_are_in_the_graph(is_training):
    torch._dynamo.reset()  # else all rankers that this process compiles share one limit
    model = recipe_of("wukong-tiny-l4").model
    options = {"residual_interval": 2, "auxiliary_loss_weight": 0.5}
    stack = dataclasses.replace(model.interaction, **options)
    arch = InteractionArch(INPUTS, dataclasses.replace(model, interaction=stack))
    arguments = (torch.rand(5, 2), torch.randn(5, 4 * 8), [])
    compiled = torch.compile(arch.train(is_training), backend="eager", fullgraph=True)
    assert compiled(*arguments).shape == ((2, 5) if is_training else (5,))
    torch.testing.assert_close(compiled(*arguments), arch(*arguments))


@pytest.mark.parametrize("model", MODELS)
def test_the_dense_part_exports_for_any_batch_size(model):
    arch, (dense, pooled, pretrained) = arch_of(model)
    batch = torch.export.Dim("batch", min=2, max=4096)
    program = torch.export.export(
        arch, (dense, pooled, pretrained), dynamic_shapes=({0: batch}, {0: batch}, [])
    )
    more = (torch.rand(11, 2), torch.randn(11, 4 * 32), [])
    torch.testing.assert_close(program.module()(*more), arch(*more))


def test_without_a_compiler_it_runs_eager_and_says_so(monkeypatch, caplog):
    from training.model.ranker import Ranker
    from training.trainer.session import compile_interaction

    monkeypatch.setenv("CXX", "no-such-compiler")
    ranker = Ranker(INPUTS, recipe_of("wukong-tiny").model)
    assert compile_interaction(ranker) is False
    assert "no-such-compiler not found" in caplog.text


def test_what_is_compiled_is_as_it_is_written():
    """The tests of the model wrap its functions, and take the wrappers off again."""
    assert not hasattr(InteractionArch.forward, "__wrapped__")
    assert not hasattr(type(arch_of("wukong")[0].net).forward, "__wrapped__")
