"""A champion's checkpoint grows, is tried against the un-grown one, and daily training goes on.

The chain of commands that the DAG ``upscale_dense`` runs, on a small generated log.
"""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import io
import json
from pathlib import Path

import pytest
import torch
from support.training.commands import run_command
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict_from_keys

from training.__main__ import main
from training.artifact.manifest import read_manifest
from training.checkpoint.catalog import Checkpoint, Checkpoints
from training.checkpoint.tensors import load_whole
from training.config.recipe import recipe_from_dict
from training.model.inputs import inputs_of
from training.model.ranker import Ranker
from training.registry.aliases import CHAMPION
from training.registry.mlflow_registry import Registry

pytestmark = pytest.mark.distributed
TARGET = "wukong-tiny-x2"


@dataclasses.dataclass(frozen=True)
class Family:
    parent: Checkpoint
    grown: Checkpoint
    upscaled: dict
    trained: dict[str, dict]
    decision: dict
    members: list[dict]
    page: str
    curves: dict[str, list[dict]]
    next_day: dict
    refused: dict
    parent_before: dict[str, bytes]


@pytest.fixture(scope="module")
def family(built, tmp_path_factory) -> Family:
    root = tmp_path_factory.mktemp("family")
    names = ("checkpoints", "tracking", "reports", "artifacts")
    where = {name: f"--{name}={root / name}" for name in names}
    shared = ["--dataset=synthetic", f"--lake={built.lake}", where["checkpoints"]]
    train = ["train", *shared, where["tracking"], where["reports"]]
    export = ["export", *shared, where["artifacts"], where["tracking"]]
    first, last = built.days[-3], built.days[-1]
    run_command(*train, f"--date={first}", "--recipe=wukong-tiny")
    registry = Registry(root / "tracking", "synthetic")
    registry.set_alias(CHAMPION, inside(*export, f"--date={first}")["version"])
    checkpoints = Checkpoints(root / "checkpoints", built.schema)
    parent = checkpoints.named(str(first))
    before = files(parent.path)
    grow = ["upscale", *shared, where["tracking"], "--to=2", f"--date={last}"]
    upscaled = run_command(*grow, "--from=champion", "--budget-days=2")
    grown = checkpoints.named(upscaled["name"])
    trial = [*train, f"--date={last}", "--epochs=3", "--ranks=1"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        both = {
            "grown": pool.submit(
                run_command, *trial, "--trial=grown", f"--from={upscaled['name']}"
            ),
            "control": pool.submit(
                run_command, *trial, "--trial=control", f"--from={upscaled['parent']}"
            ),
        }
        same_size = ("upscale", *shared, f"--from={first}", "--to=wukong-tiny")
        refused = pool.submit(run_command, *same_size, code=1).result()
    trained = {role: running.result() for role, running in both.items()}
    versions = {
        role: inside(*export, f"--checkpoint={summary['name']}")["version"]
        for role, summary in trained.items()
    }
    decision = inside(
        *("evaluate", *shared, where["artifacts"], where["tracking"], where["reports"]),
        *(f"--date={last}", f"--candidate={versions['grown']}", f"--control={versions['control']}"),
    )
    registry.set_alias(CHAMPION, versions["grown"])
    members = inside("family", "--dataset=synthetic", *where.values())["members"]
    next_day = run_command(*train, f"--date={last + datetime.timedelta(days=1)}")
    page = (root / "reports" / decision["report"]).read_text()
    curves = {
        role: json.loads((root / "reports" / one["report"]).with_name("curve.json").read_text())
        for role, one in {**trained, "next day": next_day}.items()
    }
    return Family(
        *(parent, grown, upscaled, trained, decision, members, page, curves),
        *(next_day, refused, before),
    )


def inside(*arguments: object) -> dict:
    """The summary of a command that this process can run itself, without the imports of a new
    one."""
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        assert main([str(argument) for argument in arguments]) == 0
    return json.loads(stdout.getvalue().splitlines()[-1])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def ranker_of(checkpoint: Checkpoint, schema) -> Ranker:
    model = recipe_from_dict(checkpoint.manifest.recipe).model
    ranker = Ranker(inputs_of(schema), model)
    load_whole(checkpoint.tensors, ranker)
    return ranker


def test_the_parent_was_trained(family):
    assert family.parent.manifest.metrics["ne"] < 0.98


def test_the_grown_checkpoint_answers_as_its_parent(family, built):
    from training.data.dataset import ExampleTable
    from training.upscale.upscale import golden_batch

    batch = golden_batch(built.schema, ExampleTable(built.lake, built.schema))
    parent, grown = (
        ranker_of(checkpoint, built.schema) for checkpoint in (family.parent, family.grown)
    )
    with torch.no_grad():
        difference = (parent(batch.dense, batch.sparse) - grown(batch.dense, batch.sparse)).abs()
    assert difference.max() < 1e-5
    assert family.upscaled["max_logit_difference"] < 1e-5
    assert set(family.upscaled["logit_differences"]) == {"evaluating", "training"}
    assert sum(p.numel() for p in grown.parameters()) > sum(p.numel() for p in parent.parameters())


def test_tables_and_their_optimiser_are_the_parents_to_the_bit(family):
    parent, grown = (
        _load_state_dict_from_keys(checkpoint_id=checkpoint.tensors)
        for checkpoint in (family.parent, family.grown)
    )
    assert_equal(parent["sparse_optimizer"], grown["sparse_optimizer"])
    tables = [name for name in parent["model"] if name.startswith("embeddings")]
    assert tables
    for name in tables:
        assert torch.equal(parent["model"][name], grown["model"][name])


def assert_equal(left, right):
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    else:
        assert left == right


def test_moments_come_along(family):
    keys = FileSystemReader(str(family.grown.tensors)).read_metadata().state_dict_metadata
    name = "interaction.net.layers.0.linear_compression"
    state = _load_state_dict_from_keys(checkpoint_id=family.grown.tensors)["dense_optimizer"]
    assert any(name in key for key in keys)
    assert state[f"{name}.step"] > 0
    assert state[f"{name}.exp_avg_sq"].any()
    assert (state[f"{name}.exp_avg"] == 0).any(), "those of new weights are zero"
    new = "interaction.net.layers.2.linear_compression"
    assert state[f"{new}.step"] == 0


def test_a_tensor_without_new_entries_keeps_its_moments_and_its_count_of_steps(family):
    parent, grown = (
        _load_state_dict_from_keys(checkpoint_id=checkpoint.tensors)["dense_optimizer"]
        for checkpoint in (family.parent, family.grown)
    )
    name = "interaction.tokens.bottom.0.weight"
    assert parent[f"{name}.step"] > 1
    for part in ("step", "exp_avg", "exp_avg_sq"):
        assert torch.equal(parent[f"{name}.{part}"], grown[f"{name}.{part}"]), part
    # The last of the head's biases is one number, which the larger head has as well.
    assert grown["interaction.net.head.2.bias.step"] == parent[f"{name}.step"]
    assert grown["interaction.net.head.0.bias.step"] == 1, "it has new entries"


def test_both_sides_of_a_trial_train_at_the_full_rates_and_later_days_at_a_warm_runs(family):
    rates = {role: [one["learning_rate"] for one in c] for role, c in family.curves.items()}
    for role in ("grown", "control"):
        # The curve's first point is the twentieth step, on the way from all of the rate to a tenth.
        fallen = 0.9 * 19 / family.trained[role]["steps"]
        assert rates[role][0] == pytest.approx(5e-3 * (1 - fallen)), role
    assert rates["next day"][0] == pytest.approx(0.1 * 5e-3)


def test_the_manifest_describes_the_growth_and_the_parent_stays_usable(family):
    growth = family.grown.manifest.growth
    assert growth["parent"] == family.parent.name
    assert "stack: l 2 to 3" in growth["changes"]
    assert family.grown.manifest.family[-1] == family.parent.name
    assert files(family.parent.path) == family.parent_before


def test_both_sides_of_a_trial_go_on_from_one_parent_on_the_same_days(family, built):
    grown, control = family.trained["grown"], family.trained["control"]
    assert (grown["parent"], control["parent"]) == (family.grown.name, family.parent.name)
    assert (grown["recipe"], control["recipe"]) == (TARGET, "wukong-tiny")
    for key in ("days", "examples", "steps", "trained_through"):
        assert grown[key] == control[key], key
    # What the parent had not seen, up to the holdout.
    assert (grown["days"], grown["trained_through"]) == (2, str(built.days[-2]))


def test_the_gate_asks_the_grown_one_to_be_better_than_both(family, built):
    decision = family.decision
    changes = decision["log_loss_change"], decision["control"]["log_loss_change"]
    is_better = all(change["high"] < 0 for change in changes)
    assert decision["holdout"] == [str(built.days[-1])] * 2
    assert decision["champion"] != decision["control"]["version"]
    asked = [c["says"] for c in decision["checks"] if c["what"].startswith("log loss against")]
    assert (asked == ["promote"] * 2) == is_better
    says = {check["says"] for check in decision["checks"]}
    assert decision["decision"] == next(v for v in ("refuse", "hold", "promote") if v in says)
    # Grown from the champion and trained a little: nearly its scores, and what a canary is held to.
    assert decision["agreement"]["score_ratio"] == pytest.approx(1, abs=0.5)
    assert 0 < decision["agreement"]["rank_correlation"] < 1
    assert "/gate-upscale/" in decision["report"]
    assert all(
        f"against {baseline}" in family.page for baseline in ("the champion", "the un-grown")
    )


def test_a_control_of_another_parent_or_another_day_is_refused(family, built):
    from training.evaluation.evaluate import refuse_stranger

    root = family.parent.path.parents[2] / "artifacts" / "synthetic"
    candidate = read_manifest(root / family.decision["candidate"])
    control = read_manifest(root / family.decision["control"]["version"])
    refuse_stranger(candidate, control)
    for change, message in (
        ({"parents": []}, "went on from"),
        ({"parents": [*control.parents, "2025-01-05"]}, "went on from .* grew from 2025-01-04"),
        ({"trained_through": str(built.days[0])}, "trained through 2025-01-01"),
    ):
        with pytest.raises(ValueError, match=message):
            refuse_stranger(candidate, dataclasses.replace(control, **change))


def test_the_family_shows_who_grew_from_whom_at_what_cost(family):
    members = {member["name"]: member for member in family.members}
    small, large = members[family.parent.name], members[family.grown.name]
    trained = {role: members[summary["name"]] for role, summary in family.trained.items()}
    assert (small["parent"], large["parent"]) == (None, small["name"])
    assert trained["grown"]["parent"] == large["name"]
    assert trained["control"]["parent"] == small["name"]
    assert "stack: l 2 to 3" in large["grown"]
    assert large["dense_parameters"] == family.upscaled["dense_parameters"]
    assert large["dense_training_flops"] > small["dense_training_flops"]
    log_loss = family.decision["metrics"]["log_loss"]
    # The gate scores what is served, with its tables in int8.
    assert trained["grown"]["log_loss"] == pytest.approx(log_loss, rel=1e-3)
    assert trained["grown"]["aliases"] == ["champion", "challenger"]
    assert trained["grown"]["decision"] == family.decision["decision"]
    assert family.page.count("<circle") == len(members)


def test_the_day_after_a_promotion_goes_on_from_what_grew(family):
    assert family.next_day["recipe"] == TARGET
    assert family.next_day["parent"] == family.trained["grown"]["name"]
    assert family.next_day["days"] == 1


def test_a_target_that_is_not_larger_is_refused(family):
    assert "nothing grows" in family.refused["error"]
