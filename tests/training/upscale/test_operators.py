"""How a ranker grows: with a fresh head, by a probe of both ways, and whether what is new lives."""

import dataclasses
import math

import pytest
import torch

from features.places import place
from training.checkpoint.catalog import CheckpointManifest, Checkpoints
from training.checkpoint.tensors import load_training_state, save, training_state
from training.config.recipe import recipe_from_dict
from training.data.dataset import ExampleTable
from training.distributed.process_group import process_group
from training.model.grown_config import GrowthError, Operator
from training.model.inputs import inputs_of
from training.recipes import recipe_of
from training.requests import UpscaleRequest
from training.trainer import health as looked
from training.trainer.first_rows import first_rows
from training.trainer.health import DEAD_LIMIT, HealthWatch, PartHealth
from training.trainer.loop import fit
from training.trainer.session import Session
from training.upscale import probe
from training.upscale.probe import Tried, better, upscale_probed
from training.upscale.upscale import FRESH_HEAD_SHARE, golden_batch, upscale

FIELDS = [field.name for field in dataclasses.fields(CheckpointManifest)]


@pytest.fixture(scope="module")
def grown(built, tmp_path_factory):
    """A checkpoint that learnt one day, grown by both ways on trial, and the summary."""
    checkpoints = Checkpoints(place(tmp_path_factory.mktemp("operators")), built.schema)
    table = ExampleTable(built.lake, built.schema)
    recipe, days = recipe_of("wukong-tiny"), built.days
    with process_group(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "PROBE_STEPS", 12)
        session = Session(inputs_of(built.schema), recipe, first_rows(table, days[:1]))
        fit(session, table, days[:1], epochs=1, is_warm=False)
        values = dict.fromkeys(FIELDS, "") | {"family": [], "run_day": str(days[0])}
        values |= {"recipe": recipe.to_dict(), "trained_through": str(days[0])}
        state = training_state(session.model, session.optimizer)
        parent = save(checkpoints.root, state, CheckpointManifest(**values), str(days[0]))
        target = recipe_of("wukong-tiny-x2")
        asked = (built.schema, parent, target, table, checkpoints)
        probed = upscale_probed(*asked, days=days[1:3])
        after_probe = sorted(path.name for path in checkpoints.root.iterdir())
        summary = upscale(*asked[:4], checkpoints.root, operator=Operator.FRESH_HEAD)
        child = checkpoints.named(summary["name"])
        larger = Session(inputs_of(built.schema), recipe_from_dict(child.manifest.recipe), None)
        load_training_state(child.tensors, larger.model, larger.optimizer)
        yield {
            **{"summary": summary, "probed": probed, "after_probe": after_probe, "child": child},
            **{"session": larger, "before": session, "table": table, "schema": built.schema},
        }


def test_with_a_fresh_head_the_summary_and_the_manifest_say_that_it_is_not_exact(grown):
    summary, growth = grown["summary"], grown["child"].manifest.growth
    assert (summary["operator"], summary["is_exact"]) == ("fresh-head", False)
    assert summary["max_logit_difference"] > 1e-5
    assert growth["operator"] == "fresh-head"
    assert growth["new_layers"] == [2]
    assert any("fresh, at the base rate" in change for change in growth["changes"])
    assert grown["child"].manifest.recipe["model"]["interaction"]["layers"][1]["is_normalised"]


def test_a_fresh_heads_first_scores_are_near_the_base_rate(grown):
    batch = golden_batch(grown["schema"], grown["table"])
    session = grown["session"]
    with torch.no_grad():
        logits = session.model(batch.dense, batch.sparse)
    days = grown["table"].days(*(grown["child"].trained_through,) * 2)
    rate = grown["table"].positives(days) / grown["table"].num_rows(days)
    expected = math.log(rate / (1 - rate))
    assert float(logits.mean()) == pytest.approx(expected, abs=3 * FRESH_HEAD_SHARE)
    assert float(logits.std()) < 3 * FRESH_HEAD_SHARE


def test_a_fresh_head_keeps_tables_and_the_state_of_old_layers(grown):
    before, after = (
        training_state(one.model, one.optimizer) for one in (grown["before"], grown["session"])
    )
    adam = "dense_optimizer"
    name = "interaction.tokens.bottom.0.weight"
    for part in ("step", "exp_avg", "exp_avg_sq"):
        assert torch.equal(before[adam][f"{name}.{part}"], after[adam][f"{name}.{part}"])
    assert after[adam]["interaction.net.head.0.weight.step"] == 0
    assert not after[adam]["interaction.net.head.0.weight.exp_avg_sq"].any()
    tables = [key for key in before["model"] if key.startswith("embeddings")]
    for key in tables:
        mine, theirs = (one["model"][key].local_shards() for one in (before, after))
        assert all(torch.equal(a.tensor, b.tensor) for a, b in zip(mine, theirs, strict=True))


def test_a_probe_tries_both_ways_and_keeps_the_one_of_the_lower_loss(grown):
    tried = grown["probed"]["probe"]
    assert set(tried) == {"exact", "fresh-head"}
    losses = {name: one["log_loss"] for name, one in tried.items() if not one["failure"]}
    assert grown["probed"]["operator"] == min(losses, key=losses.get)
    for name in losses:
        assert 0 < losses[name] < 1
        assert tried[name]["steps"] == 12
        assert [one["part"] for one in tried[name]["new_layers"]] == ["layer 2"]
    assert len(grown["after_probe"]) == 2, "the parent and the grown one; nothing of the probe"


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        ({Operator.EXACT: Tried(0.5), Operator.FRESH_HEAD: Tried(0.4)}, Operator.FRESH_HEAD),
        ({Operator.EXACT: Tried(0.5), Operator.FRESH_HEAD: Tried(0.6)}, Operator.EXACT),
        ({Operator.EXACT: Tried(failure="dead"), Operator.FRESH_HEAD: Tried(0.9)}, "fresh-head"),
    ],
)
def test_an_operator_that_failed_is_not_taken(tried, expected):
    assert better(tried) == expected


def test_where_every_operator_failed_all_reasons_are_named():
    failed = {Operator.EXACT: Tried(failure="a"), Operator.FRESH_HEAD: Tried(failure="b")}
    with pytest.raises(GrowthError, match="none can be taken; exact: a; fresh-head: b"):
        better(failed)


def test_a_probe_without_a_day_is_refused():
    with pytest.raises(ValueError, match="operator: probe; needs --date"):
        UpscaleRequest(dataset="synthetic", source="champion", target="2", operator="probe")


def test_units_that_are_positive_for_no_row_are_dead_and_half_of_them_a_failure(grown, monkeypatch):
    monkeypatch.setattr(looked, "LOOKED_AT", (2, 4))
    session, table = grown["session"], grown["table"]
    kept = session.snapshot()
    layers = session.model.module.interaction.net.layers
    hidden = layers[2].fmb.mlp[0]
    day = table.days(grown["child"].trained_through, grown["child"].trained_through)
    try:
        with torch.no_grad():
            hidden.bias[:8] = -1e6
        health = HealthWatch(session, [2])
        fit(session, table, day, epochs=1, is_warm=True, health=health)
        new = [one for one in health.found if one.is_new]
        assert [one.step for one in new][:2] == [2, 4]
        assert all(8 / 32 <= one.dead_units < DEAD_LIMIT for one in new)
        assert all(one.fmb_norm > 0 for one in new)
        with torch.no_grad():
            hidden.bias[:16] = -1e6
        with pytest.raises(
            GrowthError, match=r"layer 2: dead_units 0\.\d+ after 2 steps; must be b"
        ):
            fit(session, table, day, epochs=1, is_warm=True, health=HealthWatch(session, [2]))
    finally:
        session.restore(kept)


def test_a_layer_with_fewer_dead_units_than_the_limit_passes():
    PartHealth("layer 2", 100, 0.1, 1e-3, is_new=True, dead_units=0.49, fmb_norm=1.0).check()
    PartHealth("layer 2", 100, 0.1, 1e-3, is_new=False, dead_units=0.9, fmb_norm=1.0).check()
