"""A ranker takes over what it can from a checkpoint of a smaller schema, and reports all of it."""

import dataclasses

import numpy as np
import pytest
import torch
from support.training.schema_before import AnyExamples, schema_before

from training.checkpoint.catalog import CheckpointManifest, Checkpoints
from training.checkpoint.schema_migration import Adoption, AdoptionError, InputsRecord
from training.checkpoint.tensors import CheckpointError, load_training_state, save, training_state
from training.config.recipe import DenseParallelism, TableOptimizer
from training.data.batches import batches
from training.distributed.process_group import process_group
from training.model.inputs import inputs_of
from training.model.ranker import token_names
from training.recipes import recipe_of
from training.trainer.first_rows import first_rows
from training.trainer.migrate_state import load_adopted_state
from training.trainer.session import Session
from training.trainer.trainer import Run, train

TABLE = "embeddings.embedding_bags.{}.weight"


@pytest.fixture
def group():
    with process_group():
        yield


def recipe(kind="wukong-tiny", optimizer=TableOptimizer.ROWWISE_ADAGRAD):
    found = recipe_of(kind)
    model = dataclasses.replace(found.model, dropout=0.0)
    training = dataclasses.replace(found.training, table_optimizer=optimizer)
    return dataclasses.replace(found, model=model, training=training)


def session_of(built, schema, made, *, steps=0):
    """A ranker of a schema, after so many steps."""
    table = AnyExamples(built.lake, schema)
    session = Session(inputs_of(schema), made, first_rows(table, built.days[:1]))
    stream = batches(table, built.days, batch_size=64, shuffle_rows=999, seed=0)
    for batch, _ in zip(stream, range(steps), strict=False):
        session.step(batch, learning_rate_share=1.0)
    return session


def saved(session, folder):
    values = dict.fromkeys([field.name for field in dataclasses.fields(CheckpointManifest)], "")
    state = training_state(session.model, session.optimizer)
    return save(folder, state, CheckpointManifest(**values), "0").tensors


def scores(built, schema, session):
    return session.predict(AnyExamples(built.lake, schema).read(built.days[-1:]).inputs)


def state_of(session):
    return training_state(session.model, session.optimizer)


def moments_of(state, table):
    return next(iter(state["sparse_optimizer"]["state"][TABLE.format(table)].values()))


def adopted(built, before, today, made, folder):
    parent = session_of(built, before, made, steps=20)
    child = session_of(built, today, made)
    adoption = Adoption(InputsRecord.of(before), InputsRecord.of(today))
    outcomes = load_adopted_state(saved(parent, folder), child, adoption, made.model)
    return parent, child, outcomes


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("optimizer", list(TableOptimizer))
def test_rows_that_were_there_keep_weights_and_moments(built, tmp_path, optimizer):
    today, before = built.schema, schema_before()
    parent, child, outcomes = adopted(built, before, today, recipe(optimizer=optimizer), tmp_path)
    assert outcomes["table item_id"].startswith("kept")
    assert outcomes["table device"] == "resized: 3 rows to 4"
    assert outcomes["table item_category"] == "resized: 7 rows to 13"
    assert outcomes["table user_id"].startswith("new: hash_size 50000 to 100000")
    assert outcomes["table day_of_week"] == "new: 8 rows"
    assert outcomes["interaction"].startswith("resized: 1 new tokens of")
    assert len([what for what in outcomes if what.startswith("dense input")]) == 2
    was, now = state_of(parent), state_of(child)
    for table, rows in (("item_id", 100_001), ("device", 3), ("item_category", 7)):
        name = TABLE.format(table)
        old, new = (whole(state["model"][name]) for state in (was, now))
        assert torch.equal(old, new[:rows])
        assert float(new[rows:].abs().sum()) > 0 or rows == len(new)
        if optimizer is TableOptimizer.ROWWISE_ADAGRAD:
            old, new = (whole(moments_of(state, table)).flatten() for state in (was, now))
        else:
            key = f"{name}.exp_avg_sq"
            old, new = (state["dense_optimizer"][key] for state in (was, now))
        assert float(old.abs().sum()) > 0
        assert torch.equal(old, new[:rows])
        assert not new[rows:].any()


def whole(value):
    return value.local_shards()[0].tensor if hasattr(value, "local_shards") else value


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("parallelism", [DenseParallelism.DDP, DenseParallelism.FSDP2])
def test_with_longer_tables_alone_the_scores_are_the_same(built, tmp_path, parallelism):
    today = built.schema
    device = dataclasses.replace(today.context[0], vocabulary=today.context[0].vocabulary[:2])
    before = dataclasses.replace(today, context=(device,))
    made = recipe()
    sharding = dataclasses.replace(made.sharding, dense_parallelism=parallelism)
    made = dataclasses.replace(made, sharding=sharding)
    parent, child, _ = adopted(built, before, today, made, tmp_path)
    device = AnyExamples(built.lake, today).read(built.days[-1:]).inputs.ids["device"].values
    is_known = device < today.context[0].num_rows - 1
    was, now = scores(built, before, parent), scores(built, today, child)
    assert 0 < is_known.sum() < len(is_known)
    assert np.array_equal(was[is_known], now[is_known])
    assert (was != now)[~is_known].all()


@pytest.mark.usefixtures("group")
def test_with_new_inputs_the_parents_knowledge_shows(built, tmp_path):
    """Its scores are far nearer to the parent's than a fresh ranker's are."""
    today, before = built.schema, schema_before()
    parent, child, _ = adopted(built, before, today, recipe(), tmp_path)
    fresh = session_of(built, today, recipe())
    was = scores(built, before, parent)
    now, new = (scores(built, today, session) for session in (child, fresh))
    assert np.abs(now - was).mean() < 0.3 * np.abs(new - was).mean()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("kind", ["dlrm-small", "wukong-tiny-x2"])
def test_any_ranker_learns_on_with_all_that_is_new(built, tmp_path, kind):
    today, before = built.schema, schema_before()
    _, child, outcomes = adopted(built, before, today, recipe(kind), tmp_path)
    assert "interaction" in outcomes
    held = {name: value.clone() for name, value in child.local_tensors()}
    stream = batches(
        AnyExamples(built.lake, today), built.days, batch_size=64, shuffle_rows=999, seed=0
    )
    for batch, _ in zip(stream, range(3), strict=False):
        loss, _ = child.step(batch, learning_rate_share=1.0)
        assert torch.isfinite(loss)
    still = [
        name
        for name, value in child.local_tensors()
        if torch.equal(value, held[name]) and "normaliser" not in name
    ]
    assert still == []


@pytest.mark.usefixtures("group")
def test_weights_of_the_linear_term_follow_their_inputs(built, tmp_path):
    """Those of new embeddings and numbers begin at zero."""
    made = recipe()
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, has_first_order=True))
    parent, child, _ = adopted(built, schema_before(), built.schema, made, tmp_path)
    was, now = (one.model.module.interaction.first_order for one in (parent, child))
    names, dim = [token_names(one.inputs, made.model) for one in (parent, child)], 8
    old, new = (
        dict(zip(of, term.embeddings.weight.view(-1, dim), strict=False))
        for of, term in zip(names, (was, now), strict=True)
    )
    assert {*old} < {*new}
    assert all(torch.equal(new[name], old.get(name, torch.zeros(dim))) for name in new)
    assert all(old[name].any() for name in old)
    kept = was.dense.weight.shape[1]
    assert now.dense.weight.count_nonzero() == was.dense.weight.count_nonzero() > 0
    assert now.dense.weight.shape[1] > kept


@pytest.mark.usefixtures("group")
def test_a_checkpoint_with_more_than_the_model_has_is_refused(built, tmp_path):
    """A partial load is never silent, in either direction."""
    before, made = schema_before(), recipe()
    larger = saved(session_of(built, built.schema, made), tmp_path)
    smaller = session_of(built, before, made)
    with pytest.raises(CheckpointError, match=r"day_of_week.*have no place in the model"):
        load_training_state(larger, smaller.model, smaller.optimizer)


def test_what_lost_an_input_cannot_be_taken_over(built):
    today, before = InputsRecord.of(built.schema), InputsRecord.of(schema_before())
    with pytest.raises(AdoptionError, match=r"sparse inputs \['day_of_week'\]"):
        Adoption(today, before)


def test_a_vocabulary_that_changed_within_makes_its_table_new(built):
    today = built.schema
    other = dataclasses.replace(
        today.context[0], vocabulary=tuple(reversed(today.context[0].vocabulary))
    )
    changed = dataclasses.replace(today, context=(other,))
    found = Adoption(InputsRecord.of(today), InputsRecord.of(changed))
    assert found.to_dict()["table device"].startswith("new: its vocabulary changed")


@pytest.mark.usefixtures("group")
def test_a_daily_run_goes_on_when_the_schema_has_grown(built, tmp_path):
    first, second = built.days[0], built.days[2]
    (tmp_path / "mlflow_run").write_text("none")
    found = []
    for schema, day in ((schema_before(), first), (built.schema, second)):
        run = Run(
            schema=schema,
            recipe=recipe(),
            run_day=day,
            through=day,
            holdout=[],
            mlflow_run=tmp_path / "mlflow_run",
        )
        table = AnyExamples(built.lake, schema)
        found.append(train(run, table, Checkpoints(tmp_path / "checkpoints", schema)))
    assert found[1].parent == first.isoformat()
    assert found[1].days == built.days[1:3]
    manifest = (
        Checkpoints(tmp_path / "checkpoints", built.schema).named(second.isoformat()).manifest
    )
    assert manifest.adopted["table device"] == "resized: 3 rows to 4"
    assert manifest.adopted["table item_id"].startswith("kept")
