"""bf16, the pipeline and FSDP2 against the plain run, on two ranks of the CPU with gloo."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from support.training.commands import torchrun

from features.encoding.encode import Ids, ModelInputs
from features.schema import Kind
from training.checkpoint.catalog import Checkpoint
from training.checkpoint.tensors import adam_state, load_training_state
from training.config.model import MODELS
from training.config.recipe import DenseParallelism, ShardingConfig
from training.data.batch import make_batch
from training.data.dataset import ExampleTable
from training.distributed.dense_plan import FullyShardedWrapper, activation_bytes
from training.distributed.process_group import process_group
from training.model.inputs import Inputs, SparseInput, inputs_of
from training.model.ranker import Ranker
from training.model.wukong import GroupedLayerNorm, WukongLayer
from training.recipes import recipe_of
from training.trainer.first_rows import FirstRows
from training.trainer.session import Session

SCRIPT = Path(__file__).parents[2] / "support" / "training" / "parallel.py"


@pytest.fixture(scope="module")
def folder(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    torchrun(SCRIPT, built.lake, folder)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return json.loads((folder / "found.json").read_text())


@pytest.mark.distributed
def test_the_pipeline_changes_no_bit(found):
    ahead = found["pipeline"]
    assert ahead["steps"] > 20
    assert [ahead[what] for what in ("loss", "dense", "tables", "scores")] == [0.0] * 4
    assert ahead["ids"], "the log has the batches that entered the weights, not those read ahead"


@pytest.mark.distributed
def test_tables_of_half_the_bytes_train_nearly_as_well(found):
    half = found["half tables"]
    assert half["table_dtypes"] == ["torch.float16"]
    assert 0 < half["tables"] < 0.05
    assert half["loss"] < 1e-3


@pytest.mark.distributed
def test_embeddings_that_are_exchanged_in_fp16_train_nearly_as_well(found):
    half = found["fp16 exchange"]
    assert half["table_dtypes"] == ["torch.float32"]
    assert 0 < half["loss"] < 1e-3


@pytest.mark.distributed
def test_fsdp2_trains_as_ddp_does(found):
    pieces = found["fsdp2"]
    assert pieces["pieces"] > 20
    assert pieces["loss"] < 1e-5
    assert pieces["scores"] < 1e-5
    assert max(pieces["dense"], pieces["tables"]) < 1e-5


@pytest.mark.distributed
def test_adams_tables_may_be_in_pieces_too(found):
    assert found["adam all"]["pieces"] > found["fsdp2"]["pieces"]
    assert found["adam all"]["loss"] < 1e-5
    assert found["adam all"]["ids"]


@pytest.mark.distributed
@pytest.mark.parametrize("way", ["bf16", "all"])
def test_bf16_learns_near_float32_and_keeps_float32(found, way):
    low = found[way]
    assert 0 < low["loss"] < 0.02, "0 would be float32"
    assert 0 < low["mean_scores"] < 0.03
    assert low["ne"] < 0.99
    assert low["dtypes"] == ["torch.float32"]
    assert low["ids"]


@pytest.mark.distributed
def test_a_run_with_everything_on_resumes_with_the_same_bits(found):
    assert found["resumed"] == {"dense": 0.0, "tables": 0.0, "ids": True}


@pytest.mark.distributed
def test_ranks_that_read_parts_of_a_holdout_find_the_metrics_of_the_whole(found):
    assert found["holdout"]["parts"] == found["holdout"]["whole"]


@pytest.mark.distributed
def test_a_checkpoint_of_pieces_loads_whole_on_as_many_ranks_and_on_one(found, folder, built):
    assert found["moved"] == 0.0
    table = ExampleTable(built.lake, built.schema)
    with process_group():
        recipe = recipe_of("wukong-tiny")
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, dropout=0.3))
        session = Session(inputs_of(table.schema), recipe, None)
        tensors = Checkpoint.at(folder / "checkpoint").tensors
        load_training_state(tensors, session.model, session.optimizer)
        moments = adam_state(session.model, session.optimizer)
        state = session.model.state_dict() | {f"adam.{key}": v for key, v in moments.items()}
    expected = torch.load(folder / "dense.pt")
    assert len(expected) > 100
    assert all(torch.equal(state[key], value) for key, value in expected.items())


INPUTS = Inputs(
    sparse=tuple(SparseInput(f"field_{n}", 9, f"field_{n}") for n in range(4)),
    dense=(Kind.COUNT, Kind.RATE),
)


@pytest.fixture
def group():
    with process_group():
        yield


def logits_and_gradients(ranker, *, is_bf16=False):
    torch.manual_seed(1)
    arguments = (torch.rand(6, 2) * 1e4, torch.randn(6, 4 * 32), [])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_bf16):
        logits = ranker.interaction(*arguments)
    logits.float().sum().backward()
    return logits.detach(), {name: p.grad for name, p in ranker.interaction.named_parameters()}


def ranker_of(model):
    torch.manual_seed(0)
    return Ranker(INPUTS, recipe_of(f"{model}-small").model).train(mode=False)


@pytest.mark.parametrize("model", MODELS)
def test_every_ranker_runs_in_pieces(model, group):
    expected, expected_gradients = logits_and_gradients(ranker_of(model))
    ranker = ranker_of(model)

    @dataclasses.dataclass
    class Wrapped:
        _dmp_wrapped_module: Ranker

    @dataclasses.dataclass
    class Environment:
        world_size: int = 1

    wrapper = FullyShardedWrapper(recipe_of(f"{model}-small"))
    wrapper.wrap(Wrapped(ranker), Environment(), torch.device("cpu"))
    logits, gradients = logits_and_gradients(ranker)
    torch.testing.assert_close(logits, expected)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient.full_tensor(), expected_gradients[name])


@pytest.mark.parametrize("model", MODELS)
def test_every_ranker_runs_under_bf16_autocast(model):
    expected, _ = logits_and_gradients(ranker_of(model))
    logits, gradients = logits_and_gradients(ranker_of(model), is_bf16=True)
    assert not torch.equal(logits.float(), expected)
    torch.testing.assert_close(logits.float(), expected, rtol=0.1, atol=0.1)
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}


def test_a_grown_layers_norm_is_float32_under_bf16_autocast():
    norm = GroupedLayerNorm(4, 3, groups=((2, 0, 2), (2, 2, 3)), eps=1e-5)
    rows = torch.randn(5, 12).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = norm(rows)
    assert torch.equal(found, norm(rows.float()))


@pytest.mark.parametrize("model", MODELS)
def test_activations_are_counted_as_autograd_keeps_them(model, monkeypatch):
    """What a real forward pass keeps grows with the batch by as much as was counted on meta."""
    monkeypatch.setattr(WukongLayer, "_is_fused", lambda *_: False)
    ranker = ranker_of(model)
    weights = {value.untyped_storage().data_ptr() for value in ranker.parameters()}

    def kept_bytes(batch):
        kept = {}

        def keep(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        pooled = torch.randn(batch, 4 * 32, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            ranker.interaction(torch.rand(batch, 2), pooled, [])
        return sum(value.nbytes() for place, value in kept.items() if place not in weights)

    grown = (kept_bytes(96) - kept_bytes(32)) / 64
    assert activation_bytes(ranker) == pytest.approx(grown, rel=0.1)


def test_a_compiled_recipe_with_fsdp2_runs_eager_and_says_so(group, caplog):
    recipe = recipe_of("wukong-tiny")
    recipe = dataclasses.replace(
        recipe,
        training=dataclasses.replace(recipe.training, is_compiled=True),
        sharding=ShardingConfig(dense_parallelism=DenseParallelism.FSDP2),
    )
    assert Session(INPUTS, recipe, None).is_compiled is False
    assert "runs eager" in caplog.text


def test_tables_that_are_made_where_they_are_sharded_train(group):
    """No host need hold a table whole."""
    session = Session(INPUTS, recipe_of("wukong-tiny"), FirstRows(torch.rand(9, 2)))
    before = {key: value for key, value in session.snapshot().items() if "embeddings" in key}
    assert 0.02 < float(torch.cat([v.flatten() for v in before.values()]).std()) < 0.08
    ids = {f"field_{n}": Ids.one_each(torch.arange(6).numpy()) for n in range(4)}
    label = torch.ones(6).numpy()
    batch = make_batch(ModelInputs(torch.rand(6, 2).numpy(), ids), label, label / 6)
    losses = [float(session.step(batch, learning_rate_share=1.0)[0]) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert all(not torch.equal(session.snapshot()[key], value) for key, value in before.items())
