"""What a run notes of its parts: gradients and updates as autograd has them, and dead units."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from features.encoding.encode import Ids, ModelInputs
from features.pages import site
from features.places import place
from features.schema import Kind
from training.checkpoint.catalog import CheckpointManifest
from training.checkpoint.tensors import load_whole, save, training_state
from training.config.model import MODELS
from training.config.recipe import DenseParallelism, Pipeline, ShardingConfig
from training.data.batch import make_batch
from training.distributed.process_group import process_group
from training.evaluation.reports import training_page
from training.model.grown_config import GrowthError
from training.model.inputs import Inputs, SparseInput
from training.model.ranker import InteractionArch, Ranker
from training.recipes import recipe_of
from training.trainer import health
from training.trainer.first_rows import FirstRows
from training.trainer.health import HealthWatch, PartHealth, part_of
from training.trainer.loop import take_steps
from training.trainer.session import Session

ROWS, WEIGHT = 48, 0.4
INPUTS = Inputs(
    sparse=tuple(SparseInput(name, 20, name) for name in ("user", "item", "hour")),
    dense=(Kind.RATE,),
)


@pytest.fixture(scope="module", autouse=True)
def group():
    with process_group():
        yield


def session_of(*, parallelism=DenseParallelism.DDP, interval=2, weight=WEIGHT, **training):
    recipe = recipe_of("wukong-tiny-l4")
    changes = {"residual_interval": interval, "auxiliary_loss_weight": weight}
    stack = dataclasses.replace(recipe.model.interaction, **changes)
    return Session(
        INPUTS,
        dataclasses.replace(
            recipe,
            model=dataclasses.replace(recipe.model, interaction=stack),
            training=dataclasses.replace(recipe.training, batch_size=ROWS, **training),
            sharding=ShardingConfig(dense_parallelism=parallelism),
        ),
        FirstRows(torch.zeros(1, 1)),
    )


def batch_of(seed):
    random = np.random.default_rng(seed)
    ids = {
        one.name: Ids(random.integers(1, 20, ROWS), np.ones(ROWS, dtype=np.int32))
        for one in INPUTS.sparse
    }
    dense = random.random((ROWS, 1), dtype=np.float32)
    label = random.integers(0, 2, ROWS)
    return make_batch(ModelInputs(dense, ids), label, np.full(ROWS, 1 / ROWS))


def dense_part(session) -> dict[str, torch.Tensor]:
    values = session.model.module.interaction.state_dict().items()
    whole = {name: getattr(value, "full_tensor", lambda v=value: v)() for name, value in values}
    return {name: value.detach().clone() for name, value in whole.items()}


def watched(session, steps=1, new_layers=()):
    """What is found in some steps from the first batch on, and the loss of the last one."""
    watch, losses = HealthWatch(session, new_layers), []

    def after_step(done, step):
        losses.append(float(step.loss))
        watch.after_step(done)

    watch.start(steps)
    take_steps(session, map(batch_of, range(steps)), after_step=after_step)
    return watch.found, losses[-1]


def by_hand(session) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The log loss of the last logit on the first batch, and the gradients of what is trained."""
    ranker = Ranker(INPUTS, session.recipe.model)
    ranker.interaction.load_state_dict(dense_part(session))
    tables = dict(session.local_tensors())
    for name, table in ranker.embeddings.embedding_bags.items():
        table.weight.data.copy_(tables[f"embeddings.embedding_bags.{name}.weight.0"])
    batch = batch_of(0)
    outputs = ranker(batch.dense, batch.sparse).view(-1, ROWS)
    signs = 2 * batch.label - 1
    losses = -torch.nn.functional.logsigmoid(signs * outputs).mean(dim=1)
    (losses[0] + sum(WEIGHT * one for one in losses[1:])).backward()
    gradients = {name: p.grad for name, p in ranker.interaction.named_parameters()}
    return losses[0].detach(), gradients


def norm(tensors) -> float:
    return float(sum(tensor.square().sum() for tensor in tensors) ** 0.5)


@pytest.mark.parametrize(
    ("parallelism", "pipeline", "weight"),
    [
        (DenseParallelism.DDP, Pipeline.OFF, 0.0),
        (DenseParallelism.DDP, Pipeline.OFF, WEIGHT),
        (DenseParallelism.DDP, Pipeline.ON, WEIGHT),
        (DenseParallelism.FSDP2, Pipeline.OFF, WEIGHT),
    ],
)
def test_norms_and_the_loss_are_those_of_autograd_by_hand(parallelism, pipeline, weight):
    session = session_of(parallelism=parallelism, weight=weight, pipeline=pipeline)
    before = dense_part(session)
    expected_loss, gradients = by_hand(session)
    found, loss = watched(session)
    after = dense_part(session)
    assert loss == pytest.approx(float(expected_loss), rel=1e-5), "without the auxiliary one's"
    names = ["tokens", *(f"layer {n}" for n in range(4)), "head", *["auxiliary"] * bool(weight)]
    assert sorted(one.part for one in found) == sorted(names)
    for one in found:
        mine = [name for name in gradients if part_of(f"interaction.{name}") == one.part]
        assert one.gradient == pytest.approx(norm(gradients[name] for name in mine), rel=1e-3)
        moved = norm(after[name] - before[name] for name in mine)
        assert one.update == pytest.approx(moved / norm(after[name] for name in mine), rel=1e-3)
        is_seen = "layer" in one.part and parallelism is DenseParallelism.DDP
        assert (one.dead_units is not None) == is_seen


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_of_every_ranker_has_a_part(model):
    arch = InteractionArch(INPUTS, recipe_of(f"{model}-small").model)
    parts = {part_of(f"module.interaction.{name}") for name, _ in arch.named_parameters()}
    assert "tokens" in parts
    assert len(parts) > 1
    assert part_of("module.embeddings.embedding_bags.item.weight") == "tables"


def test_a_clipped_gradient_is_what_the_optimiser_got():
    found, _ = watched(session_of(clip_norm=1e-3))
    assert norm(torch.tensor([one.gradient for one in found])) == pytest.approx(1e-3, rel=1e-3)


def test_it_looks_after_few_steps_and_keeps_nothing_on_the_others(monkeypatch):
    monkeypatch.setattr(health, "LOOKED_AT", (2, 4))
    session, copies = session_of(), []
    watch = HealthWatch(session)
    watch.start(6, done=1)

    def after_step(done, _):
        watch.after_step(done)
        copies.append(bool(watch._before))

    session.optimizer.register_step_post_hook(lambda *_: copies.append(bool(watch._before)))
    take_steps(session, map(batch_of, range(5)), after_step=after_step, done=1)
    assert [step for step, _ in itertools.groupby(one.step for one in watch.found)] == [2, 4, 6]
    during, left = copies[::2], copies[1::2]
    assert during == [True, False, True, False, True]
    assert not any(left)
    layers = session.model.module.interaction.net.layers
    assert not any(layer._forward_pre_hooks for layer in layers), "the run is over"


def test_a_checkpoint_with_an_auxiliary_head_loads_into_what_is_served_without_it(tmp_path):
    session, batch = session_of(), batch_of(0)
    watched(session)
    values = dict.fromkeys([one.name for one in dataclasses.fields(CheckpointManifest)], "")
    state = training_state(session.model, session.optimizer)
    saved = save(place(tmp_path), state, CheckpointManifest(**values), "2025-01-01")
    ranker = Ranker(INPUTS, session.recipe.model.served())
    load_whole(saved.tensors, ranker)
    assert not [name for name in ranker.state_dict() if "auxiliary" in name]
    with torch.no_grad():
        expected = session.model(batch.dense, batch.sparse)[0]
        torch.testing.assert_close(ranker(batch.dense, batch.sparse), expected)


def test_half_of_a_layer_that_grew_dead_ends_the_run_and_of_another_is_noted():
    session = session_of()
    with torch.no_grad():
        layers = session.model.module.interaction.net.layers
        layers[1].fmb.mlp[0].bias[:9] = 1e6
        layers[2].fmb.mlp[0].bias[:8] = -1e6
    found, _ = watched(session, new_layers=[1])
    shares = {one.part: one.dead_units for one in found}
    assert 0.5 <= shares["layer 2"] < 1
    assert shares["layer 1"] < 0.5
    assert [one.part for one in found if one.is_new] == ["layer 1"]
    with pytest.raises(GrowthError, match=r"layer 2: dead_units 0\.\d+ after 1 steps; must be b"):
        watched(session, new_layers=[2])


def test_the_page_has_a_row_for_each_part_with_earlier_figures_below():
    parts = [
        PartHealth("layer 0", 100, 0.25, 1e-3, dead_units=0.125, fmb_norm=3.0),
        PartHealth("layer 0", 500, 0.5, 2e-3, is_new=True, dead_units=0.25, fmb_norm=2.0),
        PartHealth("head", 500, 0.75, 3e-3),
    ]
    page = site.html(training_page("d", "n", [], {}, [dataclasses.asdict(one) for one in parts]))
    for text in ("layer 0, new", "0.25 after 100", "0.125 after 100", "after 500 steps", "0.003"):
        assert text in page
    assert "Gradients" not in site.html(training_page("d", "n", [], {}, []))
